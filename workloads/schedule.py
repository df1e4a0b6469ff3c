"""What is asked and when, fixed from the seed before the clock starts.

The same workload, load and seed give the same plan on every machine and in every process: draws come from NumPy's
PCG64, seeded from the content hash of the workload (and of the load, where the load matters). The measured requests of
one workload have the same lengths under every load, so that one user and eight answer the same questions.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from models.specs import Lengths, Load, Workload, content_id

Ints = npt.NDArray[np.int64]

TAIL_OUTPUTS = 2.0
"""Closed loop: each user's tail work, in multiples of the longest measured request, so that the load outlasts it."""


@dataclass(frozen=True)
class Plan:
    """Every request of a run, in the order of their sessions, a session's turns together.

    Columns of `requests`: request_index, session, turn, phase (models.frames.PHASES), input_tokens_planned (the whole
    prompt: shared prefix, earlier turns and their answers, and what is new), output_tokens_planned, new_tokens (what
    this turn adds to the prompt), offset_ns (open loop: when a session's first turn is due; else null).
    """

    requests: pl.DataFrame
    text_seed: int

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
        return hashlib.sha256(f"{self.text_seed}\n{self.requests.write_csv()}".encode()).hexdigest()


PREFILL_SPEEDUP = 8
"""Prompt tokens that take about as long as one of the answer, for that estimate only."""


def plan(workload: Workload, load: Load, seed: int, repeat: int = 0) -> Plan:
    """Returns the plan of a run. `repeat` changes the words of the prompts and nothing else, so that an engine's prefix
    cache does not remember an earlier repeat."""
    measured = load.requests
    key = f"{content_id(workload)} {seed}"
    drawn = _drawn(workload, key, "measured", measured)
    counts = {"warmup": _warmup(workload, load), "measured": measured, "tail": _tail(workload, load, drawn)}
    parts, sessions = [], 0
    for phase, count in counts.items():
        new, out = drawn if phase == "measured" else _drawn(workload, key, phase, count)
        parts.append(_phase(workload, phase, sessions, new, out))
        sessions += -(-count // workload.turns)
    requests = pl.concat(parts).with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias("request_index"))
    offsets = _arrivals(load, workload.turns, sessions, generator("arrivals", key, content_id(load)))
    requests = requests.with_columns(offset_ns=_first_turns(requests, offsets))
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


def _tail(workload: Workload, load: Load, measured: tuple[Ints, Ints]) -> int:
    """Upper bound of the requests that keep the load up until the last measured one has ended.

    Open loop: as many as can arrive before its deadline, at most as many again as are measured.
    """
    if load.concurrency is None:
        return min(load.requests, math.ceil((load.request_rate or 0) * load.timeout_s))
    if load.concurrency == 1:
        return 0
    new, out = measured
    work = out + new / PREFILL_SPEEDUP
    users = load.concurrency * workload.turns
    return min(load.requests + users, users * (1 + math.ceil(TAIL_OUTPUTS * float(work.max() / work.mean()))))


def _drawn(workload: Workload, key: str, phase: str, count: int) -> tuple[Ints, Ints]:
    """Returns new prompt tokens and answer tokens of `count` requests."""
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


def _arrivals(load: Load, turns: int, sessions: int, rng: np.random.Generator) -> Ints | None:
    """When each session is due, in ns from the start; None in a closed loop.

    Sessions arrive at request_rate / turns, so that requests come at request_rate. Gaps are whole microseconds (adding
    them up is then exact everywhere): constant, from 0 on, or gamma of shape 1/CV², of which Poisson's CV is 1.
    """
    if load.request_rate is None:
        return None
    mean_us = 1e6 * turns / load.request_rate
    if load.arrivals == "constant":
        offsets_us: Ints = np.rint(np.arange(sessions) * mean_us).astype(np.int64)
    else:
        shape = 1.0 if load.arrivals == "poisson" else 1 / load.burstiness**2
        gaps_us = rng.standard_gamma(shape, sessions) * (mean_us / shape)
        offsets_us = np.cumsum(np.rint(gaps_us).astype(np.int64))
    return offsets_us * 1000


def _first_turns(requests: pl.DataFrame, offsets: Ints | None) -> pl.Series:
    if offsets is None:
        return pl.Series(values=[None] * requests.height, dtype=pl.Int64)
    due = pl.Series(values=offsets[requests["session"].to_numpy()], dtype=pl.Int64)
    return due.zip_with(requests["turn"] == 0, pl.Series(values=[None] * requests.height, dtype=pl.Int64))
