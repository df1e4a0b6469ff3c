"""How wrong curves over concurrency are on one's own measurements, each inner point left out in turn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.accuracy import ErrorFigure, figure
from models.concurrency import rough_cpu_parallelism
from models.errors import UserError
from models.planning import curves
from models.planning.calibration import QUANTITIES
from models.planning.forms import RIVALS
from models.planning.points import CurvePoint, Slots, merged
from models.planning.priors import CurveQuantity
from models.throughput import rough_output_tokens_per_second
from warehouse import curves as measured_curves
from warehouse import reader

Curve = tuple[tuple[CurvePoint, ...], Slots]
LEAST = 3


def figures(home: Path) -> list[ErrorFigure]:
    """Every form's error on the curves of this warehouse with at least three concurrencies. Empty where there are none.

    Raises UserError when nothing is published.
    """
    known = [(merged([one.point for one in seen]), slots) for seen, slots in measured_curves.curves(home).values()]
    known = [one for one in known if len(one[0]) >= LEAST]
    if not known:
        raise UserError("no setup has been measured at three concurrencies under one workload")
    source = f"own measurements, {len(known)} curves, inner points left out in turn"
    return [made for quantity in QUANTITIES for made in _of(known, quantity, source)] + _rough(home, source)


def _of(known: Sequence[Curve], quantity: CurveQuantity, source: str) -> list[ErrorFigure]:
    truth, found, intervals = list[float](), list[float](), list[tuple[float, float]]()
    rivals: dict[str, list[float]] = {form: [] for form in RIVALS}
    for points, slots in known:
        for i in range(1, len(points) - 1):
            others, left = points[:i] + points[i + 1:], points[i]
            guess = curves.fit(others, quantity, slots=slots).predict(left.concurrency)
            truth.append(curves.measured(left, quantity))
            found.append(guess.value)
            intervals.append((guess.low, guess.high))
            for form in RIVALS:
                rivals[form].append(_rival(form, others, left, quantity))
    return [figure(quantity, "calibrated", curves.FORM, source, found, truth, intervals),
            *(figure(quantity, "calibrated", form, source, rivals[form], truth) for form in RIVALS)]


def _rival(form: str, others: Sequence[CurvePoint], left: CurvePoint, quantity: CurveQuantity) -> float:
    at = np.array([p.concurrency for p in others])
    value = np.array([curves.measured(p, quantity) for p in others])
    found = RIVALS[form](at, at / value if quantity == "throughput" else value)(np.array([left.concurrency]))[0]
    return float(left.concurrency / found if quantity == "throughput" else found)


def _rough(home: Path, source: str) -> list[ErrorFigure]:
    """The survey's: throughput from the measured response time, and from one user's by min(concurrency, threads)."""
    rows = reader.query(home, """
        select concurrency, threads, output_tokens_mean, e2e_ms_mean, output_tokens_per_second as measured,
               first(output_tokens_per_second) over (partition by setup_id, workload order by concurrency) as alone,
               min(concurrency) over (partition by setup_id, workload) as least
        from measurements where concurrency is not null and not fatal and output_tokens_per_second > 0
        """).to_dicts()
    little = [rough_output_tokens_per_second(r["concurrency"], r["output_tokens_mean"], r["e2e_ms_mean"] / 1e3)
              for r in rows]
    found = [figure("throughput", "rough", "concurrency × output tokens / mean response time", "own measurements, with "
                    "the response time measured at the same point", little, [r["measured"] for r in rows])]
    cpu = [r for r in rows if r["threads"] and r["least"] == 1 < r["concurrency"]]
    if cpu:
        found.append(figure("throughput", "rough", "that of one user × min(concurrency, threads)", source.split(",")[0],
                            [r["alone"] * rough_cpu_parallelism(r["concurrency"], r["threads"]) for r in cpu],
                            [r["measured"] for r in cpu]))
    return found
