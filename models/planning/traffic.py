"""When requests come over a long time: at a rate, or along a day's profile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.errors import UserError

Floats = npt.NDArray[np.float64]
Arrivals = Literal["poisson", "gamma", "constant"]
DAY_S = 86_400.0


def arrivals(rate: float, duration_s: float, rng: np.random.Generator, kind: Arrivals = "poisson",
             burstiness: float = 1.0, profile: Sequence[float] | None = None, period_s: float = DAY_S) -> Floats:
    """Returns the seconds at which requests come within [0, duration_s), ascending.

    rate: requests a second, mean over the whole profile. kind: gaps that are exponential, gamma with `burstiness` as
    their coefficient of variation, or all alike. profile: relative load of equal parts of the period (24 numbers: the
    hours of a day), which is repeated; points of a process of a steady rate are moved so that they come at that of the
    hour (time rescaling). Raises UserError for a rate, a duration or a profile that is none.
    """
    if rate <= 0 or duration_s <= 0:
        raise UserError(f"rate, duration: {rate:g} requests a second for {duration_s:g} s: both must be above 0")
    if profile is None:
        return _steady(rate, duration_s, rng, kind, burstiness)
    knots_s, expected = _cumulated(profile, period_s, duration_s)
    even = _steady(rate, float(expected[-1]), rng, kind, burstiness)
    return np.asarray(np.interp(even, expected, knots_s))


def _steady(rate: float, duration_s: float, rng: np.random.Generator, kind: Arrivals, burstiness: float) -> Floats:
    if kind == "constant":
        return np.arange(0.0, duration_s, 1 / rate)
    shape = 1.0 if kind == "poisson" else 1 / burstiness**2
    parts, reached = [], 0.0
    while reached < duration_s:
        wanted = int((duration_s - reached) * rate * 1.01) + 100
        parts.append(reached + np.cumsum(rng.standard_gamma(shape, wanted) / (shape * rate)))
        reached = float(parts[-1][-1])
    came = np.concatenate(parts)
    return came[came < duration_s]


def _cumulated(profile: Sequence[float], period_s: float, duration_s: float) -> tuple[Floats, Floats]:
    """Seconds, and how many seconds at the mean rate bring as many requests as have come by then."""
    load = np.asarray(profile, float)
    if load.ndim != 1 or not load.size or (load < 0).any() or not np.isfinite(load).all() or load.sum() <= 0:
        raise UserError("profile: numbers of 0 and more, not all of them 0: the relative load of each part of a day")
    part_s = period_s / load.size
    parts = int(np.ceil(duration_s / part_s))
    knots_s = np.minimum(np.arange(parts + 1) * part_s, duration_s)
    each = np.resize(load / load.mean(), parts)
    return knots_s, np.concatenate([[0.0], np.cumsum(each * np.diff(knots_s))])
