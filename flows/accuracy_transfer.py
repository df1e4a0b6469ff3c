"""How wrong curves carried over to other lengths are: each public mix predicted from the other mixes of its setup."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flows.accuracy_public import HELD, QUANTITIES, distinct, public_curves
from models.accuracy import ErrorFigure, figure
from models.planning import curves
from models.planning.priors import CurveQuantity
from models.planning.transfer import Mix, transfer

FORM = "base + part × input / output tokens"
FORM_TTFT = "base + part × input tokens"


@dataclass(frozen=True)
class Carried:
    """One point of a mix that was left out."""

    family: str
    outside: bool
    predicted: float
    measured: float
    of_fits: float

    @property
    def off(self) -> float:
        """Error in the logarithm beyond what the fits' own intervals allow for."""
        error = float(abs(np.log(self.predicted / self.measured)))
        return float(np.sqrt(max(error**2 - self.of_fits**2, 0.0)))


def carried(quantity: CurveQuantity) -> list[Carried]:
    """Every point of every mix whose setup has two others measured around its concurrency, predicted from these."""
    by_setup: dict[str, list[tuple[str, Mix]]] = defaultdict(list)
    for one in distinct(public_curves(3)):
        mix = Mix(input_tokens=one.input_tokens, output_tokens=one.points[0].output_tokens,
                  fit=curves.fit_only(one.points, quantity))
        by_setup[one.setup_id].append((one.family, mix))
    return [point for group in by_setup.values() for family, mix in group
            for point in _of_mix(mix, [other for _, other in group if other != mix], family, quantity)]


def _of_mix(mix: Mix, others: Sequence[Mix], family: str, quantity: CurveQuantity) -> list[Carried]:
    found = []
    for one in mix.fit.points:
        around = [other for other in others
                  if other.fit.points[0].concurrency <= one.concurrency <= other.fit.points[-1].concurrency]
        if len(around) < 2:
            continue
        there = transfer(around, mix.input_tokens, mix.output_tokens, one.concurrency, spread=(0.0, 0.0))
        found.append(Carried(family, there.extrapolates, there.value, curves.measured(one, quantity),
                             float(np.log(there.high / there.value))))
    return found


def spread(points: Sequence[Carried]) -> tuple[float, float]:
    """models.planning.transfer.SPREAD: half-widths in the logarithm that hold 90 %, between mixes and outside."""
    inside, outside = ([one.off for one in points if one.outside == where] for where in (False, True))
    return float(np.quantile(inside, HELD)), float(np.quantile(outside, HELD))


def figures(quantities: Sequence[CurveQuantity] = QUANTITIES) -> list[ErrorFigure]:
    """Errors between calibrated mixes and outside them; intervals from the points of other models only.

    Raises UserError when the package with the measurements is not installed.
    """
    found = []
    for quantity in quantities:
        points = carried(quantity)
        half = {name: spread([one for one in points if one.family != name]) for name in {one.family for one in points}}
        for outside, words in ((False, "at lengths between calibrated ones"), (True, "at lengths outside them")):
            these = [one for one in points if one.outside == outside]
            within = [np.exp(np.hypot(half[one.family][outside], one.of_fits)) for one in these]
            found.append(figure(
                quantity, "calibrated", FORM_TTFT if quantity == "ttft" else FORM,
                f"public rows, mixes left out, {words}", [one.predicted for one in these],
                [one.measured for one in these],
                [(one.predicted / times, one.predicted * times) for one, times in zip(these, within, strict=True)]))
    return found
