"""A release as its source tells it, and what became of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from models.identity import Identifier, Record, content_id
from models.specs import Architecture

Kind = Literal["model", "engine", "prices"]
State = Literal["waiting", "started", "evaluated", "failed", "skipped"]
WEEK = dt.timedelta(days=7)


class Release(Record):
    """A model with certain weights, a version of an engine, or a price list with certain prices.

    Its identity is kind, name and version alone: what two sources tell, or one of them twice, is one release. The
    version of a model is a hash of its weights, so that an edited README is nothing new.
    """

    not_identity = frozenset({
        "source", "released_at", "url", "format", "files", "path", "repository", "revision", "content", "quantization",
        "parameters", "licence", "gated", "tags", "architecture", "unreadable", "runtime", "image"})

    kind: Kind
    name: Identifier
    version: Identifier
    source: Identifier = Field(description="which entry of the policy's `follow` told of it")
    released_at: str | None = Field(default=None, description="UTC, ISO 8601; None: the source does not say")
    url: str | None = None
    format: Literal["gguf", "safetensors"] | None = None
    files: tuple[str, ...] = Field(default=(), description="of a repository of GGUF files: their names")
    path: str | None = Field(default=None, description="of a checkpoint on disk")
    repository: str | None = Field(default=None, description="on the Hugging Face Hub")
    revision: str | None = Field(default=None, description="the commit that is measured")
    content: str | None = Field(default=None, description="as measurements name these weights")
    quantization: str | None = Field(default=None, description="that the weights are stored in")
    parameters: int | None = None
    licence: str | None = None
    gated: bool = False
    tags: tuple[str, ...] = ()
    architecture: Architecture | None = None
    unreadable: str | None = Field(default=None, description="why it cannot be measured whatever a policy says")
    runtime: Literal["venv", "docker"] = Field(default="venv", description="how this version of an engine comes")
    image: str | None = None

    @property
    def release_id(self) -> str:
        return content_id(self)

    @property
    def local(self) -> bool:
        """A file that a person put there, whatever its licence."""
        return self.path is not None

    @property
    def label(self) -> str:
        """For people: the name, with the version where that is not a hash."""
        return self.name if self.kind == "model" else f"{self.name} {self.version}"


class Run(Record):
    """One evaluation of a release: a flow run on one pool. `key` is Prefect's idempotency key: a start that is repeated
    because nobody knows whether it succeeded is still one run."""

    pool: Identifier
    key: Identifier
    started_at: str
    flow_run_id: str | None = None
    ended_at: str | None = None
    engine_hours: float | None = Field(default=None, ge=0, description="that the evaluation took")
    outcome: Literal["running", "evaluated", "failed"] = "running"
    why: str = ""


class Seen(Record):
    """What is remembered of a release: the content of its file and row."""

    schema_version: int = 1
    release: Release
    seen_at: str
    decided_at: str
    state: State
    why: str = ""
    estimate: str = Field(default="", description="the planner's, of a model that no pool's hardware holds")
    policy: str = Field(default="", description="hash of the policy that decided: another one decides anew")
    runs: tuple[Run, ...] = ()
    revisions: tuple[str, ...] = Field(default=(), description="commits of the repository that have these weights")
    dyno_version: str = ""


def spent_hours(seen: Iterable[Seen], now: dt.datetime, expected: float) -> float:
    """Engine-hours of the evaluations begun within a week before `now`; one that still runs counts as `expected`, or as
    long as it runs where that is more."""
    return sum(_hours(run, now, expected) for one in seen for run in one.runs
               if now - dt.datetime.fromisoformat(run.started_at) <= WEEK)


def _hours(run: Run, now: dt.datetime, expected: float) -> float:
    if run.outcome != "running":
        return run.engine_hours or 0.0
    return max(expected, (now - dt.datetime.fromisoformat(run.started_at)).total_seconds() / 3600)


def expected_hours(seen: Iterable[Seen], pool: str, assumed: float) -> float:
    """What one evaluation on that pool takes: the mean of those that ended, or what is assumed while none has."""
    hours = [r.engine_hours for one in seen for r in one.runs
             if r.pool == pool and r.outcome == "evaluated" and r.engine_hours is not None]
    return sum(hours) / len(hours) if hours else assumed
