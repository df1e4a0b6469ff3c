"""Refits the curves over concurrency that have new points, keeps the fits, and tells of what they had not foreseen."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from flows import refit as fits
from models.planning.calibration import CalibrationRun, Surprise

UNFORESEEN = "dyno.measurement.unforeseen"
"""The event: automations of Prefect can be triggered by it."""


@task(name="calibrate", cache_policy=NO_CACHE)
def refit(home: Path) -> CalibrationRun:
    """Calibrates what is published, stores what is new and publishes it; an event for each measurement outside the 90 %
    interval that was predicted for it."""
    run = fits.refit(home)
    get_run_logger().info("calibrated %d curves", len(run.calibrations))
    for surprise in run.surprises:
        get_run_logger().warning("not as predicted: %s", surprise.text)
        _tell(surprise)
    return run


def _tell(surprise: Surprise) -> None:
    emit_event(event=UNFORESEEN, payload=surprise.model_dump(mode="json") | {"text": surprise.text},
               resource={"prefect.resource.id": f"dyno.trial.{surprise.trial_id}",
                         "prefect.resource.name": surprise.key.setup, "dyno.quantity": surprise.quantity})


@flow(name="calibrate", flow_run_name="calibrate", validate_parameters=False)
def calibrate(home: Path) -> CalibrationRun:
    """Refits what has new points."""
    return refit(home)
