"""Bundles as rows, many in one transaction: to store and commit a hundred costs little more than to do so with one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import duckdb

from models.errors import BundleError
from models.progress import Progress
from warehouse import _project, bundles, earlier
from warehouse.bundles import Bundle

MOST, MOST_BYTES = 100, 32 * 2**20
"""Of one transaction: bundles, and bytes of their requests' files."""
_BAD = (BundleError, OSError, ValueError, duckdb.DataError, duckdb.ConstraintException)

Failed = list[tuple[Path, str]]


def ingest(con: duckdb.DuckDBPyConnection, home: Path, progress: Progress, trial_ids: Collection[str] | None,
           ) -> tuple[int, int, Failed]:
    """Stores every bundle (of these trials) that the database does not hold as it is. Returns how many it stored, how
    many were there already, and those left out with the reason."""
    stored = dict(con.execute("select trial_id, bundle_sha256 from trials").fetchall())
    paths = bundles.paths(home) if trial_ids is None else [
        path for trial_id in sorted(trial_ids) if (path := bundles.folder(home) / trial_id).is_dir()]
    new = [path for path in paths if stored.get(path.name) != _fingerprint(path)]
    failed: Failed = []
    done = 0
    for batch in _batches(new):
        progress("storing", done / len(new), batch[0].name)
        done += len(batch)
        failed += _store_all(con, home, batch, stored)
    return len(new) - len(failed), len(paths) - len(new), failed


def _fingerprint(path: Path) -> str:
    try:
        return _project.fingerprint(path)
    except OSError:  # to be told when it is read
        return ""


def _batches(paths: Sequence[Path]) -> Iterator[list[Path]]:
    batch, size = list[Path](), 0
    for path in paths:
        batch.append(path)
        file = path / bundles.REQUESTS_FILE
        size += file.stat().st_size if file.exists() else 0
        if len(batch) == MOST or size > MOST_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _store_all(con: duckdb.DuckDBPyConnection, home: Path, paths: Sequence[Path], stored: dict[str, str]) -> Failed:
    failed: Failed = []
    read = []
    for path in paths:
        try:
            read.append((bundles.read(path), _project.fingerprint(path)))
        except _BAD as error:
            failed.append((path, _first_line(error)))
    try:
        _together(con, home, read, stored)
    except _BAD:  # one of them: each alone then, so that the others are stored and this one is named
        for one in read:
            try:
                _together(con, home, [one], stored)
            except _BAD as error:
                failed.append((one[0].path, _first_line(error)))
    return failed


def _together(con: duckdb.DuckDBPyConnection, home: Path, read: Sequence[tuple[Bundle, str]], stored: dict[str, str],
              ) -> None:
    """In one transaction; what they take the place of is kept as earlier measurements."""
    again = [bundle.measurement for bundle, _ in read if bundle.path.name in stored]
    con.begin()
    try:
        for measurement in again:
            earlier.keep(con, home, measurement)
        _project.store_bundles(con, home, read, [measurement.trial_id for measurement in again])
        con.commit()
    except BaseException:
        con.rollback()
        raise


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
