"""The forms that curves over concurrency are usually given: the rivals of models.planning.curves, least squares each.

Every form gives y, which grows with concurrency: TPOT or TTFT in ms, and for throughput the time a token,
concurrency / throughput in s. Fits are in relative error; parameters are not negative.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize_scalar, nnls

from models.planning.shapes import Array

Curve = Callable[[Array], Array]


def straight(concurrency: Array, value: Array) -> Curve:
    """y = a + b·c (a queue's linear growth; for throughput the hyperbola c / (a + b·c))."""
    (a, b), _ = _fit([np.ones_like(concurrency), concurrency], value)
    return lambda c: a + b * c


def power(concurrency: Array, value: Array) -> Curve:
    """y = a + b·c^k, k from 0.02 to 2 (the best of the known forms over public curves, facts of 2026-11)."""
    def misfit(k: float) -> float:
        return _fit([np.ones_like(concurrency), concurrency**k], value)[1]
    coarse = min(np.arange(0.05, 2.01, 0.05), key=misfit)
    k = float(minimize_scalar(misfit, bounds=(max(coarse - 0.05, 0.02), coarse + 0.05), method="bounded").x)
    (a, b), _ = _fit([np.ones_like(concurrency), concurrency**k], value)
    return lambda c: a + b * c**k


def scalability(concurrency: Array, value: Array) -> Curve:
    """y = (1 + σ(c − 1) + κc(c − 1)) / λ, the universal scalability law (Gunther, 2007)."""
    def terms(c: Array) -> list[Array]:
        return [np.ones_like(c), c - 1, c * (c - 1)]
    found, _ = _fit(terms(concurrency), value)
    return lambda c: np.stack(terms(c), axis=-1) @ found


def interpolated(concurrency: Array, value: Array) -> Curve:
    """Straight lines between the points, in the logarithms of both; flat outside them."""
    return lambda c: np.exp(np.interp(np.log(c), np.log(concurrency), np.log(value)))


RIVALS: dict[str, Callable[[Array, Array], Curve]] = {
    "a + b·c": straight, "a + b·c^k": power, "universal scalability law": scalability,
    "log-log interpolation": interpolated}


def _fit(terms: list[Array], value: Array) -> tuple[Array, float]:
    found, misfit = nnls(np.stack(terms, axis=-1) / value[:, None], np.ones_like(value))
    return found, float(misfit)
