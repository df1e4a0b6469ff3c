"""What one instance carries within limits, by its measured levels and the curve between them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from models.choosing.answer import Figure
from models.choosing.evidence import Curve
from models.choosing.levels import Z_90, Z_95, Level, before_break
from models.planning.capacity import largest_concurrency
from models.planning.priors import CurveQuantity
from models.slo import Limit

CURVE_ERROR_UNKNOWN = 0.15
"""Half-width of a latency's interval, relative, between levels where its curve was not calibrated."""


@dataclass(frozen=True)
class Carried:
    """capacity: requests a second within the limits; users: at once at that load, None for an open loop's level.
    spread: standard deviation of the logarithm of the capacity."""

    capacity: Figure
    users: float | None
    spread: float
    output_tokens: float


class _Loaded(NamedTuple):
    """As models.planning.capacity takes it."""

    concurrency: float
    values: Mapping[str, float]


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
                          how=best.how or f"at {best.load}"), best.users, best.spread, best.output_tokens)


def interpolated(curve: Curve, levels: Sequence[Level], limits: Sequence[Limit]) -> Carried | None:
    """The most between measured levels, by the calibrated curve; None where there is no curve, or no limit is reached.

    Cautious twice: the limits are tightened by the error of the latency's curve, and the capacity is the lower end of
    the throughput's 90 % interval.
    """
    throughput = curve.fit("throughput")
    tighter = [x.model_copy(update={"at_most": x.at_most * (1 - _error(curve, x))}) for x in limits]
    users = users_within(levels, tighter)
    if throughput is None or users is None:
        return None
    closed, there = [x for x in levels if x.users], throughput.predict(users)
    below = max((x for x in closed if x.users and x.users <= users), key=lambda x: x.users or 0.0)
    above = min((x for x in closed if x.users and x.users > users), key=lambda x: x.users or 0.0, default=below)
    tokens = below.output_tokens
    spread = math.log(there.high / there.low) / (2 * Z_90)
    figure = Figure(value=there.low / tokens, low=there.low / tokens, high=there.high / tokens, confidence=0.9,
                    basis="interpolated", trial_ids=below.trial_ids + above.trial_ids,
                    how=f"{users:g} at once, between {below.load} and {above.load}: the low end of the curve")
    return Carried(figure, users, spread, tokens)


def users_within(levels: Sequence[Level], limits: Sequence[Limit]) -> float | None:
    """Users at once where a limit is reached, between two measured levels; None where none is, or at every level."""
    closed = [x for x in levels if x.users]
    if len(closed) < 2 or any(x.column not in one.values for x in limits for one in closed):
        return None
    seen = [_Loaded(x.users or 1.0, {one.metric: x.values[one.column] for one in limits}) for x in closed]
    users, reached = largest_concurrency(seen, limits)
    return users if reached and users else None


def _error(curve: Curve, limit: Limit) -> float:
    fits = [fit for q in curves_of(limit.latency) if (fit := curve.fit(q))]
    return min(0.5, max((fit.error if fit.error is not None else CURVE_ERROR_UNKNOWN for fit in fits),
                        default=CURVE_ERROR_UNKNOWN))


def rate_at(users: float, levels: Sequence[Level]) -> float:
    """Requests a second of one instance with so many users at once: measured at a level, else along a straight line of
    logarithms."""
    return line(users, [(x.users, x.requests_per_second) for x in levels if x.users])


def curves_of(name: str) -> tuple[CurveQuantity, ...]:
    """The calibrated curves that a latency is made of."""
    if name.startswith("e2e"):
        return "ttft", "tpot"
    return ("ttft",) if name.startswith(("ttft", "first_content")) else ("tpot",)


def line(at: float, points: Sequence[tuple[float, float]]) -> float:
    """Along straight lines between logarithms; beyond the ends, the end's value."""
    ordered = sorted(points)
    if at <= ordered[0][0]:
        return ordered[0][1]
    for (x0, y0), (x1, y1) in pairwise(ordered):
        if at <= x1:
            share = math.log(at / x0) / math.log(x1 / x0) if x1 > x0 else 1.0
            return float(y0 * (y1 / y0) ** share)
    return ordered[-1][1]
