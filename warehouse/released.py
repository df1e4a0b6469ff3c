"""What was measured of a release, as far as it is published."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from models.errors import UserError
from models.releases.release import Release
from warehouse import published

_POINTS = """
    with found as (
        select t.duration_s, t.setup_id, t.ready_s from trials t join setups s using (setup_id)
        join models m using (model_id) join engines g using (engine_id)
        where case when ? = 'model' then m.content = ? else g.engine = ? and contains(g.version, ?) end)
    select count(*), coalesce(sum(duration_s), 0) + (
        select coalesce(sum(ready_s), 0) from (select distinct setup_id, ready_s from found)) from found"""
_FAILURES = """
    select count(*), arg_max(error, failed_at) from failures where failed_at >= ? and case
        when ? = 'model' then json_extract_string(record, '$.setup.model.content') = ?
        else json_extract_string(record, '$.setup.engine.engine') = ?
             and json_extract_string(record, '$.setup.engine.version') = ? end"""


@dataclass(frozen=True)
class Measured:
    """Points that are published, hours that engines ran for them, and launches that failed, with the newest reason."""

    points: int = 0
    engine_hours: float = 0.0
    failures: int = 0
    reason: str = ""


def measured(home: Path, release: Release, since: str) -> Measured:
    """Points of a release, and its failures since an instant (ISO 8601)."""
    began = dt.datetime.fromisoformat(since).astimezone(dt.UTC).replace(tzinfo=None)
    which = [release.kind, release.content or "", release.name, release.version]
    try:
        with published.connect(home) as con:
            points, seconds = con.execute(_POINTS, which).fetchone() or (0, 0.0)
            failures, reason = con.execute(_FAILURES, [began, *which]).fetchone() or (0, "")
    except UserError:  # nothing was published yet
        return Measured()
    return Measured(points, seconds / 3600, failures, reason or "")
