"""What one instance carries within limits, by its measured levels; and what requests see at the load it then has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from models.choosing.answer import Basis, Figure
from models.choosing.evidence import Curve
from models.choosing.levels import Z_90, Z_95, Level, before_break, column
from models.planning.capacity import LoadPoint, largest_concurrency
from models.planning.curves import Fit
from models.slo import Limit

SAME = 0.03
"""Loads this near, relatively, are the same level."""
SHOWN = ("ttft_from_schedule_ms_p50", "ttft_from_schedule_ms_p95", "tpot_ms_p50", "tpot_ms_p95",
         "e2e_from_schedule_ms_p95")
"""Latencies that an answer names beside those of the limits."""
CURVE_ERROR_UNKNOWN = 0.15
"""Half-width of a latency's interval, relative, between levels where its curve was not calibrated."""


@dataclass(frozen=True)
class Carried:
    """capacity: requests a second within the limits; users: at once at that load, None for an open loop's level.
    spread: standard deviation of the logarithm of the capacity. reached: a higher level broke a limit."""

    capacity: Figure
    users: float | None
    spread: float
    output_tokens: float
    reached: bool


def measured(levels: Sequence[Level], limits: Sequence[Limit], closed_only: bool = False) -> Carried | None:
    """The most that a measured level carried while it and all below it kept the limits; None where none did.

    closed_only: look for the most users, not the highest rate.
    """
    closed = before_break([x for x in levels if x.users], limits)
    opened = [] if closed_only else before_break([x for x in levels if x.rate], limits)
    kept = closed + opened
    if not kept:
        return None
    best = closed[-1] if closed_only else max(kept, key=lambda x: x.requests_per_second)
    half = math.exp(Z_95 * best.spread)
    rate = best.requests_per_second
    return Carried(Figure(value=rate, low=rate / half, high=rate * half, basis=best.basis, trial_ids=best.trial_ids,
                          how=best.how or f"at {best.load}"), best.users, best.spread, best.output_tokens,
                   len(kept) < len(levels))


def interpolated(curve: Curve, levels: Sequence[Level], limits: Sequence[Limit]) -> Carried | None:
    """The most between measured levels, by the calibrated curve; None where there is no curve, or no limit is reached.

    Cautious twice: the limits are tightened by the error of the latency's curve, and the capacity is the lower end of
    the throughput's 90 % interval.
    """
    closed = [x for x in levels if x.users]
    throughput = curve.fit("throughput")
    if throughput is None or len(closed) < 2 or any(column(x) not in one.values for x in limits for one in closed):
        return None
    tighter = [x.model_copy(update={"at_most": x.at_most * (1 - _error(curve, x))}) for x in limits]
    users, reached = largest_concurrency([_load_point(x, limits) for x in closed], tighter)
    if not reached or not users:
        return None
    there = throughput.predict(users)
    below = max((x for x in closed if x.users and x.users <= users), key=lambda x: x.users or 0.0)
    above = min((x for x in closed if x.users and x.users > users), key=lambda x: x.users or 0.0, default=below)
    tokens = below.output_tokens
    spread = math.log(there.high / there.low) / (2 * Z_90)
    figure = Figure(value=there.low / tokens, low=there.low / tokens, high=there.high / tokens, confidence=0.9,
                    basis="interpolated", trial_ids=below.trial_ids + above.trial_ids,
                    how=f"{users:g} at once, between {below.load} and {above.load}: the low end of the curve")
    return Carried(figure, users, spread, tokens, True)


def _error(curve: Curve, limit: Limit) -> float:
    fits = [fit for fit in _fits(f"{limit.latency}_", curve) if fit]
    return min(0.5, max((fit.error if fit.error is not None else CURVE_ERROR_UNKNOWN for fit in fits),
                        default=CURVE_ERROR_UNKNOWN))


def _load_point(one: Level, limits: Sequence[Limit]) -> LoadPoint:
    """As models.planning.capacity takes it; the means are not used there."""
    return LoadPoint(concurrency=one.users or 1.0, requests_per_second=one.requests_per_second,
                     output_tokens=one.output_tokens, output_tokens_per_second=1.0, ttft_ms=1.0, tpot_ms=1.0,
                     e2e_ms=1.0, values={x.metric: one.values[column(x)] for x in limits})


def rate_at(users: float, levels: Sequence[Level], curve: Curve) -> float:
    """Requests a second of one instance with so many users at once: measured at a level, else by the curve, else along
    a straight line of logarithms."""
    closed = [x for x in levels if x.users]
    if near := next((x for x in closed if abs(math.log(users / (x.users or 1))) < SAME), None):
        return near.requests_per_second
    fit = curve.fit("throughput")
    if fit is not None:
        return fit.predict(users).value / closed[0].output_tokens
    return _line(users, [(x.users or 1.0, x.requests_per_second) for x in closed])


