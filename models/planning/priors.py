"""What measured curves have in common, and how that is learned: by expectation maximisation over other curves.

The shipped figures were learned from all public curves whose configuration is told (aiconfigurator-core 0.12.0, see
flows.accuracy_public); `python -m bench.curves --learn` recomputes them. No error figure uses them as they stand: each
curve is predicted with a prior learned without any curve of its model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from models.planning.points import CurveQuantity as CurveQuantity
from models.planning.points import Slots
from models.planning.shapes import GRID, SCALES, Array, Prior, log_likelihood

SHIPPED: dict[CurveQuantity, Prior] = {
    "tpot": Prior((0.754, 0.189), (2.83, 0.954), 0.427, (-2.44, 0.639), 2.0, 0.02,
                  reach=1.395, reach_beyond=2.102),
    "throughput": Prior((0.791, 0.192), (3.001, 0.88), 0.458, (-2.431, 0.642), 2.0, 0.02,
                        reach=1.407, reach_beyond=1.957),
    "ttft": Prior((0.921, 0.125), (3.411, 0.855), 0.817, (-1.634, 0.617), 2.0, 0.05,
                  reach=2.053, reach_beyond=8.264),
}

APART_EXPONENT, APART_LOG_TURN = (1.0, 0.1), (1.0, 1.5)
"""Shape where slots are apart: passes are counted, and what is left is done sequence by sequence. Chosen by leaving
points out of 9 curves of llama-server on two cores (throughput 8.1 % off without passes, 6.0 % so), as public curves
have none such; anything as wide does as well."""

STEEPNESS: dict[CurveQuantity, float] = {"tpot": 4.0, "throughput": 4.0, "ttft": 1.2}
"""models.planning.knee.served's steepness. A queue that is taken for one in error costs TPOT and throughput more than
one that is overlooked; for TTFT it is the other way round."""


def shipped(quantity: CurveQuantity, slots: Slots) -> Prior:
    """The prior of a curve of which nothing else is known."""
    known = SHIPPED[quantity]
    if quantity == "ttft" or not slots.apart:
        return known
    return replace(known, exponent=APART_EXPONENT, log_turn=APART_LOG_TURN, correlation=0.0)


def likelihoods(curves: Sequence[tuple[Array, Array]], prior: Prior) -> Array:
    """Log likelihoods of (log concurrency, log value) curves, (curves, shapes, scales), with the prior's kernel."""
    return np.stack([log_likelihood(at, value, np.ones_like(at), prior.length, prior.nugget) for at, value in curves])


def learn(of_curves: Array, kernel: Prior, rounds: int = 40) -> Prior:
    """Returns `kernel` with mean and spread of k, log c0 and log scale learned from curves' log likelihoods, whatever
    they were."""
    found = replace(kernel, exponent=(0.7, 0.3), log_turn=(3.0, 2.0), correlation=0.0, log_scale=(-2.5, 0.8))
    flat = of_curves.reshape(len(of_curves), -1)
    likelihood = np.exp(flat - flat.max(axis=1, keepdims=True)).astype(np.float32)
    for _ in range(rounds):
        weights = np.exp(found.log_weights()).astype(np.float32)
        share = weights * (likelihood.T @ (1 / (likelihood @ weights.ravel()))).reshape(weights.shape)
        found = _with_moments(found, share / len(likelihood))
    return found


def _with_moments(prior: Prior, share: Array) -> Prior:
    shapes, scales = share.sum(axis=1), share.sum(axis=0)
    means = shapes @ GRID
    spreads = np.sqrt(shapes @ (GRID - means) ** 2)
    together = shapes @ ((GRID[:, 0] - means[0]) * (GRID[:, 1] - means[1])) / spreads.prod()
    mean = float(scales @ np.log(SCALES))
    spread = float(np.sqrt(scales @ (np.log(SCALES) - mean) ** 2))
    return replace(prior, exponent=(float(means[0]), float(spreads[0])), log_turn=(float(means[1]), float(spreads[1])),
                   correlation=float(np.clip(together, -0.95, 0.95)), log_scale=(mean, max(spread, 0.2)))
