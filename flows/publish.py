"""Publishing: bundles into the warehouse, prices beside them, a fresh snapshot for readers; and to the team's place."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows import capabilities, share
from models.errors import PlaceError
from models.specs import HardwareSpec
from warehouse import writer
from warehouse.writer import IngestReport


@task(name="store", cache_policy=NO_CACHE)
def store(home: Path, hardware: HardwareSpec | None = None, trial_ids: Collection[str] | None = None) -> IngestReport:
    """Ingests what the warehouse does not hold yet (of bundles, of these trials, where they are given), makes sure this
    hardware has a price (an assumed one is labelled so), and swaps the snapshot. Where a team shares a place, sends
    what it does not have: a broken link is a warning, as all of it is kept and sent the next time."""
    report = writer.ingest(home, trial_ids=trial_ids)
    get_run_logger().info("ingested %d bundles, %d were there", report.added, report.skipped)
    for path, reason in report.failed:
        get_run_logger().warning("left out %s: %s", path, reason)
    writer.set_known_prices(home, [hardware] if hardware else [])
    writer.set_engines(home, capabilities.of())
    writer.publish(home)
    try:
        share.push(home)
    except PlaceError as error:
        get_run_logger().warning("%s", error)
    return report


@flow(name="publish", flow_run_name="publish", validate_parameters=False)
def publish(home: Path, hardware: HardwareSpec | None = None) -> IngestReport:
    """Stores and publishes what lies in bundles, wherever they were measured."""
    return store(home, hardware)
