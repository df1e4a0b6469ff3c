"""What the release watch saw: a file a release beside the bundles, and its row.

    releases/<release_id>.json      a models.releases.release.Seen
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
from pydantic import ValidationError

from models.errors import BundleError
from models.releases.release import Seen
from warehouse import _disk, _project

SCHEMA_VERSION = 1


def folder(home: Path) -> Path:
    """Where they are kept."""
    return home / "releases"


def remember(home: Path, seen: Seen) -> None:
    """Keeps what is known of a release, in place of what was known before."""
    with _disk.locked(folder(home) / ".lock"):
        _disk.write_file(folder(home) / f"{seen.release.release_id}.json", seen.model_dump_json(indent=1).encode())


def every(home: Path) -> list[Seen]:
    """Everything that was seen, the first seen first. Raises BundleError for a file that cannot be read."""
    return sorted(map(read, _paths(home)), key=lambda seen: seen.seen_at)


def read(path: Path) -> Seen:
    """Reads one. Raises BundleError naming the file and the reason."""
    try:
        seen = Seen.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise BundleError(f"{path}: is not a release: {str(error).splitlines()[0]}") from None
    if seen.schema_version > SCHEMA_VERSION:
        raise BundleError(f"{path}: is of schema version {seen.schema_version}, written by a newer dyno"
                          f" ({seen.dyno_version}); this one reads up to {SCHEMA_VERSION}")
    return seen


def _paths(home: Path) -> list[Path]:
    return sorted(folder(home).glob("[!.]*.json"))


def ingest(con: duckdb.DuckDBPyConnection, home: Path) -> list[tuple[Path, str]]:
    """Makes the rows what the files say. Returns what could not be read."""
    stored: dict[str, Any] = dict(con.execute("select release_id, record::varchar from releases").fetchall())
    unread = []
    for path in _paths(home):
        try:
            seen = read(path)
        except BundleError as error:
            unread.append((path, str(error)))
            continue
        if stored.get(path.stem) != seen.model_dump_json():
            _project.upsert(con, "releases", _row(seen))
    return unread


def _row(seen: Seen) -> dict[str, Any]:
    release, runs = seen.release, seen.runs
    ended = [run.ended_at for run in runs if run.ended_at]
    hours = [run.engine_hours for run in runs if run.engine_hours is not None]
    return release.model_dump(include={"kind", "name", "version", "source", "url", "format", "quantization",
                                       "parameters", "licence", "gated", "content"}) | {
        "release_id": release.release_id, "state": seen.state, "why": seen.why or None,
        "estimate": seen.estimate or None, "released_at": release.released_at and _project.utc(release.released_at),
        "seen_at": _project.utc(seen.seen_at), "decided_at": _project.utc(seen.decided_at),
        "started_at": _project.utc(min(run.started_at for run in runs)) if runs else None,
        "ended_at": _project.utc(max(ended)) if runs and len(ended) == len(runs) else None,
        "engine_hours": sum(hours) if hours else None, "pools": list(dict.fromkeys(run.pool for run in runs)),
        "flow_run_ids": [run.flow_run_id for run in runs if run.flow_run_id], "record": seen.model_dump_json()}
