"""From a setup's measured load levels and an SLO to what one instance serves within it, at every level of formula.

The largest concurrency that keeps the limits is interpolated between measured ones; throughput there comes from the
calibrated curve. An SLO that nothing keeps gets a plain answer: what was seen, the physical limit, the nearest one.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Protocol

from pydantic import Field

from models.errors import UserError
from models.identity import Record
from models.planning import curves
from models.planning.cpu import bandwidth_bound_tokens_per_second
from models.planning.points import UNKNOWN_SLOTS, Slots, point
from models.slo import Limit
from models.throughput import bandwidth_bound_tpot_ms, rough_output_tokens_per_second


class LoadPoint(Record):
    """A closed loop of so many users: means over its requests (ms, tokens, requests a second), and the metrics that the
    limits are on, by their names."""

    concurrency: float = Field(gt=0)
    requests_per_second: float = Field(gt=0)
    output_tokens: float = Field(gt=0)
    output_tokens_per_second: float = Field(gt=0)
    ttft_ms: float = Field(gt=0)
    tpot_ms: float = Field(gt=0)
    e2e_ms: float = Field(gt=0)
    values: dict[str, float] = Field(default_factory=dict)


class Bandwidth(Record):
    """What decoding reads, and how fast: bytes of the weights, of a sequence's KV cache, and a second."""

    weight_bytes: float = Field(gt=0)
    kv_bytes_per_sequence: float = Field(default=0.0, ge=0)
    bytes_per_s: float = Field(gt=0)


class Served(Record):
    """Requests a second of one instance within the limits, at a level of formula; low and high: a 90 % interval.

    error: mean absolute percentage error left out of sample, as a share; None where it is not known.
    """

    level: str
    requests_per_second: float
    concurrency: float
    low: float | None = None
    high: float | None = None
    error: float | None = None
    how: str


class Impossible(Record):
    """Why nothing measured keeps the limits, and the nearest ones that would be kept."""

    reason: str
    nearest: tuple[Limit, ...]


def merged(points: Sequence[LoadPoint]) -> list[LoadPoint]:
    """One point a concurrency, ascending: the median of repeats, figure by figure."""
    ordered = sorted(points, key=lambda p: p.concurrency)
    found = []
    for users, group in groupby(ordered, key=lambda p: p.concurrency):
        same = list(group)
        figures = {name: statistics.median(getattr(p, name) for p in same) for name in LoadPoint.model_fields
                   if name not in ("concurrency", "values")}
        values = {name: statistics.median(p.values[name] for p in same if name in p.values)
                  for name in {n for p in same for n in p.values}}
        found.append(LoadPoint(concurrency=users, values=values, **figures))
    return found


class Loaded(Protocol):
    """As much of a LoadPoint as limits are compared with."""

    @property
    def concurrency(self) -> float:
        """Users at once."""

    @property
    def values(self) -> Mapping[str, float]:
        """By metric."""


def largest_concurrency(points: Sequence[Loaded], limits: Sequence[Limit]) -> tuple[float, bool]:
    """Returns how many users at once keep every limit, and whether a limit was reached (else: the most measured).

    points: one a concurrency, ascending. Between two, a metric goes along a straight line of logarithms; it counts as
    no lower than at fewer users. 0 when the fewest users measured break a limit. Raises UserError for a metric that was
    not measured.
    """
    most, reached = points[-1].concurrency, False
    for limit in limits:
        worst, before = 0.0, None
        for one in points:
            value = one.values.get(limit.metric)
            if value is None:
                raise UserError(f"limit {limit}: not measured at {one.concurrency:g} users")
            worst = max(worst, value)
            if worst > limit.at_most:
                most, reached = min(most, _crossing(before, (one.concurrency, worst), limit.at_most)), True
                break
            before = (one.concurrency, worst)
    return most, reached


def _crossing(below: tuple[float, float] | None, above: tuple[float, float], at: float) -> float:
    """Whole users; the measured ones below are kept, whatever rounding says."""
    if below is None:
        return 0.0
    share = math.log(at / below[1]) / math.log(above[1] / below[1]) if below[1] > 0 else 0.0
    return max(below[0], float(math.floor(below[0] * (above[0] / below[0]) ** share + 1e-9)))


