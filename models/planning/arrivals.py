"""Open arrivals: which rates a deployment bears for ever, and what requests see at a rate that it bears."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq

from models.identity import Record
from models.planning.curves import Fit
from models.planning.points import Prediction


def kv_token_steps(input_tokens: float, output_tokens: float) -> float:
    """KV tokens held, summed over the decode steps of a request: output × (input + (output + 1) / 2).

    A request that has written j of its tokens holds input + j of them.
    """
    return output_tokens * (input_tokens + (output_tokens + 1) / 2)


def stable_requests_per_second(kv_tokens: float, step_s: float, token_steps_mean: float) -> float:
    """Largest rate that memory bears: M / (step time × mean KV token-steps a request), in requests a second.

    kv_tokens: M, tokens that the KV cache holds; step_s: seconds of a decode step with a full cache; token_steps_mean:
    mean over requests of `kv_token_steps`. Above it the queue grows without end. Source: arXiv 2605.04595, within about
    10 % of measured limits. Raises ValueError when step_s or token_steps_mean is not positive.
    """
    if step_s <= 0 or token_steps_mean <= 0:
        raise ValueError("step_s and token_steps_mean must be positive")
    return kv_tokens / (step_s * token_steps_mean)


def plateau_requests_per_second(throughput: Fit, output_tokens: float) -> Prediction:
    """Largest rate that a closed loop reached: the highest throughput among fitted concurrencies ÷ output tokens.

    It extrapolates where throughput was still rising at the last point: the true limit is then higher.
    """
    found = throughput.predict_many(_levels(throughput))
    best = max(range(len(found)), key=lambda i: found[i].value)
    rising = best == len(found) - 1 and found[-1].value > 1.05 * found[-2].value
    return Prediction(value=found[best].value / output_tokens, low=found[best].low / output_tokens,
                      high=found[best].high / output_tokens, extrapolates=rising)


class Steady(Record):
    """What a rate of arrivals makes of a deployment, on average."""

    concurrency: float
    e2e_ms: float
    ttft: Prediction
    tpot: Prediction


def at_rate(requests_per_second: float, output_tokens: float, throughput: Fit, ttft: Fit, tpot: Fit) -> Steady | None:
    """Mean concurrency and latencies at a rate of arrivals, or None where the rate is not borne.

    By Little's law a deployment with c requests in flight ends throughput(c) / output tokens of them a second; the
    least c whose rate is the asked one is the mean number in flight, and e2e = c / rate. The curves are a closed
    loop's: arrivals in bursts wait longer, which a simulation tells. Raises ValueError when the rate is not positive.
    """
    if requests_per_second <= 0:
        raise ValueError("requests_per_second must be above 0")
    asked = requests_per_second * output_tokens
    levels = _levels(throughput)
    rates = [one.value for one in throughput.predict_many(levels)]
    first = next((i for i, rate in enumerate(rates) if rate >= asked), None)
    if first is None:
        return None
    low, high = levels[first - 1] if first else levels[0] * asked / rates[0] / 1e3, levels[first]
    c = float(brentq(lambda c: throughput.predict(c).value - asked, low, high, xtol=1e-6))
    return Steady(concurrency=c, e2e_ms=c / requests_per_second * 1e3, ttft=ttft.predict(c), tpot=tpot.predict(c))


def _levels(fitted: Fit) -> list[float]:
    """Concurrencies between the fitted ones, close enough to see a knee."""
    found = np.geomspace(fitted.points[0].concurrency, fitted.points[-1].concurrency, 65)
    return [float(c) for c in found]
