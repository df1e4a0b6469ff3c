"""A look at a run while it goes on, from the thread that watches it: is it enough, or hopeless?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import polars as pl

from models.frames import REQUESTS, empty
from models.specs import Workload
from workloads.client import Recording
from workloads.columns import frame
from workloads.run import Run
from workloads.schedule import Plan

Say = Literal["go on", "enough", "clear", "hopeless"]
LOOK_SHARE = 0.2
"""Of the time since the last look that a look may take: it shares the interpreter with the stamps."""


@dataclass(frozen=True)
class Now:
    """What is known at an instant (`now_ns` since t = 0). requests: those that have ended, with the columns of
    models.frames.REQUESTS. in_flight: one row each with phase, planned_ns, sent_ns and first_ns (the first read with a
    body, which is no later than the first token; null: none yet)."""

    now_ns: int
    requests: pl.DataFrame
    in_flight: pl.DataFrame


Judge = Callable[[Now], Say]
"""`enough`: what is sent from now on is not measured; `clear` (it is known already) and `hopeless`: end at once."""

_IN_FLIGHT = {"phase": pl.String(), "planned_ns": pl.Int64(), "sent_ns": pl.Int64(), "first_ns": pl.Int64()}


class Interim:
    """Asks a judge about a run, the oftener the less it costs: a fifth of a second apart at the least."""

    def __init__(self, run: Run, plan: Plan, workload: Workload, zero_ns: int, judge: Judge) -> None:
        self._run, self._plan, self._workload, self._zero_ns, self._judge = run, plan, workload, zero_ns, judge
        self._read = 0
        self._seen = empty(REQUESTS)
        self._next_s = 0.0
        self.said: Say = "go on"

    def look(self) -> None:
        """To be called a few times a second."""
        start_s = time.monotonic()
        if start_s < self._next_s or self.said != "go on":
            return
        said = self._judge(self._now())
        if said != "go on" and self.said == "go on":
            self.said = said
            self._run.enough, self._run.stop = said == "enough", said in ("clear", "hopeless") or self._run.stop
        self._next_s = start_s + (time.monotonic() - start_s) / LOOK_SHARE

    def _now(self) -> Now:
        ended = self._run.recordings[self._read:]  # it only grows
        self._read += len(ended)
        if ended:
            self._seen = pl.concat([self._seen, frame(self._plan, self._workload, ended, self._zero_ns)])
        now_ns = time.perf_counter_ns() - self._zero_ns
        rows = [self._row(recording) for recording in self._run.busy]
        return Now(now_ns, self._seen, pl.DataFrame(rows, schema=_IN_FLIGHT, orient="row"))

    def _row(self, recording: Recording) -> tuple[str, int, int | None, int | None]:
        first = next((at for at, end in recording.rows.tolist() if end), None)
        sent = recording.sent_ns
        return (self._run.phases[recording.index], recording.planned_ns - self._zero_ns,
                None if sent is None else sent - self._zero_ns, None if first is None else first - self._zero_ns)
