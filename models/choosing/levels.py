"""A curve's load levels: trials of one load together, each with what it carries and what its requests saw."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from models.choosing.answer import Basis
from models.choosing.evidence import Curve, Point
from models.slo import Limit

Interval = tuple[float | None, float | None]
Z_95, Z_90 = 1.96, 1.645
SPREAD_UNKNOWN = 0.1
"""Standard deviation of the logarithm of throughput, where no interval was kept."""


@dataclass(frozen=True)
class Level:
    """One load. Repeats are their median. users: closed loop; rate: open loop, requests a second asked for.

    spread: standard deviation of the logarithm of requests_per_second. values: ms, by the columns of `measurements`;
    intervals: of these, 95 %.
    """

    requests_per_second: float
    output_tokens: float
    spread: float
    values: Mapping[str, float]
    trial_ids: tuple[str, ...]
    users: float | None = None
    rate: float | None = None
    input_tokens: float = 0.0
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    basis: Basis = "measured"
    how: str = ""

    @property
    def load(self) -> str:
        """For people."""
        return f"{self.users:g} at once" if self.users else f"{self.rate:g} a second"

    def keeps(self, limits: Sequence[Limit]) -> bool:
        """Whether every limit was measured and kept."""
        return all(self.values.get(x.column, math.inf) <= x.at_most for x in limits)


def levels(curve: Curve) -> list[Level]:
    """Levels that can be trusted: closed loops by users, then open ones by rate."""
    def load(point: Point) -> tuple[bool, float]:
        return point.concurrency is None, float(point.concurrency or point.request_rate or 0.0)

    usable = sorted((p for p in curve.points if not p.fatal and p.requests_per_second and p.output_tokens), key=load)
    return [_level(list(group)) for _, group in groupby(usable, key=load)]


def _level(points: Sequence[Point]) -> Level:
    first = points[0]
    if len(points) == 1:
        rate, intervals = first.requests_per_second or 0.0, first.intervals
        inputs, outputs, values = first.input_tokens or 0.0, first.output_tokens or 0.0, first.values
        spread = _of_interval(rate, intervals.get("requests_per_second"))
    else:
        rates = [p.requests_per_second for p in points if p.requests_per_second]
        rate, intervals = statistics.median(rates), {}
        inputs = statistics.median([p.input_tokens or 0.0 for p in points])
        outputs = statistics.median([p.output_tokens for p in points if p.output_tokens])
        values = {n: statistics.median([p.values[n] for p in points if n in p.values])
                  for n in {name for p in points for name in p.values}}
        spread = _spread(rates, [p.intervals.get("requests_per_second") for p in points])
    return Level(users=first.concurrency, rate=first.request_rate, requests_per_second=rate, input_tokens=inputs,
                 output_tokens=outputs, values=values, intervals=intervals, spread=spread,
                 trial_ids=tuple(p.trial_id for p in points))


def _spread(rates: Sequence[float], intervals: Sequence[Interval | None]) -> float:
    """Of repeats: the mean of what their intervals say, or what they show between them, over √n."""
    own = [_of_interval(rate, interval) for rate, interval in zip(rates, intervals, strict=True)]
    within = math.sqrt(sum(s * s for s in own) / len(own))
    return max(within, statistics.stdev(map(math.log, rates))) / math.sqrt(len(own))


def _of_interval(rate: float, interval: Interval | None) -> float:
    low, high = interval or (None, None)
    if low and high and low < high:
        return math.log(high / low) / (2 * Z_95)
    if bound := low or high:
        return abs(math.log(bound / rate)) / Z_95 or SPREAD_UNKNOWN
    return SPREAD_UNKNOWN


def before_break(ordered: Sequence[Level], limits: Sequence[Limit]) -> list[Level]:
    """The levels up to the first that breaks a limit: a luckier one at more load does not count."""
    kept = []
    for one in ordered:
        if not one.keeps(limits):
            break
        kept.append(one)
    return kept
