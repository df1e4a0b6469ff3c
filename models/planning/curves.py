"""Level 3: TPOT, throughput and TTFT over concurrency, calibrated on measured points of one setup and workload.

    fitted = fit(points, "throughput", slots=Slots(most=8))
    fitted.predict(24)          # Prediction(value=…, low=…, high=…, extrapolates=False)
    fitted.error, fitted.of     # share, left out-of-sample, and of how many points
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from models.errors import UserError
from models.identity import Record
from models.planning import knee
from models.planning.points import UNKNOWN_SLOTS, CurvePoint, Prediction, Slots, merged
from models.planning.priors import STEEPNESS, CurveQuantity, shipped
from models.planning.shapes import Array, Posterior, Prior, condition

FORM = "a·passes + b·c^k averaged over shapes, with a knee"


class Fit(Record):
    """A calibrated curve; a value, so that it can be stored and asked again.

    error is the mean absolute percentage error, as a share, over inner points left out one at a time; None with fewer
    than three concurrencies.
    """

    quantity: CurveQuantity
    form: str = FORM
    points: tuple[CurvePoint, ...] = Field(description="one a concurrency, ascending")
    slots: Slots = UNKNOWN_SLOTS
    knee: float | None = Field(description="requests served at once at most; None: no limit shows or is known")
    parameters: dict[str, float] = Field(description="means over shapes: a and b (ms, or s a token), k")
    error: float | None = None
    of: int = Field(default=0, description="points that were left out in turn")
    prior: Prior

    def predict(self, concurrency: float) -> Prediction:
        """Value and 90 % interval at a concurrency above 0: ms, or output tokens a second of the whole deployment.

        Raises ValueError for a concurrency that is not positive.
        """
        return self.predict_many([concurrency])[0]

    def predict_many(self, concurrencies: Sequence[float]) -> list[Prediction]:
        """`predict` for several concurrencies at once."""
        asked = np.asarray(concurrencies, float)
        if not asked.size or asked.min() <= 0:
            raise ValueError("concurrency must be above 0")
        limit = math.inf if self.knee is None else self.knee
        mean, spread = _log_predict(self.points, self.quantity, self.slots, limit, self.prior, asked)
        outside = (asked < self.points[0].concurrency) | (asked > self.points[-1].concurrency)
        reach = np.where(outside, self.prior.reach_beyond, self.prior.reach) * spread
        return [Prediction(value=math.exp(m), low=math.exp(m - r), high=math.exp(m + r), extrapolates=bool(o))
                for m, r, o in zip(mean, reach, outside, strict=True)]


def fit(points: Sequence[CurvePoint], quantity: CurveQuantity, *, slots: Slots = UNKNOWN_SLOTS,
        prior: Prior | None = None) -> Fit:
    """Calibrates a curve on at least two concurrencies (three or more are better; repeats of one are merged).

    Beyond as many requests as the engine serves at once, where that is known, throughput and TPOT stay, and TTFT grows
    by the queue. A queue below it shows a smaller knee (a full KV cache).
    Raises UserError with fewer than two concurrencies.
    """
    fitted = fit_only(points, quantity, slots=slots, prior=prior)
    missed = [_missed(fitted, left_out) for left_out in range(1, len(fitted.points) - 1)]
    return fitted.model_copy(update={"error": float(np.mean(missed)) if missed else None, "of": len(missed)})


def fit_only(points: Sequence[CurvePoint], quantity: CurveQuantity, *, slots: Slots = UNKNOWN_SLOTS,
             prior: Prior | None = None) -> Fit:
    """`fit` without its error."""
    kept = merged(points)
    if len(kept) < 2:
        raise UserError(f"points: a curve over concurrency needs measurements at two concurrencies, got {len(kept)};"
                        " measure at more load levels")
    prior = prior or shipped(quantity, slots)
    limit = knee.served(kept, STEEPNESS[quantity], slots.most)
    level, exponent, log_turn = _posterior(kept, quantity, slots, limit, prior).shape()
    base = math.exp(level)
    return Fit(quantity=quantity, points=kept, slots=slots, knee=limit if math.isfinite(limit) else None, prior=prior,
               parameters={"a": base, "b": base * math.exp(-exponent * log_turn), "k": exponent})


def measured(one: CurvePoint, quantity: CurveQuantity) -> float:
    """The quantity of a point, in the unit of its predictions."""
    if quantity == "throughput":
        return one.output_tokens_per_second
    return one.tpot_ms if quantity == "tpot" else one.ttft_ms


def log_points(points: Sequence[CurvePoint], quantity: CurveQuantity, limit: float) -> tuple[Array, Array]:
    """What shapes are fitted on: log of requests served, and log of TPOT (ms), of TTFT without a queue (ms, points
    beyond the knee left out) or of the time a token of one request takes (s)."""
    used = [p for p in points if quantity != "ttft" or p.concurrency <= limit] or list(points[:1])
    served = np.minimum([p.concurrency for p in used], limit)
    values = np.array([measured(p, quantity) for p in used])
    return np.log(served), np.log(served / values if quantity == "throughput" else values)


def _passes(log_served: Array, quantity: CurveQuantity, slots: Slots) -> Array:
    """A step's through the weights at each point. The first token hardly waits for steps."""
    return np.array([1.0 if quantity == "ttft" else slots.passes(math.exp(c)) for c in log_served])


