"""How wrong calibrated curves are on public measurements: three points fitted, the rest predicted.

A curve is all rows that agree in every told column, engine version included (warehouse.public.CONFIGURATION), repeats
of a concurrency merged into their median, with at least five concurrencies. The smallest, the middle and the largest
concurrency are fitted. Some rows do not tell their configuration (disaggregated ones without the number of workers,
sizes of 0), and their "curves" mix setups: figures are given without them first, then over everything. Curves that two
model names share (DeepSeek-R1 and V3 were one measurement) count once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from models.accuracy import ErrorFigure, figure
from models.planning import curves, knee, priors
from models.planning.forms import RIVALS
from models.planning.points import CurvePoint, merged, point
from models.planning.priors import CurveQuantity
from models.planning.shapes import Array, Prior
from models.throughput import rough_output_tokens_per_second
from warehouse import public

QUANTITIES: tuple[CurveQuantity, ...] = ("tpot", "throughput", "ttft")
LEAST = 5
HELD = 0.9
_FAMILIES = ("deepseek", "qwen3-32b", "llama-3.1-8b", "llama-3.1-70b", "llama-3.3-70b")


@dataclass(frozen=True)
class PublicCurve:
    """A curve with at least five concurrencies."""

    curve_id: str
    setup_id: str
    family: str
    told: bool
    points: tuple[CurvePoint, ...]
    input_tokens: int

    @property
    def three(self) -> tuple[int, int, int]:
        """Which points are fitted: smallest, middle and largest concurrency."""
        return 0, len(self.points) // 2, len(self.points) - 1


@lru_cache(maxsize=2)
def public_curves(least: int = LEAST) -> tuple[PublicCurve, ...]:
    """All public curves with at least so many concurrencies. Raises UserError when the package is not installed."""
    made = []
    for _, group in public.rows().group_by("curve_id", maintain_order=True):
        first = group.row(0, named=True)
        points = merged([point(r["concurrency"], r["ttft_ms"], r["tpot_ms"], r["output_tokens"])
                         for r in group.iter_rows(named=True)])
        if len(points) >= least:
            made.append(PublicCurve(first["curve_id"], first["setup_id"], family(first["model"]), _told(first), points,
                                    first["input_tokens"]))
    return tuple(made)


def family(model: str) -> str:
    """Models that must be left out together: some curves of one are listed under another's name."""
    name = model.lower().rsplit("/", 1)[-1]
    return next((one for one in _FAMILIES if one in name), name)


def distinct(all_curves: Sequence[PublicCurve]) -> tuple[PublicCurve, ...]:
    """Curves whose configuration is told, each measurement once."""
    by_points = {tuple((p.concurrency, round(p.tpot_ms, 3), round(p.ttft_ms, 1)) for p in one.points): one
                 for one in reversed(all_curves) if one.told}
    return tuple(reversed(by_points.values()))


def _told(row: dict[str, object]) -> bool:
    if row["mode"] == "disagg":
        return row["prefill_workers"] is not None and row["decode_workers"] is not None
    return all(row[size] != 0 for size in ("attention_dp", "moe_tp", "moe_ep"))


@dataclass(frozen=True)
class Missed:
    """Predictions of points that were left out, beside what was measured."""

    predicted: list[float]
    measured: list[float]
    intervals: list[tuple[float, float]]

    def __add__(self, other: Missed) -> Missed:
        return Missed(self.predicted + other.predicted, self.measured + other.measured,
                      self.intervals + other.intervals)


def predicted_by(one: PublicCurve, quantity: CurveQuantity, prior: Prior) -> Missed:
    """The points of a curve that are not among its three, predicted by models.planning.curves from these three."""
    rest = [p for i, p in enumerate(one.points) if i not in one.three]
    return _predicted(curves.fit_only([one.points[i] for i in one.three], quantity, prior=prior), rest)


def predicted_beyond(one: PublicCurve, quantity: CurveQuantity, prior: Prior) -> Missed:
    """The largest concurrency of a curve predicted from all others: it extrapolates."""
    return _predicted(curves.fit_only(one.points[:-1], quantity, prior=prior), one.points[-1:])


def _predicted(fitted: curves.Fit, rest: Sequence[CurvePoint]) -> Missed:
    found = fitted.predict_many([p.concurrency for p in rest])
    return Missed([p.value for p in found], [curves.measured(p, fitted.quantity) for p in rest],
                  [(p.low, p.high) for p in found])


def predicted_by_rival(one: PublicCurve, quantity: CurveQuantity, form: str) -> Missed:
    """The same by one of models.planning.forms.RIVALS."""
    at = np.array([p.concurrency for p in one.points])
    value = np.array([curves.measured(p, quantity) for p in one.points])
    grows = at / value if quantity == "throughput" else value
    three, rest = list(one.three), [i for i in range(len(at)) if i not in one.three]
    found = RIVALS[form](at[three], grows[three])(at[rest])
    found = at[rest] / found if quantity == "throughput" else found
    return Missed(found.tolist(), value[rest].tolist(), [])


