"""What is asked and when, fixed from the seed before the clock starts.

The same workload, load and seed give the same plan on every machine and in every process: draws come from NumPy's
PCG64, seeded from the content hash of the workload (and of the load, where the load matters). The measured requests of
one workload have the same lengths under every load, so that one user and eight answer the same questions.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import polars.selectors as cs

from models.errors import UserError
from models.specs import Lengths, Load, Workload, content_id
from workloads import arrivals, traces

Ints = npt.NDArray[np.int64]

TAIL_OUTPUTS = 2.0
"""Closed loop: each user's tail work, in multiples of the longest measured request, so that the load outlasts it."""


@dataclass(frozen=True)
class Plan:
    """Every request of a run, in the order of their sessions, a session's turns together.

    Columns of `requests`: request_index, session, turn, phase (models.frames.PHASES), input_tokens_planned (the whole
    prompt: shared prefix, earlier turns and their answers, and what is new), output_tokens_planned, new_tokens (what
    this turn adds to the prompt), offset_ns (open loop: when a session's first turn is due; else null); and of a trace
    also blocks (numbers of the blocks of text that its prompt begins with).
    """

    requests: pl.DataFrame
    text_seed: int

    def phased(self, phases: Sequence[str]) -> Plan:
        """The same plan with the phases that its requests came to have."""
        return replace(self, requests=self.requests.with_columns(phase=pl.Series(phases, dtype=pl.String)))

    def part(self, number: int, of: int) -> tuple[Plan, list[int]]:
        """Every of-th session from that number on, and the places its requests had."""
        places = (self.requests["session"] % of == number).arg_true().to_list()
        return replace(self, requests=self.requests[places]), places

    @property
    def height(self) -> int:
        """Number of planned requests."""
        return self.requests.height

    @property
    def longest_tokens(self) -> int:
        """Prompt and answer of the longest request: what the engine's context must hold."""
        longest = (self.requests["input_tokens_planned"] + self.requests["output_tokens_planned"]).max()
        return longest if isinstance(longest, int) else 0

    @property
    def digest(self) -> str:
        """Hash of all that is planned: equal plans, equal digests."""
        flat = self.requests.with_columns(cs.list().cast(pl.List(pl.String())).list.join(" "))
        return hashlib.sha256(f"{self.text_seed}\n{flat.write_csv()}".encode()).hexdigest()


PREFILL_SPEEDUP = 8
"""Prompt tokens that take about as long as one of the answer, for that estimate only."""