def _posterior(points: Sequence[CurvePoint], quantity: CurveQuantity, slots: Slots, limit: float,
               prior: Prior) -> Posterior:
    at, values = log_points(points, quantity, limit)
    return condition(at, values, _passes(at, quantity, slots), prior)


def _log_predict(points: Sequence[CurvePoint], quantity: CurveQuantity, slots: Slots, limit: float, prior: Prior,
                 asked: Array) -> tuple[Array, Array]:
    served = np.minimum(asked, limit)
    at = np.log(served)
    mean, spread = _posterior(points, quantity, slots, limit, prior).predict(at, _passes(at, quantity, slots))
    if quantity == "throughput":
        mean = np.log(served) - mean
    elif quantity == "ttft" and math.isfinite(limit):
        mean = np.where(asked > limit, np.log(_queued(points, slots, limit, prior, asked)), mean)
    return mean, spread


def _queued(points: Sequence[CurvePoint], slots: Slots, limit: float, prior: Prior, asked: Array) -> Array:
    """TTFT in ms beyond the knee: straight lines through the knee and the points measured beyond it, then on by the
    queue's law, a request more waits for one more to end."""
    start, _ = _posterior(points, "ttft", slots, limit, prior).predict(np.log([limit]), np.ones(1))
    beyond = [p for p in points if p.concurrency > limit]
    at = np.array([limit, *(p.concurrency for p in beyond)])
    ttft = np.maximum.accumulate([math.exp(start[0]), *(p.ttft_ms for p in beyond)])
    if beyond:
        rate = beyond[-1].requests_per_second
    else:
        tokens = points[-1].output_tokens
        log_rate, _ = _log_predict(points, "throughput", slots, limit, shipped("throughput", slots),
                                   np.array([limit]))
        rate = math.exp(log_rate[0]) / tokens
    on: Array = np.interp(asked, at, ttft) + np.maximum(asked - at[-1], 0.0) / rate * 1e3
    return on


def _missed(fitted: Fit, left_out: int) -> float:
    """Absolute percentage error, as a share, at one point by a fit on the others."""
    others = [p for i, p in enumerate(fitted.points) if i != left_out]
    again = fit_only(others, fitted.quantity, slots=fitted.slots, prior=fitted.prior)
    one = fitted.points[left_out]
    return abs(again.predict(one.concurrency).value / measured(one, fitted.quantity) - 1)
