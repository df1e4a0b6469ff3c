"""How wrong each formula was against what was measured: the figures that stand beside every planned number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from models.identity import Record

Quantity = Literal["tpot", "throughput", "ttft", "max_concurrency", "kv_memory", "weights_memory", "stability"]


class ErrorFigure(Record):
    """The error of one form of one quantity over points that it was not fitted on (levels 1 and 2 are fitted on none).

    mape and median_ape are shares (0.04 is 4 %); interval_coverage is the share of points inside the 90 % interval,
    None where the form gives none.
    """

    quantity: Quantity
    level: Literal["rough", "architecture", "calibrated", "zero-shot", "simulated", "peer"]
    form: str = Field(description="the formula, as people write it")
    source: str = Field(description="where the measured values come from, and how they were left out")
    mape: float
    median_ape: float
    interval_coverage: float | None = None
    points: int = Field(gt=0)


def figure(quantity: Quantity, level: str, form: str, source: str, predicted: Sequence[float],
           measured: Sequence[float], intervals: Sequence[tuple[float, float]] | None = None) -> ErrorFigure:
    """Absolute percentage errors of `predicted` against `measured`, in the same unit; intervals are (low, high) each.

    Raises ValueError when there is no point, the lengths differ or something measured is not positive.
    """
    guess, truth = np.asarray(predicted, float), np.asarray(measured, float)
    if not truth.size or guess.shape != truth.shape or (truth <= 0).any():
        raise ValueError("as many predicted as measured values, at least one, and all measured ones above 0")
    errors = np.abs(guess / truth - 1)
    inside = None
    if intervals is not None:
        low, high = np.asarray(intervals, float).T
        inside = float(((low <= truth) & (truth <= high)).mean())
    return ErrorFigure.model_validate({
        "quantity": quantity, "level": level, "form": form, "source": source, "mape": float(errors.mean()),
        "median_ape": float(np.median(errors)), "interval_coverage": inside, "points": int(truth.size)})