def levels(points: Sequence[LoadPoint], limits: Sequence[Limit], reads: Bandwidth | None = None,
           slots: Slots = UNKNOWN_SLOTS) -> list[Served] | Impossible:
    """Returns what one instance serves within the limits by each level, roughest first.

    rough: Little's law with the mean response time of the nearest measured level. architecture (where `reads` is
    given): what memory bandwidth allows. calibrated (two levels measured at least): the curve, with its interval.
    measured: the largest measured level that keeps the limits. Raises UserError when nothing was measured.
    """
    kept = merged(points)
    if not kept:
        raise UserError("no closed-loop point of it can be trusted: measure some with load: {concurrency: [1, 4, 16]}")
    users, reached = largest_concurrency(kept, limits)
    if not users:
        return impossible(kept, limits, reads)
    near = max((p for p in kept if p.concurrency <= users), key=lambda p: p.concurrency)
    least = "" if reached else "; nothing measured reached the limits, so it is the least"
    rough = rough_output_tokens_per_second(users, near.output_tokens, near.e2e_ms / 1e3) / near.output_tokens
    found = [Served(level="rough", requests_per_second=rough, concurrency=users,
                    how=f"{users:g} users ÷ the mean response time at {near.concurrency:g}")]
    if reads:
        bound = bandwidth_bound_tokens_per_second(users, reads.weight_bytes, reads.kv_bytes_per_sequence,
                                                  reads.bytes_per_s) / near.output_tokens
        found.append(Served(level="architecture", requests_per_second=bound, concurrency=users,
                            how="what memory bandwidth allows: an upper bound"))
    if len(kept) >= 2:
        found.append(_calibrated(kept, users, near.output_tokens, slots, least))
    found.append(Served(level="measured", requests_per_second=near.requests_per_second, concurrency=near.concurrency,
                        how=f"at {near.concurrency:g} users{least}"))
    return found


def _calibrated(points: Sequence[LoadPoint], users: float, output_tokens: float, slots: Slots,
                least: str) -> Served:
    fit = curves.fit([point(p.concurrency, p.ttft_ms, p.tpot_ms, p.output_tokens, p.output_tokens_per_second)
                      for p in points], "throughput", slots=slots)
    there = fit.predict(users)
    return Served(level="calibrated", requests_per_second=there.value / output_tokens, concurrency=users,
                  low=there.low / output_tokens, high=there.high / output_tokens, error=fit.error,
                  how=f"the curve over {len(points)} measured levels{least}")


def impossible(points: Sequence[LoadPoint], limits: Sequence[Limit], reads: Bandwidth | None = None) -> Impossible:
    """Returns the plain answer for limits that the fewest measured users (points[0]) break already."""
    first = points[0]
    reasons, nearest = [], []
    for limit in limits:
        value = first.values[limit.metric]
        nearest.append(limit.raised(value))
        if value <= limit.at_most:
            continue
        text = f"{limit} cannot be kept: with {first.concurrency:g} at once it is {value:.3g} ms"
        floor = bandwidth_bound_tpot_ms(reads.weight_bytes, reads.bytes_per_s / 1e9) if reads else 0.0
        if limit.latency in ("tpot_ms", "itl_ms") and limit.at_most < floor:
            text += f", and no engine can on this hardware: reading the weights alone takes {floor:.3g} ms a token"
        reasons.append(text)
    return Impossible(reason="; ".join(reasons), nearest=tuple(nearest))


def load_point(row: Mapping[str, object], limits: Sequence[Limit]) -> LoadPoint | None:
    """A row of the warehouse's view `measurements` as a point; None for an open loop, one that is not to be trusted, or
    one without its figures."""
    names = {"requests_per_second": "requests_per_second", "output_tokens": "output_tokens_mean",
             "output_tokens_per_second": "output_tokens_per_second", "ttft_ms": "ttft_ms_mean",
             "tpot_ms": "tpot_ms_mean", "e2e_ms": "e2e_ms_mean"}
    figures = {ours: _number(row.get(theirs)) for ours, theirs in names.items()}
    users = _number(row.get("concurrency"))
    if row.get("fatal") or not users or not all(figures.values()):
        return None
    values = {x.metric: v for x in limits if (v := _number(row.get(f"{x.judged}_{x.statistic}"))) is not None}
    return LoadPoint.model_validate({"concurrency": users, "values": values, **figures})


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
