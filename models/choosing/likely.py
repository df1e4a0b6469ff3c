"""How likely it is that one stack really is cheaper than another, as far as throughput is uncertain."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from statistics import NormalDist

from models.identity import Record
from models.planning import fleet

STEPS = 201
"""Quantiles of each capacity that are compared with each of the other's."""


class Priced(Record):
    """A capacity of an instance (requests a second), the standard deviation of its logarithm, and what an instance
    costs an hour."""

    capacity: float
    spread: float
    usd_per_hour: float
    output_tokens: float
    down: int = 0


def cheaper(one: Priced, other: Priced, load: float | None) -> float:
    """Returns the probability that `one` costs less a month than `other` (the same month: less a token at full load).

    load: requests a second that both must carry; None: the price of a token at full load decides. The logarithms of
    both capacities are taken as normal and independent, which the 95 % intervals of throughput are symmetric in; the
    prices as certain. Instances are whole, so that the price of a load is a step function of the capacity.
    """
    if load is None:
        apart = math.log(_per_token(other, other.capacity) / _per_token(one, one.capacity))
        return NormalDist().cdf(apart / max(math.hypot(one.spread, other.spread), 1e-9))
    theirs = sorted(_costs(other, load))
    dearer = [STEPS - (bisect_left(theirs, a) + bisect_right(theirs, a)) / 2 for a in _costs(one, load)]
    return sum(dearer) / STEPS**2


def _costs(one: Priced, load: float) -> list[tuple[float, float]]:
    """(USD an hour, USD a unit of work at full load) at evenly spaced quantiles of the capacity."""
    normal = NormalDist()
    found = []
    for i in range(STEPS):
        capacity = one.capacity * math.exp(one.spread * normal.inv_cdf((i + 0.5) / STEPS))
        count = max(1, fleet.instances(load, capacity)) + one.down
        found.append((count * one.usd_per_hour, _per_token(one, capacity)))
    return found


def _per_token(one: Priced, capacity: float) -> float:
    return one.usd_per_hour / (capacity * one.output_tokens)
