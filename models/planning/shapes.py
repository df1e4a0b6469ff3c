"""Curves over concurrency as an average over shapes, by their probability: the form that predicts left-out points best.

A quantity y (TPOT, TTFT, or time a token) is y(c) = A · (p(c) + (c/c0)^k) · exp(g(c)): a base for each of the p passes
through the weights that a step takes (1, but see points.Slots.passes), a part that grows with the load (a·p + b·c^k,
written so that its shape is c0 and k alone), and a smooth deviation g, a Gaussian process over log c.
Three measured points leave c0 and k open. Instead of one best guess, every shape of a grid is weighed by how probable
it is (learned from other curves) and by how well it agrees with the points; predictions are averaged over all of them,
and their spread gives the interval. Source: Bayesian model averaging (Hoeting et al., 1999) over kriged trends
(Rasmussen and Williams, 2006, chapter 2.7). Everything is in logarithms, so errors are relative.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

EXPONENTS = np.linspace(0.2, 1.6, 15)
LOG_TURNS = np.linspace(-3.0, 11.0, 29)
SCALES = np.geomspace(0.003, 0.5, 9)
GRID = np.stack(np.meshgrid(EXPONENTS, LOG_TURNS, indexing="ij"), axis=-1).reshape(-1, 2)


@dataclass(frozen=True)
class Prior:
    """What other curves say of a quantity's shape, before any point of this one is seen.

    exponent and log_turn: mean and standard deviation of k and of log c0, normal, with their correlation; scale: of the
    logarithm of the deviation's size (0.05 is 5 %). length is the reach of the deviation in log c, nugget the share of
    it that is noise of each point. reach: how many standard deviations hold 90 % of left-out points between fitted
    ones; reach_beyond: of points outside them.
    """

    exponent: tuple[float, float]
    log_turn: tuple[float, float]
    correlation: float
    log_scale: tuple[float, float]
    length: float
    nugget: float
    reach: float = 1.645
    reach_beyond: float = 3.0

    def log_weights(self) -> Array:
        """Log probability of each shape and scale, (shapes, scales), summing to 1."""
        a = (GRID[:, 0] - self.exponent[0]) / self.exponent[1]
        b = (GRID[:, 1] - self.log_turn[0]) / self.log_turn[1]
        shapes = -(a * a - 2 * self.correlation * a * b + b * b) / 2 / (1 - self.correlation**2)
        scales = -(((np.log(SCALES) - self.log_scale[0]) / self.log_scale[1]) ** 2) / 2
        weights: Array = shapes[:, None] + scales[None, :]
        total = float(np.logaddexp.reduce(weights, axis=None))
        return weights - total


@dataclass(frozen=True)
class Posterior:
    """Shapes weighed by points; see `condition`."""

    prior: Prior
    at: Array
    weights: Array
    level: Array
    deviation: Array
    inverse: Array

    def predict(self, log_concurrency: Array, passes: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of log y at each log concurrency, of so many passes a step."""
        cross = _kernel(log_concurrency, self.at, self.prior.length)
        ones = np.ones(len(self.at))
        of_shape = (_trend(log_concurrency, passes) + self.level[:, None]
                    + (self.deviation - self.level[:, None]) @ self.inverse @ cross.T)
        shape_weights, scale_weights = self.weights.sum(axis=1), self.weights.sum(axis=0)
        mean = shape_weights @ of_shape
        unit = (1 + self.prior.nugget - np.einsum("qi,ij,qj->q", cross, self.inverse, cross)
                + (1 - cross @ self.inverse @ ones) ** 2 / self.inverse.sum())
        variance = shape_weights @ (of_shape - mean) ** 2 + (scale_weights @ SCALES**2) * np.maximum(unit, 0.0)
        return mean, np.sqrt(variance)

    def shape(self) -> tuple[float, float, float]:
        """Mean log A, k and log c0."""
        of_shape = self.weights.sum(axis=1)
        return float(of_shape @ self.level), float(of_shape @ GRID[:, 0]), float(of_shape @ GRID[:, 1])


def condition(log_concurrency: Array, log_value: Array, passes: Array, prior: Prior) -> Posterior:
    """Weighs every shape by the points (any number from one on) and the prior."""
    level, deviation, inverse, likelihood = _against(log_concurrency, log_value, passes, prior.length,
                                                       prior.nugget)
    weights = likelihood + _log_weights(prior)
    weights = np.exp(weights - weights.max())
    return Posterior(prior, log_concurrency, weights / weights.sum(), level, deviation, inverse)


def log_likelihood(log_concurrency: Array, log_value: Array, passes: Array, length: float, nugget: float) -> Array:
    """Log likelihood of the points under each shape and scale, (shapes, scales), whatever their common level."""
    return _against(log_concurrency, log_value, passes, length, nugget)[3]


def _against(at: Array, values: Array, passes: Array, length: float, nugget: float,
             ) -> tuple[Array, Array, Array, Array]:
    inverse, log_determinant = _inverse(tuple(at.tolist()), length, nugget)
    deviation: Array = values - _trend(at, passes)
    level: Array = deviation @ inverse.sum(axis=1) / inverse.sum()
    misfit = ((deviation @ inverse) * deviation).sum(axis=1) - inverse.sum() * level**2
    free = len(at) - 1
    constant = log_determinant + np.log(inverse.sum()) + free * np.log(2 * np.pi)
    likelihood: Array = -(np.maximum(misfit, 0.0)[:, None] / SCALES**2 + constant) / 2 - free * np.log(SCALES)
    return level, deviation, inverse, likelihood


@lru_cache(maxsize=256)  # thousands of curves are measured at the same few loads
def _inverse(at: tuple[float, ...], length: float, nugget: float) -> tuple[Array, float]:
    """Of the points' covariance, and the logarithm of its determinant."""
    places = np.array(at)
    covariance = _kernel(places, places, length) + nugget * np.eye(len(at))
    return np.asarray(np.linalg.inv(covariance), float), float(np.linalg.slogdet(covariance)[1])


def _trend(at: Array, passes: Array) -> Array:
    """log(passes + (c/c0)^k) of every shape, (shapes, points)."""
    return _trend_at(tuple(at.tolist()), tuple(passes.tolist()))


@lru_cache(maxsize=256)
def _trend_at(at: tuple[float, ...], passes: tuple[float, ...]) -> Array:
    return np.logaddexp(np.log(passes)[None, :], GRID[:, :1] * (np.array(at)[None, :] - GRID[:, 1:]))


def _kernel(one: Array, other: Array, length: float) -> Array:
    """Matérn 3/2: once differentiable, as measured curves with their changes of kernels and batch sizes are."""
    distance = np.sqrt(3.0) * np.abs(one[:, None] - other[None, :]) / length
    kernel: Array = (1 + distance) * np.exp(-distance)
    return kernel


@lru_cache(maxsize=64)
def _log_weights(prior: Prior) -> Array:
    return prior.log_weights()
