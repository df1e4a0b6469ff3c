"""How far the simulation is from measured open loops, whose step times were fitted on the same setup's closed loops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from flows import step_times
from flows.step_times import Point
from models.accuracy import ErrorFigure, Quantity, figure
from models.errors import UserError
from warehouse import reader

FORMS: dict[str, tuple[Quantity, str]] = {
    "ttft_ms_p50": ("ttft", "event simulation, TTFT p50"),
    "ttft_ms_p95": ("ttft", "event simulation, TTFT p95"),
    "tpot_ms_p50": ("tpot", "event simulation, TPOT p50"),
    "output_tokens_per_second": ("throughput", "event simulation, output tokens a second"),
}
SETUPS = """
select distinct setup_id from measurements where not fatal group by setup_id
having count(*) filter (concurrency is not null) > 0 and count(*) filter (request_rate is not null) > 0
"""


def figures(home: Path) -> list[ErrorFigure]:
    """Errors of TTFT, TPOT and throughput over the steady open-loop points of the warehouse. Raises UserError where
    there are none beside closed loops of the same setup."""
    rows = [row for (setup,) in reader.query(home, SETUPS).rows() for row in against(step_times.points(home, setup))]
    if not rows:
        raise UserError("no open loop was measured beside closed loops of the same setup: an experiment with"
                        " load: {concurrency: [1, 4, 16], request_rate: [2]} gives both")
    found = []
    for metric, (quantity, form) in FORMS.items():
        pairs = [(float(row["simulated"]), float(row["measured"])) for row in rows if row["metric"] == metric]
        if pairs:
            simulated, measured = zip(*pairs, strict=True)
            source = "own warehouse; fitted on closed loops, tested on open ones"
            found.append(figure(quantity, "simulated", form, source, simulated, measured))
    return found


def against(every: Sequence[Point]) -> list[dict[str, float | str]]:
    """Rows of flows.step_times.compared of the steady open loops among the points of one setup, each replayed."""
    closed = [one for one in every if one.closed]
    steady = [one for one in every if not one.closed and one.measurement.trial.load.request_rate_end is None
              and one.measurement.trial.workload.turns == 1]
    if not closed or not steady:
        return []
    found = step_times.fitted(closed)
    return [cast("dict[str, float | str]", {**row, "load": one.measurement.trial.load.label}) for one in steady
            for row in step_times.compared(step_times.replayed(one, found), one.measurement.summary.metrics)]