def expected(curve: Curve, levels: Sequence[Level], limits: Sequence[Limit], rate: float,
             users: float | None) -> dict[str, Figure]:
    """Latencies of one instance at its load: as measured where a level has that load, else between levels."""
    names = list(dict.fromkeys([*map(column, limits), *SHOWN]))
    opened = next((x for x in levels if x.rate and users is None and abs(math.log(rate / x.rate)) < SAME), None)
    closed = [x for x in levels if x.users]
    exact = opened or next((x for x in closed if abs(math.log(
        users / (x.users or 1) if users else rate / x.requests_per_second)) < SAME), None)
    if exact is None and closed and rate <= closed[0].requests_per_second and users is None:
        how = f"at {closed[0].load}, the fewest measured: less load is no slower"
        exact = closed[0].model_copy(update={"how": how})
    if exact is not None:
        return {n: _seen(exact, n) for n in names if n in exact.values}
    if len(closed) < 2:
        near = max(levels, key=lambda x: (x.requests_per_second <= rate, -x.requests_per_second))
        return {n: _seen(near, n) for n in names if n in near.values}
    at = users or _users_at(rate, closed, curve)
    return {n: f for n in names if (f := _between(n, at, closed, curve))}


def _seen(one: Level, name: str) -> Figure:
    low, high = one.intervals.get(name, (None, None))
    return Figure(value=one.values[name], low=low, high=high, basis=one.basis, trial_ids=one.trial_ids,
                  how=one.how or f"at {one.load}")


def _users_at(rate: float, closed: Sequence[Level], curve: Curve) -> float:
    """Users that a rate keeps under way, by Little's law on the curves where there are some."""
    from models.planning.arrivals import at_rate  # SciPy takes long to import, and most answers need none of it

    fits = [curve.fit(name) for name in ("throughput", "ttft", "tpot")]
    most = max(x.users or 1.0 for x in closed)
    if all(fits):
        found = at_rate(rate, closed[0].output_tokens, *(f for f in fits if f))
        if found is not None:
            return min(found.concurrency, most)
    return min(most, _line(rate, [(x.requests_per_second, x.users or 1.0) for x in closed]))


def _between(name: str, users: float, closed: Sequence[Level], curve: Curve) -> Figure | None:
    """Through the measured levels, in the shape of the calibrated curve of its mean (without one, along straight lines
    of logarithms)."""
    known = [x for x in closed if name in x.values and x.values[name] > 0]
    if len(known) < 2:
        return None
    at = [x.users or 1.0 for x in known]
    *shape, here = _means(name, [*at, users], curve, known[0].output_tokens)
    value = here * _line(users, [(u, x.values[name] / mean) for u, x, mean in zip(at, known, shape, strict=True)])
    below = max((x for x in known if (x.users or 0) <= users), key=lambda x: x.users or 0.0, default=known[0])
    above = min((x for x in known if (x.users or 0) > users), key=lambda x: x.users or 0.0, default=known[-1])
    half = _half(name, users, curve)
    basis: Basis = "interpolated" if all(x.basis == "measured" for x in (below, above)) else below.basis
    return Figure(value=value, low=half and value / half, high=half and value * half, confidence=0.9, basis=basis,
                  trial_ids=tuple(dict.fromkeys(below.trial_ids + above.trial_ids)),
                  how=f"{users:.3g} at once, between {below.load} and {above.load}")


def _means(name: str, users: Sequence[float], curve: Curve, output_tokens: float) -> list[float]:
    """The mean of a latency by its calibrated curves, in any unit; 1 where they are not there."""
    fits = [fit for fit in _fits(name, curve) if fit]
    if len(fits) < len(_fits(name, curve)):
        return [1.0] * len(users)
    first, *second = ([p.value for p in fit.predict_many(users)] for fit in fits)
    if not second:
        return first
    return [ttft + (output_tokens - 1) * tpot for ttft, tpot in zip(first, second[0], strict=True)]


def _half(name: str, users: float, curve: Curve) -> float | None:
    """Factor of a 90 % interval, from the curve of its mean; of what both make up, the wider."""
    found = [one.high / one.value for fit in _fits(name, curve) if fit for one in [fit.predict(users)]]
    return max(found, default=None)


def _fits(name: str, curve: Curve) -> list[Fit | None]:
    """The curves that a latency is made of."""
    if name.startswith("e2e"):
        return [curve.fit("ttft"), curve.fit("tpot")]
    return [curve.fit("ttft" if name.startswith("ttft") else "tpot")]


def _line(at: float, points: Sequence[tuple[float, float]]) -> float:
    """Along straight lines between logarithms; beyond the ends, the end's value."""
    ordered = sorted(points)
    if at <= ordered[0][0]:
        return ordered[0][1]
    for (x0, y0), (x1, y1) in pairwise(ordered):
        if at <= x1:
            share = math.log(at / x0) / math.log(x1 / x0) if x1 > x0 else 1.0
            return float(y0 * (y1 / y0) ** share)
    return ordered[-1][1]
