"""Zero-shot: the time of a stack that nobody measured, from all that were.

value = physics × likeness. Physics are roofline terms with non-negative coefficients, one set for all rows. What they
miss is a factor whose logarithm is a Gaussian process over numbers that tell stacks apart and over what they have in
common: engine, model, chip, stack. How much of that factor to believe, and how far to stretch the process's intervals,
was chosen by leaving out rows of the question's kind: another load of a known stack, a new combination of known parts,
a new model, a new chip, a new engine. Of what is quite new, physics alone often knows more than likeness does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.special import stdtrit

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
WHOLE = ("engine", "model", "chip")
"""Those that a new stack has as a whole, not only in a new combination."""
_FEW_GROUPS = 3
_SHARES = np.linspace(0, 1, 21)


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


class Trust(NamedTuple):
    """share of the process's correction that is taken, and the factor on its standard deviation that makes intervals
    of 90 %."""

    share: float
    stretch: float


@dataclass(frozen=True)
class ZeroShot:
    """Learnt from rows by `fit`; predicts in ms."""

    quantity: Quantity
    factors: Floats
    centre: Floats
    spread: Floats
    codes: Mapping[str, Mapping[str, int]]
    process: Process
    trust: Mapping[str, Trust]
    ranges: Mapping[str, tuple[float, float]]

    def predict(self, question: Setting) -> Prediction:
        return self.predict_all([question])[0]

    def predict_all(self, questions: Sequence[Setting]) -> list[Prediction]:
        table = terms(self.quantity, questions)
        raw = _features(questions, table * self.factors)
        points = Points((raw - self.centre) / self.spread, _labels(questions, self.codes))
        mean, sd = self.process.predict(points)
        physics, found = np.log(table @ self.factors), []
        for row, one in enumerate(questions):
            news = [name for name in NOVELTIES if one.labels[name] not in self.codes[name]]
            deciding = [name for name in news if name in WHOLE] or (["stack"] if "stack" in news else ["curve"])
            trusts = [self.trust[name] for name in deciding]
            half = sd[row] * max(trust.stretch for trust in trusts)
            middle = physics[row] + mean[row] * min(trust.share for trust in trusts)
            low, value, high = np.exp(middle + half * np.array([-1, 0, 1]))
            found.append(Prediction(value=value, low=low, high=high, distance=sd[row] / self.process.prior_sd,
                                    new=(*(n for n in news if n != "curve"), *_outside(one, self.ranges))))
        return found


def fit(rows: Sequence[Measured], quantity: Quantity = "tpot", *, most_rows: int = 400, seed: int = 0) -> ZeroShot:
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
    return ZeroShot(quantity, factors, centre, spread, codes, process, _trusts(process, table, values), {
        name: (min(getattr(s, name) for s in settings), max(getattr(s, name) for s in settings))
        for name in ("concurrency", "input_tokens", "output_tokens")})


def parts(columns: int) -> list[Part]:
    """Of the covariance: all numbers, for everything together, within an engine, a model and a chip; the load within
    finer kinds; a factor of each engine, and of each version on a stack."""
    every, load = tuple(range(columns)), tuple(range(LOAD_FEATURES))
    return [*(Part(labels, every) for labels in ((), ("engine",), ("model",), ("chip",))),
            *(Part(labels, load) for labels in (("engine", "model"), ("engine", "chip"), ("stack",))),
            *(Part(labels, ()) for labels in (("engine",), ("stack", "version")))]


def terms(quantity: Quantity, settings: Sequence[Setting]) -> Floats:
    """Roofline terms, ms: settings × TPOT_TERMS or TTFT_TERMS."""
    of = tpot_terms if quantity == "tpot" else ttft_terms
    return np.array([of(one) for one in settings])


def _features(settings: Sequence[Setting], shares: Floats) -> Floats:
    return np.array([features(one, list(part)) for one, part in zip(settings, shares, strict=True)])


def _labels(settings: Sequence[Setting], codes: Mapping[str, Mapping[str, int]]) -> dict[str, npt.NDArray[np.int64]]:
    said = [one.labels for one in settings]
    return {name: np.array([known.get(one[name], -1) for one in said]) for name, known in codes.items()}


def _outside(one: Setting, ranges: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    for name, (low, high) in ranges.items():
        value = getattr(one, name)
        if not low <= value <= high:
            yield f"{name} {value:g} ({low:g} to {high:g} were measured)"


def _trusts(process: Process, table: Floats, values: Floats) -> dict[str, Trust]:
    """By novelty, from leaving out groups of that kind. Where a kind has too few, the most cautious of the others."""
    inverse, found = process.inverse(), dict[str, Trust]()
    for name in NOVELTIES:
        codes = process.points.labels[name]
        groups = np.unique(codes)
        if len(groups) < _FEW_GROUPS:
            continue
        left = []
        for group in groups:
            rows = np.flatnonzero(codes == group)
            rest = process.values
            if name in WHOLE:  # many rows: the physics must not have seen them either
                factors = coefficients(np.delete(table, rows, 0), np.delete(values, rows))
                rest = np.log(values / (table @ factors))
            error, sd = left_out(inverse, rest, rows)
            left.append((rest[rows], rest[rows] - error, sd))
        found[name] = _trust(left)
    cautious = Trust(min((t.share for t in found.values()), default=1.0),
                     max((t.stretch for t in found.values()), default=NORMAL_90))
    return {name: found.get(name, cautious) for name in NOVELTIES}


def _trust(left: Sequence[tuple[Floats, Floats, Floats]]) -> Trust:
    """Of groups (truths, predictions, standard deviations): the least share that is not worse than the best one by a
    paired t-test over the groups (one-sided, 5 %), for the process has seen the groups when it learnt its scales and
    flatters itself; and the 90 % quantile of what is then left in standard deviations."""
    costs = np.array([np.abs(true[:, None] - mean[:, None] * _SHARES).mean(0) for true, mean, _ in left])
    worse = costs - costs[:, [costs.mean(0).argmin()]]
    allowed = stdtrit(len(left) - 1, 0.95) * worse.std(0, ddof=1) / np.sqrt(len(left))
    share = float(_SHARES[np.argmax(worse.mean(0) <= allowed)])
    ratios = np.concatenate([np.abs(true - share * mean) / sd for true, mean, sd in left])
    return Trust(share, float(np.quantile(ratios, 0.9)))
