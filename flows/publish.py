"""Publishing: bundles into the warehouse, prices beside them, a fresh snapshot for readers."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, get_run_logger, task

from models import prices
from models.specs import HardwareSpec
from warehouse import writer
from warehouse.writer import IngestReport


@task(name="ingest")
def ingest(home: Path) -> IngestReport:
    """Ingests the bundles the warehouse does not hold yet."""
    report = writer.ingest(home)
    get_run_logger().info("ingested %d bundles, %d were there", report.added, report.skipped)
    for path, reason in report.failed:
        get_run_logger().warning("left out %s: %s", path, reason)
    return report


@flow(name="publish", validate_parameters=False)
def publish(home: Path, hardware: HardwareSpec | None = None) -> Path:
    """Ingests, makes sure this hardware has a price (an assumed one is labelled so), and swaps the snapshot."""
    ingest(home)
    for price in prices.bundled(hardware) if hardware else []:
        writer.set_price(home, price, keep_existing=True)
    return writer.publish(home)
