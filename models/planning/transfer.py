"""From curves calibrated at some lengths of input and output to a mix of lengths that nobody measured.

At one concurrency, time per output token is a base plus a part in proportion to input tokens per output token: every
output token of a request shares the engine with that much prefill (of its own and of its neighbours). TTFT is a base
plus a part in proportion to the input. Chosen by leaving mixes out of public setups: over the mixes between others
6.7 % (TPOT) and 6.9 % (throughput), where a third term for the KV cache's length gave 9 and 13 %, planes in the
logarithms 13 and 12 %, the nearest mix 19 and 24 % (bench.curves prints them as they are now).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from models.errors import UserError
from models.identity import Record
from models.planning.curves import Fit
from models.planning.points import Prediction
from models.planning.priors import CurveQuantity

SPREAD: dict[CurveQuantity, tuple[float, float]] = {
    "tpot": (0.15, 0.61), "throughput": (0.15, 0.69), "ttft": (0.42, 1.39)}
"""Half-width of 90 % intervals in the logarithm, between calibrated mixes and outside them; `python -m bench.curves
--learn` recomputes them."""


class Mix(Record):
    """A curve calibrated at one mix of lengths (means, tokens a request)."""

    input_tokens: float = Field(gt=0)
    output_tokens: float = Field(gt=0)
    fit: Fit


def transfer(mixes: Sequence[Mix], input_tokens: float, output_tokens: float, concurrency: float, *,
             spread: tuple[float, float] | None = None) -> Prediction:
    """Returns the quantity of the mixes' fits at other lengths: ms, or output tokens a second.

    It extrapolates where a length lies outside the calibrated ones, or the concurrency outside any curve's. Raises
    UserError with fewer than two mixes or with fits of different quantities.
    """
    return transfer_many(mixes, input_tokens, output_tokens, [concurrency], spread=spread)[0]


def transfer_many(mixes: Sequence[Mix], input_tokens: float, output_tokens: float, concurrencies: Sequence[float], *,
                  spread: tuple[float, float] | None = None) -> list[Prediction]:
    """`transfer` at several concurrencies: each curve is conditioned on its points once."""
    quantities = {one.fit.quantity for one in mixes}
    if len(mixes) < 2 or len(quantities) != 1:
        raise UserError(f"mixes: lengths are carried over from at least two mixes of one quantity, got {len(mixes)} of"
                        f" {', '.join(sorted(quantities)) or 'none'}; measure another workload")
    quantity = quantities.pop()
    outside = _outside([one.input_tokens for one in mixes], input_tokens) or _outside(
        [one.output_tokens for one in mixes], output_tokens)
    of_transfer = (spread or SPREAD[quantity])[outside]
    there = zip(*(one.fit.predict_many(concurrencies) for one in mixes), strict=True)
    return [_with_interval(_carried(mixes, [one.value for one in known], quantity, input_tokens, output_tokens, c),
                           known, of_transfer, outside) for c, known in zip(concurrencies, there, strict=True)]


def _with_interval(value: float, known: Sequence[Prediction], of_transfer: float, outside: bool) -> Prediction:
    half = math.hypot(of_transfer, sum(math.log(one.high / one.value) for one in known) / len(known))
    return Prediction(value=value, low=value * math.exp(-half), high=value * math.exp(half),
                      extrapolates=outside or any(one.extrapolates for one in known))


def _carried(mixes: Sequence[Mix], known: Sequence[float], quantity: CurveQuantity, input_tokens: float,
             output_tokens: float, concurrency: float) -> float:
    """Least squares in relative error; neither part is negative."""
    from scipy.optimize import nnls  # half a second, for what few questions need

    grows = np.array([concurrency / value if quantity == "throughput" else value for value in known])

    def term(inputs: float, outputs: float) -> float:
        return inputs if quantity == "ttft" else inputs / outputs
    terms = np.array([[1.0, term(one.input_tokens, one.output_tokens)] for one in mixes])
    (base, part), _ = nnls(terms / grows[:, None], np.ones(len(mixes)))
    found = float(base + part * term(input_tokens, output_tokens))
    return concurrency / found if quantity == "throughput" else found


def _outside(calibrated: Sequence[float], asked: float) -> bool:
    return not min(calibrated) <= asked <= max(calibrated)
