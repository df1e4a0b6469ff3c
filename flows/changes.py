"""What changed since it was measured last: looked for in the published warehouse, kept and published."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from models.regression import Compared, compare
from warehouse import comparisons, regressions, writer


def look(home: Path, trial_ids: Sequence[str] | None = None) -> Compared:
    """Compares the newest published measurements (of the series of these trials, or of all) with the last before them;
    what had something to be compared with is kept and published. Raises UserError when nothing is published."""
    found = Compared(at=dt.datetime.now(dt.UTC).isoformat(), dyno_version=version("llm-dyno"),
                     comparisons=tuple(compare(regressions.runs(home, trial_ids))))
    if found.comparisons:
        comparisons.write(home, found)
        writer.ingest(home)
        writer.publish(home)
    return found