def plan(workload: Workload, load: Load, seed: int, repeat: int = 0) -> Plan:
    """Plans all requests: warm-up, measured, and a tail that keeps the load up until the last measured one has ended.

    repeat changes the words of the prompts and nothing else, and so does the load: the figures of two repeats differ by
    noise alone, and an engine's prefix cache does not remember an earlier repeat. A trace's requests are planned in its
    order, the measured ones from its first on, the warm-up from what comes before that on the trace's endless line.
    Raises UserError for a trace's file that is gone or changed, and for arrivals of a trace where there is none.
    """
    if load.arrivals == "trace" and not workload.trace:
        raise UserError(f"arrivals: trace needs a workload with a trace; {workload.name} has none")
    key = f"{content_id(workload)} {seed}"
    rows = traces.rows(workload.trace) if workload.trace else None
    measured = _drawn(workload, key, "measured", 0, load.requests, rows)
    warmup = _warmup(workload, load)
    tail = _tail(workload, load, measured, rows)
    parts = {"warmup": _drawn(workload, key, "warmup", -warmup, warmup, rows), "measured": measured,
             "tail": _drawn(workload, key, "tail", load.requests, tail, rows)}
    requests = _phases(workload, parts)
    sessions = requests["session"].n_unique()
    if load.arrivals == "trace" and rows is not None:
        offsets: Ints | None = traces.offsets_ns(rows, load.request_rate or 0, -warmup, sessions)
    else:
        offsets = arrivals.offsets_ns(load, workload.turns, sessions, -(-warmup // workload.turns),
                                      generator("arrivals", key, content_id(load)))
    requests = requests.with_columns(offset_ns=_first_turns(requests, offsets))
    if rows is not None:
        requests = requests.with_columns(blocks=traces.blocks(rows, -warmup, requests.height))
    return Plan(requests.select("request_index", pl.exclude("request_index")),
                _number("text", key, content_id(load), repeat))


def generator(*key: object) -> np.random.Generator:
    """Returns the random stream of that name: the same on every machine."""
    return np.random.Generator(np.random.PCG64(_number(*key)))


def _number(*key: object) -> int:
    return int.from_bytes(hashlib.sha256(" ".join(map(str, key)).encode()).digest()[:8], "big")


def _warmup(workload: Workload, load: Load) -> int:
    """Every user once (closed loop), or two seconds of arrivals but at most a quarter of what is measured."""
    if load.warmup_requests is not None:
        return load.warmup_requests
    if load.concurrency is not None:
        return load.concurrency * workload.turns
    return max(1, min(math.ceil(2 * (load.request_rate or 0)), math.ceil(load.requests / 4)))


def _tail(workload: Workload, load: Load, measured: tuple[Ints, Ints], rows: pl.DataFrame | None) -> int:
    """Upper bound of the requests that keep the load up until the last measured one has ended.

    Open loop: as many as can arrive before its deadline, at most as many again as are measured.
    """
    if load.arrivals == "trace" and rows is not None:
        due_ns = traces.offsets_ns(rows, load.request_rate or 0, load.requests - 1, load.requests + 1)
        return int(np.searchsorted(due_ns, load.timeout_s * 1e9, side="right")) - 1
    if load.concurrency is None:
        rate = load.request_rate_end or load.request_rate or 0
        return min(load.requests, math.ceil(rate * load.timeout_s))
    if load.concurrency == 1:
        return 0
    new, out = measured
    work = out + new / PREFILL_SPEEDUP
    users = load.concurrency * workload.turns
    return min(load.requests + users, users * (1 + math.ceil(TAIL_OUTPUTS * float(work.max() / work.mean()))))


def _drawn(workload: Workload, key: str, phase: str, first: int, count: int, rows: pl.DataFrame | None,
           ) -> tuple[Ints, Ints]:
    """Returns new prompt tokens and answer tokens of `count` requests: those of a trace from position `first` on, or
    drawn."""
    if rows is not None:
        return traces.lengths(rows, workload, first, count)
    return (lengths(workload.input_tokens, workload.input_scale, count, generator("input", phase, key)),
            lengths(workload.output_tokens, workload.output_scale, count, generator("output", phase, key)))


def lengths(wanted: Lengths, scale: float, count: int, rng: np.random.Generator) -> Ints:
    """Returns `count` draws times scale, rounded, cut to [min, max] times scale and never below one token.

    A longer draw from the same stream begins with the shorter one.
    """
    if wanted.distribution == "fixed":
        values = np.full(count, wanted.mean or 1.0)
    elif wanted.distribution == "lognormal":
        values = np.exp((wanted.mu or 0.0) + (wanted.sigma or 0.0) * rng.standard_normal(count))
    else:
        values = wanted.min + np.floor(rng.random(count) * (wanted.max - wanted.min + 1))
    low = max(1, round(wanted.min * scale))
    return np.clip(np.rint(values * scale), low, max(low, round(wanted.max * scale))).astype(np.int64)


def _phases(workload: Workload, drawn: dict[str, tuple[Ints, Ints]]) -> pl.DataFrame:
    """The requests of all phases, numbered through."""
    parts, sessions = [], 0
    for phase, (new, out) in drawn.items():
        parts.append(_phase(workload, phase, sessions, new, out))
        sessions += -(-len(new) // workload.turns)
    return pl.concat(parts).with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias("request_index"))


def _phase(workload: Workload, phase: str, first_session: int, new: Ints, out: Ints) -> pl.DataFrame:
    """The requests of one phase in whole sessions; the last has fewer turns where the count asks for it."""
    index = np.arange(len(new))
    turn = index % workload.turns
    before = np.where(turn > 0, np.concatenate([[0], (new + out)[:-1]]) if len(new) else new, 0)
    carried = np.cumsum(before) - _at_session_start(np.cumsum(before), turn)
    prefix = prefix_tokens(workload)
    data: dict[str, Any] = {
        "session": first_session + index // workload.turns, "turn": turn, "phase": [phase] * len(new),
        "input_tokens_planned": prefix + carried + new, "output_tokens_planned": out, "new_tokens": new,
    }
    return pl.DataFrame(data).cast({pl.Int64: pl.Int32}) if len(new) else pl.DataFrame(schema={
        k: pl.String() if k == "phase" else pl.Int32() for k in data})


def _at_session_start(running: Ints, turn: Ints) -> Ints:
    """The running sum as it was at each session's first turn."""
    starts = np.flatnonzero(turn == 0)
    return running[starts].repeat(np.diff(np.append(starts, len(turn)))) if len(turn) else running


def prefix_tokens(workload: Workload) -> int:
    """The shared prefix, scaled as prompts are."""
    return round(workload.shared_prefix_tokens * workload.input_scale)


def _first_turns(requests: pl.DataFrame, offsets: Ints | None) -> pl.Series:
    if offsets is None:
        return pl.Series(values=[None] * requests.height, dtype=pl.Int64)
    due = pl.Series(values=offsets[requests["session"].to_numpy()], dtype=pl.Int64)
    return due.zip_with(requests["turn"] == 0, pl.Series(values=[None] * requests.height, dtype=pl.Int64))
