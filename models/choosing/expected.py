"""What requests see of an instance at its load: as measured at a level, else between levels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from models.choosing.answer import SHOWN, Basis, Figure
from models.choosing.carried import curves_of, line
from models.choosing.evidence import Curve
from models.choosing.levels import Level
from models.planning.points import CurveQuantity, Prediction
from models.slo import Limit

SAME = 0.03
"""Loads this near, relatively, are the same level."""
Shape = Mapping[CurveQuantity, Sequence[Prediction]]
LATENCIES: tuple[CurveQuantity, ...] = ("ttft", "tpot")
BETWEEN = 24
"""Places between two levels at which a curve is looked at."""


def expected(curve: Curve, levels: Sequence[Level], limits: Sequence[Limit], rate: float,
             users: float | None) -> dict[str, Figure]:
    """Latencies by column of `measurements`, ms, of one instance that serves `rate` requests a second (or so many users
    at once). Figures between levels go through them in the shape of the calibrated curve of the latency's mean; without
    one, along straight lines of logarithms."""
    names = list(dict.fromkeys([*(x.column for x in limits), *SHOWN]))
    closed = [x for x in levels if x.users]
    exact = _same(levels, closed, rate, users)
    if exact is None and len(closed) < 2:
        exact = max(levels, key=lambda x: (x.requests_per_second <= rate, -x.requests_per_second))
    if exact is not None:
        return {n: _seen(exact, n) for n in names if n in exact.values}
    at = users or _users_at(rate, closed, curve)
    fits = {q: fit for q in LATENCIES if (fit := curve.fit(q))}
    shape = {q: fit.predict_many([*(x.users or 1.0 for x in closed), at]) for q, fit in fits.items()}
    return {n: f for n in names if (f := _between(n, at, closed, shape))}


def _same(levels: Sequence[Level], closed: Sequence[Level], rate: float, users: float | None) -> Level | None:
    """The level that has this load; at less load than any, the lowest."""
    def near(one: Level) -> bool:
        have, wanted = (one.users, users) if users else (one.rate or one.requests_per_second, rate)
        return have is not None and wanted is not None and abs(math.log(wanted / have)) < SAME
    found = next((x for x in sorted(levels, key=lambda x: x.rate is None) if near(x)), None)
    if found is None and closed and users is None and rate <= closed[0].requests_per_second:
        return replace(closed[0], how=f"at {closed[0].load}, the fewest measured: less load is no slower")
    return found


def _seen(one: Level, name: str) -> Figure:
    low, high = one.intervals.get(name, (None, None))
    return Figure(value=one.values[name], low=low, high=high, basis=one.basis, trial_ids=one.trial_ids,
                  how=one.how or f"at {one.load}")


def _users_at(rate: float, closed: Sequence[Level], curve: Curve) -> float:
    """The fewest users whose requests come to a rate: at every level of a closed loop Little's law holds, and between
    two the rate goes through them in the shape of its curve."""
    fit = curve.fit("throughput")
    for one, more in pairwise(closed):
        if rate > more.requests_per_second:
            continue
        ends = [(_users(x), x.requests_per_second) for x in (one, more)]
        if fit is None:
            return line(rate, [(y, x) for x, y in ends])
        steps = [ends[0][0] * (ends[1][0] / ends[0][0]) ** (i / BETWEEN) for i in range(BETWEEN + 1)]
        shape = [p.value for p in fit.predict_many(steps)]
        scale = [(x, y / s) for (x, y), s in zip(ends, (shape[0], shape[-1]), strict=True)]
        rates = [s * line(x, scale) for x, s in zip(steps, shape, strict=True)]
        return next((line(rate, [(y0, x0), (y1, x1)]) for (x0, y0), (x1, y1) in
                     pairwise(zip(steps, rates, strict=True)) if rate <= y1), ends[1][0])
    return max(closed, key=lambda x: x.requests_per_second).users or 1.0


def _between(name: str, users: float, closed: Sequence[Level], shape: Shape) -> Figure | None:
    known = [i for i, x in enumerate(closed) if x.values.get(name, 0.0) > 0]
    if len(known) < 2:
        return None
    parts = [shape[q] for q in curves_of(name) if q in shape]
    means = _means(parts, closed[0].output_tokens) if len(parts) == len(curves_of(name)) else [1.0] * (len(closed) + 1)
    value = means[-1] * line(users, [(closed[i].users or 1.0, closed[i].values[name] / means[i]) for i in known])
    half = max((part[-1].high / part[-1].value for part in parts), default=None)
    below = max((closed[i] for i in known if (closed[i].users or 0) <= users), key=_users, default=closed[known[0]])
    above = min((closed[i] for i in known if (closed[i].users or 0) > users), key=_users, default=closed[known[-1]])
    basis: Basis = "interpolated" if below.basis == above.basis == "measured" else below.basis
    return Figure(value=value, low=half and value / half, high=half and value * half, confidence=0.9, basis=basis,
                  trial_ids=tuple(dict.fromkeys(below.trial_ids + above.trial_ids)),
                  how=f"{users:.3g} at once, between {below.load} and {above.load}")


def _means(parts: Sequence[Sequence[Prediction]], output_tokens: float) -> list[float]:
    """The mean of a latency at each level and where it is asked, ms: its own curve, or TTFT and all tokens after it."""
    if len(parts) == 1:
        return [p.value for p in parts[0]]
    return [ttft.value + (output_tokens - 1) * tpot.value for ttft, tpot in zip(*parts, strict=True)]


def _users(one: Level) -> float:
    return one.users or 0.0
