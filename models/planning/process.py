"""A Gaussian process over rows that have numbers and labels: what is alike in both is expected to err alike.

The covariance is a sum of parts. Each is a Matérn-3/2 function of the distance in some features, each with a length
scale of its own (automatic relevance determination), and counts only between rows that share the part's labels: what
one engine's rows have in common says nothing of another engine. Where a label is new, its part adds its whole variance,
so that an interval widens by itself. Scales are learnt by maximum marginal likelihood.

Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), chapters 2, 4, 5 (leaving out: 5.4.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

_JITTER = 1e-8
_SCALE_PRIOR, _VARIANCE_PRIOR = (np.log(0.1), 2.0), (np.log(0.01), 2.5)  # mean and sd of logarithms; weak
_BOUNDS = (-9.0, 3.0), (-12.0, 2.0), (-9.0, -1.0)  # of inverse squared length scales, variances, noise (logarithms)


class Part(NamedTuple):
    """One part of the covariance: the labels that rows must share, and the columns whose distance counts. Parts with
    the same columns share their length scales."""

    labels: tuple[str, ...]
    columns: tuple[int, ...]


@dataclass(frozen=True)
class Points:
    """features (n × columns), about standardised; labels: a code (n) for each name, −1 where it is unlike any other."""

    features: Floats
    labels: Mapping[str, Codes]

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: npt.NDArray[np.intp]) -> Points:
        return Points(self.features[rows], {name: codes[rows] for name, codes in self.labels.items()})


@dataclass(frozen=True)
class Scales:
    """Logarithms: inverse squared length scales of each set of columns, a variance of each part, and the noise's."""

    parts: tuple[Part, ...]
    values: Floats

    @property
    def families(self) -> list[tuple[int, ...]]:
        return list(dict.fromkeys(part.columns for part in self.parts if part.columns))

    @property
    def widths(self) -> int:
        return sum(map(len, self.families))

    @property
    def variances(self) -> Floats:
        return np.exp(self.values[self.widths:-1])

    @property
    def noise(self) -> float:
        return float(np.exp(self.values[-1]))


class Matern(NamedTuple):
    """By family of columns: the function of the rows' distance (n × m), and its derivative by the squared distance."""

    values: dict[tuple[int, ...], Floats]
    slopes: dict[tuple[int, ...], Floats]


def covariance(scales: Scales, a: Points, b: Points) -> Floats:
    """Of the rows of a with those of b (n × m), noise left out."""
    total = np.zeros((len(a), len(b)))
    for part in _parts(scales, _matern(scales, a, b), a, b):
        total += part
    return total


def learn(parts: Sequence[Part], points: Points, values: Floats, *, most_rows: int = 400, rounds: int = 40,
          seed: int = 0) -> Scales:
    """Scales of greatest marginal likelihood (with weak priors) on a random `most_rows` of the rows: its cost grows
    with their cube, and scales need fewer rows than predictions do."""
    chosen = np.random.default_rng(seed).permutation(len(values))[:most_rows]
    some, target = points.take(chosen), values[chosen]
    start = Scales(tuple(parts), np.zeros(0))
    first = np.concatenate([np.full(start.widths, np.log(0.1)), np.full(len(parts), np.log(0.02)), [np.log(0.005)]])
    bounds = [_BOUNDS[0]] * start.widths + [_BOUNDS[1]] * len(parts) + [_BOUNDS[2]]
    found = minimize(lambda at: _unlikelihood(Scales(start.parts, at), some, target), first, jac=True,
                     method="L-BFGS-B", bounds=bounds, options={"maxiter": rounds})
    return Scales(start.parts, np.asarray(found.x, float))


class Process:
    """Conditioned on rows: predicts others, and each of its own as if its group had not been there."""

    def __init__(self, scales: Scales, points: Points, values: Floats) -> None:
        self.scales, self.points, self.values = scales, points, values
        matrix = covariance(scales, points, points)
        matrix[np.diag_indices_from(matrix)] += scales.noise + _JITTER
        self._factor = cho_factor(matrix, lower=True, overwrite_a=True)
        self._weights = cho_solve(self._factor, values)

    @property
    def prior_sd(self) -> float:
        """Standard deviation where nothing is known."""
        return float(np.sqrt(self.scales.variances.sum() + self.scales.noise))

    def predict(self, points: Points) -> tuple[Floats, Floats]:
        """Means and standard deviations, of a measurement (noise included)."""
        cross = covariance(self.scales, points, self.points)
        known = (solve_triangular(self._factor[0], cross.T, lower=True) ** 2).sum(0)
        return cross @ self._weights, np.sqrt(np.maximum(self.prior_sd ** 2 - known, self.scales.noise))

    def inverse(self) -> Floats:
        """Of the covariance, n × n."""
        return np.asarray(cho_solve(self._factor, np.eye(len(self.values)), overwrite_b=True))


