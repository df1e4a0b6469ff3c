"""The published snapshot: where it lies, and connections to it. Opened by whoever asks, and let go, so that a newer one
is seen at once.

Each connection is an in-memory database of its own with the snapshot attached read-only: DuckDB shares instances of one
path within a process, and a shared one would go on showing a snapshot that has been swapped out.

What stands for a home may be a served warehouse as well (`quack:host:port`, models.paths.warehouse): then all of it is
asked there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from models.errors import UserError, WarehouseError
from warehouse import _schema, quack
from warehouse.quack import Served

Connection = duckdb.DuckDBPyConnection | Served
CATALOG = "dyno"


def snapshot(home: Path) -> Path:
    """Where it lies."""
    return home / "published" / "dyno.duckdb"


@contextmanager
def connect(home: Path) -> Iterator[Connection]:
    """Opens the published snapshot, read-only, or asks the one that is served. Raises UserError when there is none yet,
    and WarehouseError when it, or what is asked of it within the `with`, cannot be read: damaged, of another dyno, or
    not answering."""
    opened = quack.connect(home) if quack.is_served(home) else _attached(home)
    with opened as con:
        yield con


@contextmanager
def _attached(home: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    path = snapshot(home)
    if not path.exists():
        raise UserError(f"nothing has been measured and published yet in {home}: `make run` (or `dyno demo`) measures "
                        "this machine, `dyno evaluate FILE` an experiment of your own")
    con = duckdb.connect(":memory:", config={"temp_directory": tempfile.gettempdir()})
    try:
        con.execute(f"attach '{str(path).replace(chr(39), chr(39) * 2)}' as {CATALOG} (read_only)")
        con.execute(f"use {CATALOG}")
        _schema.check(con)
        yield con
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise WarehouseError(f"{path} cannot be read ({reason}): {_schema.REBUILD}") from None
    except WarehouseError as error:
        raise WarehouseError(f"{path}: {error}") from None
    finally:
        con.close()


def stamp(home: Path) -> tuple[int, int] | None:
    """Identifies the published snapshot, for caches: another one has another stamp. None when there is none. Raises
    UserError or WarehouseError where a served one does not answer."""
    if quack.is_served(home):
        return quack.stamp(home)
    try:
        stat = snapshot(home).stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_ino
