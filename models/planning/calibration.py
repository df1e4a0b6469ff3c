"""What is kept of calibrations: every fit made, and each measurement that the fit before it did not foresee."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from models.identity import Record
from models.planning.curves import Fit, fit, measured
from models.planning.points import CurvePoint, Prediction, Slots
from models.planning.priors import CurveQuantity

QUANTITIES: tuple[CurveQuantity, ...] = ("tpot", "throughput", "ttft")


class CurveKey(Record):
    """What a curve over concurrency is of: one setup under one workload, by its label."""

    setup_id: str
    setup: str = Field(description="label for people")
    workload: str


class Seen(Record):
    """A measured point and what identifies its measurement: measured again, a trial has another start."""

    trial_id: str
    started_at: str
    point: CurvePoint


class Calibration(Record):
    """A fit and what it rests on."""

    key: CurveKey
    seen: tuple[Seen, ...]
    fits: tuple[Fit, ...]


class Surprise(Record):
    """A measurement outside the 90 % interval that the fit before it gave: ms, or output tokens a second."""

    key: CurveKey
    trial_id: str
    quantity: CurveQuantity
    concurrency: float
    predicted: Prediction
    measured: float

    @property
    def text(self) -> str:
        """One sentence for people."""
        unit = "tok/s" if self.quantity == "throughput" else "ms"
        beyond = ", beyond what had been measured" if self.predicted.extrapolates else ""
        return (f"{self.key.setup} · {self.key.workload} · {self.concurrency:g} at once: {self.quantity}"
                f" {self.measured:.3g} {unit}, predicted {self.predicted.value:.3g} ({self.predicted.low:.3g} to"
                f" {self.predicted.high:.3g}{beyond})")


class CalibrationRun(Record):
    """What one run of `calibrate` found: the curves that had new points, and what of these was not foreseen."""

    schema_version: int = 1
    at: str = Field(description="UTC, ISO 8601")
    dyno_version: str
    calibrations: tuple[Calibration, ...] = ()
    surprises: tuple[Surprise, ...] = ()


def calibrate(key: CurveKey, seen: Sequence[Seen], slots: Slots) -> Calibration:
    """Fits every quantity. Raises UserError with fewer than two concurrencies."""
    points = [one.point for one in seen]
    return Calibration(key=key, seen=tuple(seen),
                       fits=tuple(fit(points, quantity, slots=slots) for quantity in QUANTITIES))


def surprises(before: Calibration, seen: Sequence[Seen]) -> list[Surprise]:
    """Which of the points that the calibration did not rest on lie outside the intervals that it gives."""
    known = {(one.trial_id, one.started_at) for one in before.seen}
    found = []
    for one in (s for s in seen if (s.trial_id, s.started_at) not in known):
        for curve in before.fits:
            predicted, value = curve.predict(one.point.concurrency), measured(one.point, curve.quantity)
            if not predicted.low <= value <= predicted.high:
                found.append(Surprise(key=before.key, trial_id=one.trial_id, quantity=curve.quantity,
                                      concurrency=one.point.concurrency, predicted=predicted, measured=value))
    return found


def news(before: Mapping[CurveKey, Calibration], now: Mapping[CurveKey, tuple[Sequence[Seen], Slots]],
         ) -> tuple[list[Calibration], list[Surprise]]:
    """Fits the curves whose points are not those of the last calibration (or that it took to be served otherwise), and
    what that one had not foreseen.

    now: the points of each curve, and what its engine serves at once. Curves of one concurrency are left out.
    """
    fresh, unforeseen = [], []
    for key, (seen, slots) in now.items():
        last = before.get(key)
        if len({one.point.concurrency for one in seen}) < 2 or (
                last and set(last.seen) == set(seen) and all(one.slots == slots for one in last.fits)):
            continue
        fresh.append(calibrate(key, seen, slots))
        unforeseen += surprises(last, seen) if last else []
    return fresh, unforeseen
