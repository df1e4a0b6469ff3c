"""An evaluation from a command: Prefect is started only when there is something to measure."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import TYPE_CHECKING

from flows import capabilities, preflight
from models.experiment import Expansion, Experiment
from models.progress import Progress
from models.specs import HardwareSpec, Price
from warehouse import writer

if TYPE_CHECKING:
    from flows.report import Report


def run_evaluation(experiment: Experiment, source: str, expansion: Expansion, home: Path, again: preflight.Again,
                   price_usd_per_hour: float | None, progress: Progress) -> Report:
    """Measures what is pending and publishes; when nothing is, only makes sure that the snapshot is current."""
    from flows.report import Report

    if price_usd_per_hour is not None:
        set_price(home, price_usd_per_hour, "own", "given with --price")
    if not preflight.pending(expansion, home, again).trials:
        progress("publishing")
        ensure_published(home, {t.setup.hardware.hardware_id: t.setup.hardware for t in expansion.trials})
        return Report(experiment.name, reused=len(expansion.trials), skipped=expansion.skipped)
    preflight.reachable(preflight.pending(expansion, home, again), source)
    # Prefect's own lines would tear the progress display; its API keeps them all.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    progress("starting Prefect")
    from flows import evaluate, server

    evaluate.watch(progress)
    with server.recorded(home, progress):
        return evaluate.evaluate(experiment, source, again, home)


def ensure_published(home: Path, hardware: dict[str, HardwareSpec]) -> None:
    """Ingests what a killed run left, prices it, and publishes when anything changed."""
    report = writer.ingest(home)
    writer.set_known_prices(home, hardware.values())
    engines_changed = writer.set_engines(home, capabilities.of())
    if report.added or engines_changed or not writer.is_published(home):
        writer.publish(home)


def set_price(home: Path, usd_per_hour: float, tier: str, source: str) -> None:
    """Stores a price for this machine, dated today, and publishes it."""
    from engines._hardware import detect

    price = Price(hardware=detect().name, price_usd_per_hour=usd_per_hour, tier=tier, source=source,
                  date=dt.datetime.now(dt.UTC).date().isoformat())
    writer.set_price(home, price)
    writer.publish(home)
