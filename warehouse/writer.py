"""The one writer: opens, commits and closes for each ingest, so that nobody else ever waits long.

Readers never open this file: they read the snapshot that `publish` swaps in whole.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from models import prices as prices_of
from models.capabilities import EngineAbout
from models.errors import BundleError, UserError, WarehouseError
from models.progress import Progress, silent
from models.specs import HardwareSpec, Price
from warehouse import (
    _batches,
    _disk,
    _project,
    _quality,
    _schema,
    bundles,
    calibrations,
    capabilities,
    comparisons,
    earlier,
    observed,
    pricelist,
    releases,
)
from warehouse.published import snapshot

DATABASE = "warehouse.duckdb"
LOCK = "warehouse.lock"
_DAMAGE = (duckdb.IOException, duckdb.SerializationException, duckdb.InternalException, duckdb.FatalException,
           duckdb.CatalogException)
"""What DuckDB raises on a file that is not as it was written."""


@dataclass(frozen=True)
class IngestReport:
    """Bundles stored by this call, bundles that were stored already, what was left out with the reason, and how many
    setups' next-token distributions are new."""

    added: int = 0
    skipped: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)
    asked: int = 0


def ingest(home: Path, progress: Progress = silent, timeout_s: float = _disk.LOCK_TIMEOUT_S,
           trial_ids: Collection[str] | None = None) -> IngestReport:
    """Stores every bundle, failure and price that the database does not hold yet; of bundles, only those of these
    trials, where they are given: a look at each takes time where there are many thousands.

    A trial that was measured again replaces its rows. A corrupt bundle is left out and reported. Raises UserError
    when another process keeps the warehouse locked for longer than `timeout_s`.
    """
    with _opened(home, timeout_s) as con:
        return _ingest(con, home, progress, trial_ids)


def rebuild(home: Path, progress: Progress = silent, timeout_s: float = _disk.LOCK_TIMEOUT_S) -> IngestReport:
    """Makes the database again from what lies on disk, in a new file that takes the old one's place when whole."""
    fresh = home / f"{_disk.NEW}{DATABASE}"
    with _disk.locked(home / LOCK, timeout_s):
        _remove(fresh)
        con = _connect(fresh)
        try:
            _schema.upgrade(con)
            report = _ingest(con, home, progress)
        finally:
            con.close()
        _wal(home / DATABASE).unlink(missing_ok=True)  # a log replayed on another file than its own would spoil it
        fresh.replace(home / DATABASE)
        _disk.sync(home)
    return report


def publish(home: Path, timeout_s: float = _disk.LOCK_TIMEOUT_S) -> Path:
    """Swaps a fresh copy of the database in as the snapshot that readers open; returns its path.

    Readers that have the old one open keep it. The copy is whole, however little is new: that is seconds a few GB,
    once an evaluation (none on a file system that shares blocks). Raises UserError when the warehouse stays locked.
    """
    target = snapshot(home)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _disk.locked(home / LOCK, timeout_s):
        with _database(home) as con:
            observed.refresh(con)
            con.execute("checkpoint")
        fresh = target.with_name(f"{_disk.NEW}{target.name}")
        fresh.unlink(missing_ok=True)
        _disk.copy(home / DATABASE, fresh)
        fresh.chmod(0o444)
        _disk.sync(fresh)
        fresh.replace(target)
        _disk.sync(target.parent)
    return target


def is_published(home: Path) -> bool:
    """Whether the snapshot exists, holds everything that was stored, and has the views of this dyno."""
    target, database = snapshot(home), home / DATABASE
    if not target.exists() or not database.exists() or _wal(database).exists():
        return False
    if target.stat().st_mtime_ns < database.stat().st_mtime_ns:
        return False
    try:
        with duckdb.connect(":memory:") as con:
            con.execute(f"attach '{_quoted(target)}' as published (read_only)")
            return con.execute("select fingerprint from published._views").fetchone() == (_schema.fingerprint(),)
    except duckdb.Error:
        return False


def hardware(home: Path, timeout_s: float = _disk.LOCK_TIMEOUT_S) -> list[HardwareSpec]:
    """What was measured on."""
    with _disk.locked(home / LOCK, timeout_s), _database(home) as con:
        found = con.execute("select * exclude (hardware_id) from hardware order by hardware_id").pl()
    return [HardwareSpec.model_validate(row) for row in found.to_dicts()]


def set_price(home: Path, price: Price, timeout_s: float = _disk.LOCK_TIMEOUT_S) -> bool:
    """Stores a price that a person gave: a file beside the bundles, and its row. Returns whether anything changed.

    One of the same hardware, tier, date, source and region is replaced. It always wins over a bundled one.
    """
    return set_prices(home, [price], given=True, timeout_s=timeout_s) > 0


def set_known_prices(home: Path, hardware: Iterable[HardwareSpec], timeout_s: float = _disk.LOCK_TIMEOUT_S) -> None:
    """Stores the bundled prices of this hardware, where nothing better is."""
    of = {spec.hardware_id: spec for spec in hardware}.values()
    set_prices(home, [p for spec in of for p in prices_of.bundled(spec)], given=False, keep_existing=True,
               timeout_s=timeout_s)


