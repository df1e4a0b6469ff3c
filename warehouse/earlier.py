"""Earlier measurements: what a trial that was measured again had measured before, so that the two can be compared.

    earlier/<trial_id>-<start>.json     the measurement, and the times of each request that was answered

Bundles hold the newest measurement of a trial alone. The writer keeps what it is about to replace.
"""

from __future__ import annotations

from pathlib import Path

import duckdb
from pydantic import ValidationError

from models.errors import BundleError
from models.identity import Record
from models.paired import FIGURES
from models.records import Measurement
from warehouse import _disk, _project


class Earlier(Record):
    """A measurement without its frames; of its requests that were answered: the number, and FIGURES in ms."""

    measurement: Measurement
    request_index: tuple[int, ...]
    ttft_from_schedule_ms: tuple[float | None, ...]
    tpot_ms: tuple[float | None, ...]
    e2e_from_schedule_ms: tuple[float | None, ...]


def folder(home: Path) -> Path:
    """Where they are kept."""
    return home / "earlier"


def keep(con: duckdb.DuckDBPyConnection, home: Path, new: Measurement) -> None:
    """Keeps what the database holds of a trial that `new` is about to replace, unless it is the same measurement."""
    found = con.execute("select measurement from trials where trial_id = ?", [new.trial_id]).fetchone()
    old = Measurement.model_validate_json(found[0]) if found else new
    if old.started_at == new.started_at:
        return
    rows = con.execute(f"select request_index, {', '.join(FIGURES)} from latencies where trial_id = ? "  # noqa: S608
                       "and phase = 'measured' and outcome = 'ok' order by request_index", [new.trial_id]).fetchall()
    columns = zip(*rows, strict=True) if rows else ((),) * (1 + len(FIGURES))
    kept = Earlier(measurement=old, **dict(zip(("request_index", *FIGURES), columns, strict=True)))
    path = folder(home) / f"{old.trial_id}-{_project.utc(old.started_at):%Y%m%dT%H%M%S.%f}.json"
    with _disk.locked(folder(home) / ".lock"):
        _disk.write_file(path, kept.model_dump_json().encode())
    _store(con, kept)


def ingest(con: duckdb.DuckDBPyConnection, home: Path) -> list[tuple[Path, str]]:
    """Stores those that the database does not hold yet. Returns what could not be read."""
    stored = {f"{trial}-{at:%Y%m%dT%H%M%S.%f}.json" for trial, at in
              con.execute("select trial_id, started_at from earlier").fetchall()}
    unread = []
    for path in sorted(folder(home).glob("[!.]*.json")):
        if path.name in stored:
            continue
        try:
            _store(con, read(path))
        except BundleError as error:
            unread.append((path, str(error)))
    return unread


def read(path: Path) -> Earlier:
    """Reads one. Raises BundleError naming the file and the reason."""
    try:
        return Earlier.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise BundleError(f"{path}: is not an earlier measurement: {str(error).splitlines()[0]}") from None


def _store(con: duckdb.DuckDBPyConnection, kept: Earlier) -> None:
    old = kept.measurement
    _project.upsert(con, "earlier", {
        "trial_id": old.trial_id, "started_at": _project.utc(old.started_at), "engine_version": old.run.engine_version,
        "fatal": any(v.severity == "fatal" for v in old.verdicts), "trust": old.trust,
        **{name: list(getattr(kept, name)) for name in ("request_index", *FIGURES)},
        "measurement": old.model_dump_json()})
