"""When the requests of an open loop are due."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.specs import Load

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def offsets_ns(load: Load, turns: int, sessions: int, warmup_sessions: int, rng: np.random.Generator) -> Ints | None:
    """Returns when each session is due, in ns from the start; None in a closed loop.

    Sessions arrive at request_rate / turns, so that requests come at request_rate. Gaps are whole microseconds (adding
    them up is then exact everywhere): constant, from 0 on, or gamma of shape 1/CV², of which Poisson's CV is 1. For a
    ramp they are drawn at one a second and rescaled in time (the warm-up at the first rate).
    """
    if load.request_rate is None:
        return None
    if load.request_rate_end is None:
        return _steady_us(load, 1e6 * turns / load.request_rate, sessions, rng) * 1000
    requests = np.asarray(_steady_us(load, 1e6, sessions, rng) * (turns / 1e6), np.float64)
    start = float(requests[warmup_sessions]) if warmup_sessions < sessions else 0.0
    ramp_s = _ramp_s(requests - start, load.request_rate, load.request_rate_end, load.requests)
    return np.rint((start / load.request_rate + ramp_s) * 1e6).astype(np.int64) * 1000


def _steady_us(load: Load, mean_us: float, count: int, rng: np.random.Generator) -> Ints:
    """Arrivals at a steady rate: the sum of `count` gaps of mean_us."""
    if load.arrivals == "constant":
        return np.asarray(np.rint(np.arange(count) * mean_us), np.int64)
    shape = 1.0 if load.arrivals == "poisson" else 1 / load.burstiness**2
    gaps_us = rng.standard_gamma(shape, count) * (mean_us / shape)
    return np.cumsum(np.rint(gaps_us).astype(np.int64))


def _ramp_s(requests: Floats, rate: float, end: float, count: int) -> Floats:
    """Returns the seconds at which so many requests have come, where the rate goes from `rate` at 0 to `end` at the
    `count`-th in a straight line, and is steady before and after.

    The inverse of the cumulated rate, requests = rate·s + slope·s²/2 with slope = (end² − rate²) / (2·count): points of
    a Poisson process of rate one become points of one of that rate (time rescaling). In a form without cancellation.
    """
    within = np.clip(requests, 0, count)
    slope = (end**2 - rate**2) / (2 * count)
    ramp_s = 2 * within / (rate + np.sqrt(np.maximum(rate**2 + 2 * slope * within, 0)))
    return np.minimum(requests, 0) / rate + ramp_s + np.maximum(requests - count, 0) / end