def set_prices(home: Path, prices: Sequence[Price], given: bool, keep_existing: bool = False,
               timeout_s: float = _disk.LOCK_TIMEOUT_S) -> int:
    """Stores several at once; returns how many changed. `given`: by a person; with `keep_existing`, one of the same
    hardware, tier, date, source and region stays."""
    with _disk.locked(home / LOCK, timeout_s):
        new = [p for p in prices
               if not (keep_existing and (home / "prices" / f"{pricelist.key_of(p)}.json").exists())]
        if not new:
            return 0
        stored = [pricelist.write(home, price, given) for price in new]
        with _database(home) as con:
            for one in stored:
                _project.store_price(con, one)
    return len(new)


def sync_prices(home: Path, timeout_s: float = _disk.LOCK_TIMEOUT_S) -> bool:
    """Brings the database's prices to what prices.yaml says. Returns whether anything changed; nothing is made where
    there is no database yet. Raises UserError naming the file and the field when it is wrong."""
    pricelist.own(home)
    if not (home / DATABASE).exists():
        return False
    with _opened(home, timeout_s) as con:
        return _own_prices(con, home)


def set_engines(home: Path, engines: Sequence[EngineAbout], timeout_s: float = _disk.LOCK_TIMEOUT_S) -> bool:
    """Stores what the engines can do: a file beside the bundles, and its rows. Returns whether anything changed."""
    with _disk.locked(home / LOCK, timeout_s):
        changed = capabilities.write(home, engines)
        if changed:
            with _database(home) as con:
                capabilities.ingest(con, home)
    return changed


@contextmanager
def _opened(home: Path, timeout_s: float) -> Iterator[duckdb.DuckDBPyConnection]:
    with _disk.locked(home / LOCK, timeout_s), _database(home) as con:
        yield con


@contextmanager
def _database(home: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The database with this dyno's schema; the caller holds the lock."""
    con = _connect(home / DATABASE)
    try:
        _schema.upgrade(con)
        yield con
    except _DAMAGE as error:
        reason = str(error).splitlines()[0]
        raise WarehouseError(f"{home / DATABASE} is damaged ({reason}): {_schema.REBUILD}") from None
    finally:
        con.close()


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    try:
        return duckdb.connect(str(path))
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        if "Could not set lock" in reason:
            raise UserError(f"{path} is open in another program; close it (readers use {snapshot(path.parent)}): "
                            f"{reason}") from None
        raise WarehouseError(f"{path} cannot be opened ({reason}): {_schema.REBUILD}") from None


def _ingest(con: duckdb.DuckDBPyConnection, home: Path, progress: Progress,
            trial_ids: Collection[str] | None = None) -> IngestReport:
    _disk.recover(bundles.folder(home))
    added, skipped, failed = _batches.ingest(con, home, progress, trial_ids)
    asked, unread = _quality.ingest(con, home)
    failed += _ingest_failures(con, home) + _ingest_prices(con, home) + unread + capabilities.ingest(con, home)
    failed += _quality.ingest_scores(con, home) + calibrations.ingest(con, home)
    failed += earlier.ingest(con, home) + comparisons.ingest(con, home)
    failed += releases.ingest(con, home)
    return IngestReport(added, skipped, failed, asked)


def _ingest_failures(con: duckdb.DuckDBPyConnection, home: Path) -> list[tuple[Path, str]]:
    failed = []
    stored = {row[0] for row in con.execute("select failure from failures").fetchall()}
    for path in (p for p in bundles.failures(home) if p.name not in stored):
        try:
            _project.store_failure(con, path.name, bundles.read_failure(path))
        except BundleError as error:
            failed.append((path, str(error)))
    return failed


def _ingest_prices(con: duckdb.DuckDBPyConnection, home: Path) -> list[tuple[Path, str]]:
    failed = []
    stored: dict[str, dt.datetime] = dict(con.execute("select price_id, stored_at from prices").fetchall())
    for path in pricelist.paths(home):
        try:
            price = pricelist.read(path)
        except BundleError as error:
            failed.append((path, str(error)))
            continue
        if stored.get(price.key) != price.stored_at:
            _project.store_price(con, price)
    try:
        _own_prices(con, home)
    except UserError as error:
        failed.append((home / pricelist.OWN, str(error)))
    return failed


def _own_prices(con: duckdb.DuckDBPyConnection, home: Path) -> bool:
    """The rows of prices.yaml as they are now; those that are no longer in it go."""
    own = {p.key: p for p in pricelist.own(home)}
    stored: dict[str, dt.datetime] = dict(con.execute(
        "select price_id, stored_at from prices where starts_with(price_id, ?)", [pricelist.OWN]).fetchall())
    if stored == {key: price.stored_at for key, price in own.items()}:
        return False
    con.execute("delete from prices where starts_with(price_id, ?)", [pricelist.OWN])
    for price in own.values():
        _project.store_price(con, price)
    return True


def _wal(database: Path) -> Path:
    return database.with_name(f"{database.name}.wal")


def _remove(database: Path) -> None:
    database.unlink(missing_ok=True)
    _wal(database).unlink(missing_ok=True)


def _quoted(path: Path) -> str:
    return os.fspath(path).replace("'", "''")
