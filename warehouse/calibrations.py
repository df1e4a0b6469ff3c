"""Calibrations: a file for each run that had something new, and its rows.

    calibrations/<instant>-<hash>.json      a models.planning.calibration.CalibrationRun
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import duckdb
from pydantic import ValidationError

from models.errors import BundleError
from models.planning.calibration import Calibration, CalibrationRun, CurveKey
from warehouse import _disk, _project

SCHEMA_VERSION = 1


def folder(home: Path) -> Path:
    """Where they are kept."""
    return home / "calibrations"


def write(home: Path, run: CalibrationRun) -> Path:
    """Keeps a run; returns its file."""
    content = run.model_dump_json(indent=1).encode()
    path = folder(home) / f"{run.at[:19].replace(':', '')}-{hashlib.sha256(content).hexdigest()[:8]}.json"
    with _disk.locked(folder(home) / ".lock"):
        _disk.write_file(path, content)
    return path


def paths(home: Path) -> list[Path]:
    """Every run, the oldest first."""
    return sorted(folder(home).glob("[!.]*.json"))


def read(path: Path) -> CalibrationRun:
    """Reads a run. Raises BundleError naming the file and the reason."""
    try:
        run = CalibrationRun.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise BundleError(f"{path}: is not a calibration: {str(error).splitlines()[0]}") from None
    if run.schema_version > SCHEMA_VERSION:
        raise BundleError(f"{path}: is of schema version {run.schema_version}, written by a newer dyno"
                          f" ({run.dyno_version}); this one reads up to {SCHEMA_VERSION}")
    return run


def latest(home: Path) -> dict[CurveKey, Calibration]:
    """The newest calibration of each curve. Raises BundleError for a file that cannot be read."""
    return {one.key: one for path in paths(home) for one in read(path).calibrations}


def ingest(con: duckdb.DuckDBPyConnection, home: Path) -> list[tuple[Path, str]]:
    """Stores the runs that the database does not hold yet. Returns what could not be read."""
    stored = {row[0] for row in con.execute("select run from calibrations union select run from surprises").fetchall()}
    unread = []
    for path in (p for p in paths(home) if p.name not in stored):
        try:
            _store(con, path.name, read(path))
        except BundleError as error:
            unread.append((path, str(error)))
    return unread


def _store(con: duckdb.DuckDBPyConnection, name: str, run: CalibrationRun) -> None:
    shared = {"run": name, "dyno_version": run.dyno_version}
    for one in run.calibrations:
        for fitted in one.fits:
            _project.upsert(con, "calibrations", shared | one.key.model_dump() | {
                "calibrated_at": _project.utc(run.at), "quantity": fitted.quantity, "form": fitted.form,
                **fitted.parameters, "knee": fitted.knee, "error": fitted.error, "error_points": fitted.of,
                "concurrency_low": fitted.points[0].concurrency, "concurrency_high": fitted.points[-1].concurrency,
                "trial_ids": [seen.trial_id for seen in one.seen], "fit": fitted.model_dump_json()})
    for surprise in run.surprises:
        predicted = surprise.predicted
        _project.upsert(con, "surprises", surprise.key.model_dump() | {
            "run": name, "seen_at": _project.utc(run.at), "trial_id": surprise.trial_id, "quantity": surprise.quantity,
            "concurrency": surprise.concurrency, "measured": surprise.measured, "predicted": predicted.value,
            "low": predicted.low, "high": predicted.high, "extrapolated": predicted.extrapolates})
