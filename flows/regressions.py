"""After an evaluation: what was measured is compared with the last of its kind; each change is an event."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from flows.changes import look
from models.regression import Compared, Comparison

SLOWER, FASTER = "dyno.performance.slower", "dyno.performance.faster"
"""The events: automations of Prefect can be triggered by them."""


@task(name="compare", cache_policy=NO_CACHE)
def compared(home: Path, trial_ids: Sequence[str]) -> Compared:
    """look(), with an event for each change and an artifact of all that was compared."""
    found = look(home, trial_ids)
    for change in found.changed:
        get_run_logger().warning("%s: %s", change.verdict, change.text)
        _tell(change)
    if found.comparisons:
        create_table_artifact(key="changes", table=[_row(one) for one in found.comparisons if one.setup is None]
                              + [_row(one) for one in found.changed if one.setup],
                              description="What was measured now, against the last of its kind")
    return found


def _tell(change: Comparison) -> None:
    emit_event(event=SLOWER if change.verdict == "slower" else FASTER,
               payload=change.model_dump(mode="json") | {"text": change.text},
               resource={"prefect.resource.id": f"dyno.engine.{change.engine}",
                         "prefect.resource.name": f"{change.engine} {change.after}", "dyno.model": change.model,
                         "dyno.hardware": change.hardware, "dyno.figure": change.figure})


def _row(one: Comparison) -> dict[str, str | float]:
    where = f"{one.setup} · {one.workload} · {one.load}" if one.setup else f"{one.points} points"
    return {"verdict": one.verdict, "model": one.model, "engine": one.engine, "before": one.before, "after": one.after,
            "where": where, "figure": one.figure, "percent": round(one.percent, 2), "low": round(one.low, 2),
            "high": round(one.high, 2), "chance": round(one.chance, 4)}