def left_out(inverse: Floats, values: Floats, rows: npt.NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Errors (value − prediction) and standard deviations of these rows, predicted from all the others (in one solve:
    the inverse's block of the rows, inverted, is their covariance given the rest)."""
    block = np.linalg.inv(inverse[np.ix_(rows, rows)])
    return block @ (inverse[rows] @ values), np.sqrt(np.diag(block))


def _alike(part: Part, a: Points, b: Points) -> npt.NDArray[np.bool_] | None:
    found: npt.NDArray[np.bool_] | None = None
    for name in part.labels:
        left, right = a.labels[name][:, None], b.labels[name][None]
        same = (left == right) & (left >= 0)
        found = same if found is None else found & same
    return found


def _matern(scales: Scales, a: Points, b: Points) -> Matern:
    inverse, found, at = np.exp(scales.values), Matern({}, {}), 0
    for family in scales.families:
        root = np.sqrt(inverse[at:at + len(family)])
        left, right = a.features[:, family] * root, b.features[:, family] * root
        squared = (left ** 2).sum(1)[:, None] + (right ** 2).sum(1)[None] - 2 * left @ right.T
        far = np.sqrt(3 * np.maximum(squared, 1e-12))
        decay = np.exp(-far)
        found.values[family], found.slopes[family] = (1 + far) * decay, -1.5 * decay
        at += len(family)
    return found


def _parts(scales: Scales, matern: Matern, a: Points, b: Points) -> Iterator[Floats]:
    for part, variance in zip(scales.parts, scales.variances, strict=True):
        alike = _alike(part, a, b)
        value = variance * matern.values[part.columns] if part.columns else np.full((len(a), len(b)), variance)
        yield value if alike is None else value * alike


def _unlikelihood(scales: Scales, points: Points, values: Floats) -> tuple[float, Floats]:
    """Negative logarithm of the marginal likelihood with its priors, and its gradient (chapter 5.4.1)."""
    matern = _matern(scales, points, points)
    each = list(_parts(scales, matern, points, points))
    try:
        factor = cho_factor(sum(each) + (scales.noise + _JITTER) * np.eye(len(values)), lower=True)
    except np.linalg.LinAlgError:
        return 1e10, np.zeros(len(scales.values))
    inverse = cho_solve(factor, np.eye(len(values)))
    weights = inverse @ values
    outer = 0.5 * (inverse - np.outer(weights, weights))
    by_variance = [float((outer * part).sum()) for part in each]
    gradient = np.concatenate([_by_width(scales, matern, outer, points), by_variance,
                               [np.trace(outer) * scales.noise]])
    value = 0.5 * float(values @ weights) + float(np.log(np.diag(factor[0])).sum())
    for cut, (mean, sd) in ((slice(0, scales.widths), _SCALE_PRIOR), (slice(scales.widths, -1), _VARIANCE_PRIOR)):
        z = (scales.values[cut] - mean) / sd
        value += 0.5 * float(z @ z)
        gradient[cut] += z / sd
    return value, gradient


def _by_width(scales: Scales, matern: Matern, outer: Floats, points: Points) -> Floats:
    """Gradient by the inverse squared length scales: Σ over pairs of outer · slope · width · squared difference."""
    found, widths = [], np.exp(scales.values[:scales.widths])
    for family in scales.families:
        slope = np.zeros_like(outer)
        for part, variance in zip(scales.parts, scales.variances, strict=True):
            if part.columns == family:
                alike = _alike(part, points, points)
                slope += variance * matern.slopes[family] * (1.0 if alike is None else alike)
        weighed = outer * slope
        for column in family:
            x = points.features[:, column]
            found.append(2 * (weighed.sum(1) @ x ** 2 - x @ (weighed @ x)))
    return np.asarray(found) * widths
