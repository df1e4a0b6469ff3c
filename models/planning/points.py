"""What curves are fitted on, and what they answer with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from models.identity import Record

CurveQuantity = Literal["tpot", "throughput", "ttft"]


class CurvePoint(Record):
    """One closed-loop measurement of a setup under a workload: means over its requests."""

    concurrency: float = Field(gt=0, description="requests in flight")
    tpot_ms: float = Field(gt=0)
    ttft_ms: float = Field(gt=0)
    output_tokens_per_second: float = Field(gt=0, description="of the whole deployment")
    output_tokens: float = Field(gt=0, description="a request")

    @property
    def requests_per_second(self) -> float:
        """Requests that end in a second."""
        return self.output_tokens_per_second / self.output_tokens


class Slots(Record):
    """The sequences that an engine decodes at once.

    apart: each has a KV cache of its own, so that one pass through the weights serves only slots that are neighbours
    (llama-server, unless it is started with `--kv-unified`; llama.cpp 0.3.36, llama_batch_allocr::split_equal).
    """

    most: float | None = Field(default=None, gt=0, description="slots, max_num_seqs; None: not known")
    apart: bool = False

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Slots:
        """Those of a row of the warehouse's view `measurements`; an older snapshot does not tell whether apart."""
        return cls(most=row["max_sequences"], apart=bool(row.get("slots_apart")))

    def passes(self, served: float) -> float:
        """Passes through the weights in a step of `served` sequences: 1, or where slots are apart the runs of
        neighbours when any `served` of the slots are busy, served · (most − served + 1) / most on average (Wald and
        Wolfowitz, Ann. Math. Stat. 11, 1940). 8 of 16: 4.5; 16 of 16: 1."""
        if not self.apart or self.most is None:
            return 1.0
        return max(1.0, served * (self.most - served + 1) / self.most)


UNKNOWN_SLOTS = Slots()


class Prediction(Record):
    """A value with its 90 % interval, in the unit of the quantity (ms, or output tokens a second)."""

    value: float
    low: float
    high: float
    extrapolates: bool = Field(description="asked beyond what was measured: the interval is a guess of its own")


def point(concurrency: float, ttft_ms: float, tpot_ms: float, output_tokens: float,
          output_tokens_per_second: float | None = None) -> CurvePoint:
    """A point of a closed loop; where throughput was not measured, Little's law gives it: concurrency × output tokens /
    (TTFT + (output tokens − 1) × TPOT), in tokens a second."""
    seconds = (ttft_ms + (output_tokens - 1) * tpot_ms) / 1e3
    return CurvePoint(concurrency=concurrency, ttft_ms=ttft_ms, tpot_ms=tpot_ms, output_tokens=output_tokens,
                      output_tokens_per_second=output_tokens_per_second or concurrency * output_tokens / seconds)


def merged(points: Sequence[CurvePoint]) -> tuple[CurvePoint, ...]:
    """One point a concurrency, ascending: the median of repeats, quantity by quantity (two: geometric mean)."""
    by_concurrency: dict[float, list[CurvePoint]] = {}
    for one in points:
        by_concurrency.setdefault(one.concurrency, []).append(one)
    return tuple(CurvePoint(concurrency=c, **{name: _median([getattr(p, name) for p in group]) for name in (
        "tpot_ms", "ttft_ms", "output_tokens_per_second", "output_tokens")})
        for c, group in sorted(by_concurrency.items()))


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else math.sqrt(ordered[middle - 1] * ordered[middle])
