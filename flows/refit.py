"""Curves over concurrency that have new points are fitted again, and the fits kept. No Prefect here."""

from __future__ import annotations

import datetime as dt
from importlib.metadata import version
from pathlib import Path

from models.planning.calibration import CalibrationRun, news
from warehouse import calibrations, writer
from warehouse.curves import curves


def refit(home: Path) -> CalibrationRun:
    """Calibrates what is published, stores what is new and publishes it."""
    fits, unforeseen = news(calibrations.latest(home), curves(home))
    run = CalibrationRun(at=dt.datetime.now(dt.UTC).isoformat(), dyno_version=version("llm-dyno"),
                         calibrations=tuple(fits), surprises=tuple(unforeseen))
    if fits:
        calibrations.write(home, run)
        writer.ingest(home)
        writer.publish(home)
    return run
