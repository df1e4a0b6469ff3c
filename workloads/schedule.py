"""The plan of a run: every length, phase and arrival, fixed from the seed before the clock starts.

The same seed gives the same requests on every machine and under every load, so that two engines, or one engine at two
concurrencies, answer the same questions.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.specs import Lengths, Load, Workload

Ints = NDArray[np.int64]

WARMUP, MEASURED, TAIL = 0, 1, 2
"""Codes of models.frames.PHASES."""
OPEN_WARMUP_SHARE = 0.1
"""Warm-up of an open loop when none is asked for: this share of the measured requests."""


@dataclass(frozen=True)
class Plan:
    """One row a request, in the order of sending within a session; sessions in the order of starting.

    `arrival_ns` is the planned start of each session (open loop), or None (closed loop: when a user is free).
    `prompt_tokens` is what the request's prompt holds in all: shared prefix, earlier turns and its own input.
    """

    session: Ints
    turn: Ints
    phase: Ints
    input_tokens: Ints
    output_tokens: Ints
    prompt_tokens: Ints
    arrival_ns: Ints | None
    seed: int

    @property
    def height(self) -> int:
        """Number of requests."""
        return len(self.session)

    @property
    def longest_tokens(self) -> int:
        """Tokens of the longest request, prompt and answer."""
        return int((self.prompt_tokens + self.output_tokens).max())


def plan(workload: Workload, load: Load, seed: int) -> Plan:
    """Plans warm-up, measured and tail requests. Whole sessions are planned: a count that turns do not divide is
    rounded up. The tail is as long as the measured part, so that the load lasts until the last of it has ended."""
    turns = workload.turns
    counts = [-(-n // turns) for n in (_warmup(load), load.requests, load.requests + (load.concurrency or 0))]
    sessions = sum(counts)
    phase = np.repeat(np.arange(3), counts).repeat(turns)
    # Measured sessions draw first: their lengths do not depend on how long the warm-up is.
    order = np.concatenate([np.arange(counts[1], counts[1] + counts[0]), np.arange(counts[1]),
                            np.arange(counts[0] + counts[1], sessions)])
    inputs = _draw(workload.input_tokens, workload.input_scale, sessions * turns, seed, "input")
    outputs = _draw(workload.output_tokens, workload.output_scale, sessions * turns, seed, "output")
    inputs, outputs = (x.reshape(sessions, turns)[order] for x in (inputs, outputs))
    prefix = shared_prefix(workload)
    before = np.cumsum(inputs + outputs, axis=1) - (inputs + outputs)
    return Plan(session=np.arange(sessions).repeat(turns), turn=np.tile(np.arange(turns), sessions), phase=phase,
                input_tokens=inputs.ravel(), output_tokens=outputs.ravel(),
                prompt_tokens=(prefix + before + inputs).ravel(), arrival_ns=_arrivals(load, sessions, turns, seed),
                seed=seed)


def shared_prefix(workload: Workload) -> int:
    """Tokens of the prompt that every session begins with, scaled."""
    return round(workload.shared_prefix_tokens * workload.input_scale)


def generator(seed: int, *purpose: object) -> np.random.Generator:
    """A stream of random numbers of its own for each purpose, the same on every machine."""
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def _warmup(load: Load) -> int:
    if load.warmup_requests is not None:
        return load.warmup_requests
    return load.concurrency or max(1, round(OPEN_WARMUP_SHARE * load.requests))


def _draw(lengths: Lengths, scale: float, n: int, seed: int, purpose: str) -> Ints:
    """Draws, then scales, then cuts to the scaled bounds (at least one token)."""
    random = generator(seed, purpose)
    if lengths.distribution == "lognormal":
        raw = random.lognormal(lengths.mu or 0.0, lengths.sigma or 0.0, n)
    elif lengths.distribution == "uniform":
        raw = random.uniform(lengths.min, lengths.max, n)
    else:
        raw = np.full(n, lengths.mean or 1.0)
    low, high = (max(1, round(bound * scale)) for bound in (lengths.min, lengths.max))
    return np.clip(np.rint(raw * scale), low, high).astype(np.int64)


def _arrivals(load: Load, n: int, turns: int, seed: int) -> Ints | None:
    """Absolute offsets of sessions in ns; the first comes at once. Gamma gaps have coefficient of variation
    `burstiness` (1 is Poisson)."""
    if load.request_rate is None:
        return None
    mean_ns = 1e9 * turns / load.request_rate
    random = generator(seed, "arrivals")
    if load.arrivals == "constant":
        gaps = np.full(n, mean_ns)
    elif load.arrivals == "poisson":
        gaps = random.exponential(mean_ns, n)
    else:
        shape = 1 / load.burstiness**2
        gaps = random.gamma(shape, mean_ns / shape, n)
    offsets = np.cumsum(gaps)
    out: Ints = np.rint(offsets - offsets[0]).astype(np.int64)
    return out
