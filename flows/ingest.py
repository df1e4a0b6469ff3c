"""The one writer's work for a team: what all have sent becomes rows, priced, calibrated and published. No Prefect."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flows import capabilities, changes, refit, share
from models.progress import Progress, silent
from warehouse import bundles, writer
from warehouse.exchange import Exchanged
from warehouse.writer import IngestReport


@dataclass(frozen=True)
class Turn:
    """What one turn did: pulled from the shared place, stored, and published or not."""

    pulled: Exchanged
    stored: IngestReport
    published: bool


def rebuilt(home: Path) -> IngestReport:
    """Makes the warehouse again from what lies on disk, bundles from other machines among it; prices, calibrates and
    publishes it.

    Raises UserError when the warehouse stays locked.
    """
    report = writer.rebuild(home)
    writer.set_known_prices(home, writer.hardware(home))
    writer.set_engines(home, capabilities.of())
    writer.publish(home)
    refit.refit(home)
    return report


def turn(home: Path, progress: Progress = silent) -> Turn:
    """Pulls, stores and publishes what is new; nothing is published where nothing is. As often as one likes.

    Raises PlaceError when the shared place cannot be reached, and UserError when the warehouse stays locked.
    """
    pulled = share.pull(home, progress)
    stored = writer.ingest(home, progress)
    of = (bundles.read_measurement(home, trial_id).trial.setup.hardware for trial_id in pulled.items.get("bundles", ()))
    writer.set_known_prices(home, of)
    writer.set_engines(home, capabilities.of())
    if writer.is_published(home):
        return Turn(pulled, stored, False)
    progress("publishing")
    writer.publish(home)
    refit.refit(home)
    changes.look(home, pulled.items.get("bundles", ()))
    return Turn(pulled, stored, True)
