"""Zero-shot: the time of a stack that nobody measured, from all that were.

value = physics × likeness. Physics are roofline terms with non-negative coefficients, one set for all rows. What they
miss is a factor whose logarithm is a Gaussian process over numbers that tell stacks apart and over what they have in
common: engine, model, chip, stack. Intervals are the process's, stretched so that they held for rows of this kind that
were left out: other loads of a known stack, a new combination of known parts, a new model, a new chip, a new engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from models.errors import UserError
from models.identity import Record
from models.planning.process import Part, Points, Process, learn, left_out
from models.planning.terms import LOAD_FEATURES, Setting, coefficients, features, tpot_terms, ttft_terms

Floats = npt.NDArray[np.float64]
Quantity = Literal["tpot", "ttft"]

LEAST_ROWS = 8
NORMAL_90 = 1.645
NOVELTIES = ("curve", "stack", "engine", "model", "chip")
"""What may be new in a question, from the least to the most; each is calibrated by leaving such groups out."""
_FEW_GROUPS = 4
_SHARED = (("model",), ("chip",), ("engine", "model"), ("engine", "chip"), ("stack",))


class Measured(Record):
    """One row to learn from: means of a run, ms."""

    setting: Setting
    tpot_ms: float = Field(gt=0)
    ttft_ms: float | None = Field(default=None, gt=0)


class Prediction(Record):
    """value, low and high in ms, a 90 % interval. distance: 0 where such rows were measured, 1 where nothing measured
    says anything (share of the process's prior standard deviation that is left). new: what no row has."""

    value: float
    low: float
    high: float
    distance: float
    new: tuple[str, ...] = ()

    @property
    def extrapolates(self) -> bool:
        return bool(self.new)


@dataclass(frozen=True)
class ZeroShot:
    """Learnt from rows by `fit`; predicts in ms."""

    quantity: Quantity
    factors: Floats
    centre: Floats
    spread: Floats
    codes: Mapping[str, Mapping[str, int]]
    process: Process
    stretch: Mapping[str, float]
    ranges: Mapping[str, tuple[float, float]]

    def predict(self, question: Setting) -> Prediction:
        return self.predict_all([question])[0]

    def predict_all(self, questions: Sequence[Setting]) -> list[Prediction]:
        table = terms(self.quantity, questions)
        raw = _features(questions, table * self.factors)
        points = Points((raw - self.centre) / self.spread, _labels(questions, self.codes))
        mean, sd = self.process.predict(points)
        middle, found = np.log(table @ self.factors) + mean, []
        for row, one in enumerate(questions):
            news = [name for name in NOVELTIES if one.labels[name] not in self.codes[name]]
            half = sd[row] * max(self.stretch[name] for name in (news or ["curve"]))
            low, value, high = np.exp(middle[row] + half * np.array([-1, 0, 1]))
            found.append(Prediction(value=value, low=low, high=high, distance=sd[row] / self.process.prior_sd,
                                    new=(*(n for n in news if n != "curve"), *_outside(one, self.ranges))))
        return found


def fit(rows: Sequence[Measured], quantity: Quantity = "tpot", *, most_rows: int = 500, seed: int = 0) -> ZeroShot:
    """Learns from rows of any stacks, engines and hardware; seconds for 3 000 of them (memory: some 72 MB for each of
    its parts). most_rows: of which the scales are learnt.

    Raises UserError when fewer than LEAST_ROWS rows have the quantity.
    """
    kept = [row for row in rows if getattr(row, f"{quantity}_ms") is not None]
    if len(kept) < LEAST_ROWS:
        raise UserError(f"{quantity}: {len(kept)} measured rows are too few to learn from: {LEAST_ROWS} at least;"
                        " pip install 'llm-dyno[planning]' brings public ones, dyno evaluate measures your own")
    settings = [row.setting for row in kept]
    values = np.array([getattr(row, f"{quantity}_ms") for row in kept])
    table = terms(quantity, settings)
    factors = coefficients(table, values)
    raw = _features(settings, table * factors)
    centre, spread = raw.mean(0), raw.std(0)
    spread[spread < 1e-6] = 1.0
    names = sorted(settings[0].labels)
    codes = {name: {label: code for code, label in enumerate(dict.fromkeys(s.labels[name] for s in settings))}
             for name in names}
    points = Points((raw - centre) / spread, _labels(settings, codes))
    rest = np.log(values / (table @ factors))
    process = Process(learn(parts(raw.shape[1]), points, rest, most_rows=most_rows, seed=seed), points, rest)
    return ZeroShot(quantity, factors, centre, spread, codes, process, _stretches(process, table, values), {
        name: (min(getattr(s, name) for s in settings), max(getattr(s, name) for s in settings))
        for name in ("concurrency", "input_tokens", "output_tokens")})


def parts(columns: int) -> list[Part]:
    """Of the covariance: all numbers, for every engine together and for each apart; a factor of each engine; the load
    within what is shared; a factor of each version on a stack."""
    every, load = tuple(range(columns)), tuple(range(LOAD_FEATURES))
    return [Part((), every), Part(("engine",), every), Part(("engine",), ()), Part(("stack", "version"), ()),
            *(Part(labels, load) for labels in _SHARED)]


def terms(quantity: Quantity, settings: Sequence[Setting]) -> Floats:
    """Roofline terms, ms: settings × TPOT_TERMS or TTFT_TERMS."""
    of = tpot_terms if quantity == "tpot" else ttft_terms
    return np.array([of(one) for one in settings])


def _features(settings: Sequence[Setting], shares: Floats) -> Floats:
    return np.array([features(one, list(part), float(part.sum())) for one, part in zip(settings, shares, strict=True)])


def _labels(settings: Sequence[Setting], codes: Mapping[str, Mapping[str, int]]) -> dict[str, npt.NDArray[np.int64]]:
    said = [one.labels for one in settings]
    return {name: np.array([known.get(one[name], -1) for one in said]) for name, known in codes.items()}


def _outside(one: Setting, ranges: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    for name, (low, high) in ranges.items():
        value = getattr(one, name)
        if not low <= value <= high:
            yield f"{name} {value:g} ({low:g} to {high:g} were measured)"


def _stretches(process: Process, table: Floats, values: Floats) -> dict[str, float]:
    """By novelty: the factor on standard deviations that made 90 % of the rows' intervals hold when groups of that kind
    were left out. Where a kind has too few groups, the largest factor of the others."""
    inverse, rest, found = process.inverse(), process.values, dict[str, float]()
    for name in NOVELTIES:
        codes = process.points.labels[name]
        groups = np.unique(codes)
        if len(groups) < _FEW_GROUPS:
            continue
        ratios = []
        for group in groups:
            rows = np.flatnonzero(codes == group)
            own = rest
            if name in ("engine", "model", "chip"):  # many rows: the physics must not have seen them either
                own = np.log(values / (table @ coefficients(np.delete(table, rows, 0), np.delete(values, rows))))
            error, sd = left_out(inverse, own, rows)
            ratios.append(np.abs(error) / sd)
        found[name] = float(np.quantile(np.concatenate(ratios), 0.9))
    return {name: found.get(name, max(found.values(), default=NORMAL_90)) for name in NOVELTIES}

