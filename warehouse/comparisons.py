"""A file for each look at what changed that had something to compare.

    comparisons/<instant>-<hash>.json       a models.regression.Compared
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import duckdb
from pydantic import ValidationError

from models.errors import BundleError
from models.regression import Compared
from warehouse import _disk, _project

SCHEMA_VERSION = 1


def folder(home: Path) -> Path:
    """Where they are kept."""
    return home / "comparisons"


def write(home: Path, found: Compared) -> Path:
    """Keeps a look: what it says of whole engines, and points that changed otherwise. Returns its file."""
    kept = (*(one for one in found.comparisons if one.setup is None), *(one for one in found.changed if one.setup))
    content = found.model_copy(update={"comparisons": kept}).model_dump_json(indent=1).encode()
    path = folder(home) / f"{found.at[:19].replace(':', '')}-{hashlib.sha256(content).hexdigest()[:8]}.json"
    with _disk.locked(folder(home) / ".lock"):
        _disk.write_file(path, content)
    return path


def read(path: Path) -> Compared:
    """Reads a look. Raises BundleError naming the file and the reason."""
    try:
        found = Compared.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise BundleError(f"{path}: is no comparison: {str(error).splitlines()[0]}") from None
    if found.schema_version > SCHEMA_VERSION:
        raise BundleError(f"{path}: is of schema version {found.schema_version}, written by a newer dyno "
                          f"({found.dyno_version}); this one reads up to {SCHEMA_VERSION}")
    return found


def ingest(con: duckdb.DuckDBPyConnection, home: Path) -> list[tuple[Path, str]]:
    """Stores the looks that the database does not hold yet. Returns what could not be read."""
    stored = {row[0] for row in con.execute("select distinct run from comparisons").fetchall()}
    unread = []
    for path in sorted(folder(home).glob("[!.]*.json")):
        if path.name in stored:
            continue
        try:
            found = read(path)
        except BundleError as error:
            unread.append((path, str(error)))
            continue
        for position, one in enumerate(found.comparisons):
            _project.upsert(con, "comparisons", one.model_dump() | {
                "run": path.name, "position": position, "compared_at": _project.utc(found.at), "text": one.text,
                "dyno_version": found.dyno_version, "trials_before": list(one.trials_before),
                "trials_after": list(one.trials_after), "caveats": list(one.caveats)})
    return unread
