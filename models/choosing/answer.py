"""What comes back: ranked stacks with what they rest on, what was left out and why, what would change it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from models.choosing.evidence import Machine, PriceOf, Stack
from models.choosing.question import Question
from models.identity import Record
from models.slo import Limit

Basis = Literal["measured", "interpolated", "extrapolated", "formula"]
BASES: tuple[Basis, ...] = ("measured", "interpolated", "extrapolated", "formula")
"""From the surest to the least sure."""
SHOWN = ("ttft_from_schedule_ms_p50", "ttft_from_schedule_ms_p95", "tpot_ms_p50", "tpot_ms_p95",
         "e2e_from_schedule_ms_p95")
"""Latencies that an answer names beside those of the limits."""


class Figure(Record):
    """A number with what it rests on. low and high: an interval of `confidence`, None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None
    confidence: float = 0.95
    basis: Basis
    trial_ids: tuple[str, ...] = ()
    how: str = ""


class Choice(Record):
    """A stack that keeps the limits, and how many of it.

    capacity: requests a second of one instance within the limits. carries: of all together. headroom: share of the load
    that fits on top; None where no load was asked. expected: by the limits' metrics and the other usual ones, ms, at
    the load of one instance. probability_cheaper: that it really is cheaper than the next one.
    """

    stack: Stack
    machine: Machine
    workload: str
    instances: int
    price: PriceOf
    usd_per_month: float
    usd_per_million_output_tokens: float
    usd_per_million_output_tokens_full: float = Field(description="at full load: no idle hours")
    capacity: Figure
    users: float | None = Field(default=None, description="at once on one instance at its capacity")
    carries: float
    carries_low: float | None = None
    carries_high: float | None = None
    load: float | None = Field(default=None, description="requests a second that are asked of all together")
    headroom: float | None = None
    with_one_down: float = Field(description="requests a second within the limits with one instance less")
    expected: dict[str, Figure] = Field(default_factory=dict)
    basis: Basis
    trial_ids: tuple[str, ...] = ()
    levels: int = Field(default=0, description="load levels measured of it with this workload")
    probability_cheaper: float | None = None
    over_budget: bool = False
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """`2 × NVIDIA L40S, vllm 0.33 FP8, 256 sequences`."""
        stack = self.stack
        rest = stack.setup.removeprefix(f"{stack.server} ")
        return f"{self.instances} × {self.machine.label}, {stack.server} {stack.engine_version.split()[0]}, {rest}"


class Excluded(Record):
    """A setup that was left out, and why. `kind` groups reasons."""

    setup_id: str | None = None
    label: str
    kind: Literal["hardware", "feature", "environment", "quality", "workload", "verdict", "limit", "load", "price",
                  "budget", "model", "engine"]
    reason: str
    trial_ids: tuple[str, ...] = ()


class Change(Record):
    """What if: the question changed so, another stack wins (winner None: nothing fits any more)."""

    what: str
    winner: str | None
    setup_id: str | None = None
    instances: int | None = None
    usd_per_month: float | None = None


class Estimate(Record):
    """What a formula says of a stack that nobody measured."""

    label: str
    instances: int
    accelerators: int = Field(default=1, description="of one instance, that share the model")
    capacity: Figure
    usd_per_month: float | None = None
    usd_per_million_output_tokens: float | None = None
    price: PriceOf | None = None
    expected: dict[str, Figure] = Field(default_factory=dict)
    learned: str | None = Field(default=None, description="command that predicts it from all that was measured, which "
                                "takes longer; None: not of this hardware")


class Answer(Record):
    """The answer. ranked is empty where nothing measured fits; then there may be an estimate, and the experiment (YAML)
    that would settle it. changes: only what would make another stack win; `unchanged` names what would not."""

    question: Question
    workload: str | None = None
    sentence: str
    ranked: tuple[Choice, ...] = ()
    excluded: tuple[Excluded, ...] = ()
    changes: tuple[Change, ...] = ()
    unchanged: tuple[str, ...] = ()
    estimates: tuple[Estimate, ...] = ()
    experiment: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Choice | None:
        """The first of the ranked; None where nothing measured fits."""
        return self.ranked[0] if self.ranked else None


def needed(limits: Sequence[Limit]) -> tuple[str, ...]:
    """Columns of latencies that an answer needs: of the limits, those shown, and the means that lengths are carried
    over by."""
    names = dict.fromkeys([*(x.column for x in limits), *SHOWN])
    return tuple(names | dict.fromkeys(f"{name.rpartition('_')[0]}_mean" for name in names))