def without_own_model(known: Sequence[PublicCurve], quantity: CurveQuantity) -> dict[str, Prior]:
    """Priors by family, each learned from the curves of all other families: shapes, then how far predictions of these
    (by priors that had not seen their own family) were off."""
    likelihoods, of = _likelihoods(known, quantity), np.array([one.family for one in known])
    found = {name: priors.learn(likelihoods[of != name], priors.SHIPPED[quantity]) for name in sorted({*of.tolist()})}
    off = {name: _off([one for one in known if one.family == name], quantity, prior) for name, prior in found.items()}
    return {name: _reaching(prior, [off[other] for other in off if other != name]) for name, prior in found.items()}


def learned_from_all(known: Sequence[PublicCurve], quantity: CurveQuantity) -> Prior:
    """The prior that is shipped (models.planning.priors.SHIPPED)."""
    prior = priors.learn(_likelihoods(known, quantity), priors.SHIPPED[quantity])
    return _reaching(prior, [_off(known, quantity, prior)])


def _likelihoods(known: Sequence[PublicCurve], quantity: CurveQuantity) -> Array:
    steepness = priors.STEEPNESS[quantity]
    return priors.likelihoods([curves.log_points(one.points, quantity, knee.served(one.points, steepness))
                               for one in known], priors.SHIPPED[quantity])


def _off(known: Sequence[PublicCurve], quantity: CurveQuantity, prior: Prior) -> tuple[Array, Array]:
    """How many of their own standard deviations predictions were off, between fitted points and beyond them."""
    unit = replace(prior, reach=1.0, reach_beyond=1.0)

    def off(found: Missed) -> Array:
        value = np.log(found.predicted)
        return np.asarray(np.abs(np.log(found.measured) - value) / (np.log(np.array(found.intervals)[:, 1]) - value))
    return (off(sum((predicted_by(one, quantity, unit) for one in known), Missed([], [], []))),
            off(sum((predicted_beyond(one, quantity, unit) for one in known), Missed([], [], []))))


def _reaching(prior: Prior, off: Sequence[tuple[Array, Array]]) -> Prior:
    between, beyond = (float(np.quantile(np.concatenate(part), HELD)) for part in zip(*off, strict=True))
    return replace(prior, reach=between, reach_beyond=beyond)


def figures(quantities: Sequence[CurveQuantity] = QUANTITIES) -> list[ErrorFigure]:
    """Errors of calibrated curves on public measurements, each quantity by every form; see the module.

    Raises UserError when the package with the measurements is not installed.
    """
    everything = public_curves()
    known = distinct(everything)
    found = []
    for quantity in quantities:
        unseen = without_own_model(known, quantity)
        found += _of_forms(known, quantity, unseen, f"public rows, {len(known)} curves, fitted on 3 points")
        found.append(over(everything, quantity, unseen, curves.FORM, "public rows, all "
                           f"{len(everything)} curves, mixed setups too, fitted on 3 points"))
        found.append(over(everything, quantity, unseen, "a + b·c^k", "public rows, all "
                           f"{len(everything)} curves, mixed setups too, fitted on 3 points"))
        found.append(_beyond(known, quantity, unseen))
    return found


def _of_forms(known: Sequence[PublicCurve], quantity: CurveQuantity, unseen: dict[str, Prior],
              source: str) -> list[ErrorFigure]:
    found = [over(known, quantity, unseen, form, source) for form in (curves.FORM, *RIVALS)]
    if quantity == "throughput":
        rough = sum((_rough(one) for one in known), Missed([], [], []))
        found.append(figure(quantity, "rough", "concurrency × output tokens / response time",
                            f"{source.split(',')[0]}, response time of the smallest concurrency", rough.predicted,
                            rough.measured))
    return found


def over(over: Sequence[PublicCurve], quantity: CurveQuantity, unseen: dict[str, Prior], form: str,
          source: str) -> ErrorFigure:
    """The error of one form over curves; `unseen` gives the prior by family (the shipped one for others)."""
    shipped = priors.SHIPPED[quantity]
    all_missed = sum((predicted_by(one, quantity, unseen.get(one.family, shipped)) if form == curves.FORM
                      else predicted_by_rival(one, quantity, form) for one in over), Missed([], [], []))
    return figure(quantity, "calibrated", form, source, all_missed.predicted, all_missed.measured,
                  all_missed.intervals or None)


def _rough(one: PublicCurve) -> Missed:
    first = one.points[0]
    response_s = first.concurrency / first.requests_per_second
    rest = [p for i, p in enumerate(one.points) if i not in one.three]
    return Missed([rough_output_tokens_per_second(p.concurrency, p.output_tokens, response_s) for p in rest],
                  [p.output_tokens_per_second for p in rest], [])


def _beyond(known: Sequence[PublicCurve], quantity: CurveQuantity, unseen: dict[str, Prior]) -> ErrorFigure:
    found = sum((predicted_beyond(one, quantity, unseen[one.family]) for one in known), Missed([], [], []))
    return figure(quantity, "calibrated", curves.FORM, f"public rows, {len(known)} curves, extrapolated to the largest"
                  " concurrency", found.predicted, found.measured, found.intervals)
