"""Warehouses that cannot be read, each made from one that can."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb

from warehouse import _schema


def _garbage(path: Path) -> None:
    path.write_bytes(b"not a database" * 20_000)


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _truncated(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:len(whole) // 2])


def _overwritten(path: Path) -> None:
    """The headers stay, so that it opens."""
    whole = path.read_bytes()
    path.write_bytes(whole[:12_288] + b"\xff" * (len(whole) - 12_288))


def _another(path: Path) -> None:
    path.unlink()
    with duckdb.connect(str(path)) as con:
        con.execute("create table measurements as select 1 as x")


def _older(path: Path) -> None:
    path.unlink()
    with duckdb.connect(str(path)) as con:
        con.execute("create table _migrations (name varchar primary key, applied_at timestamp not null)")
        for name, sql in _schema.steps("migrations")[:5]:
            con.execute(sql)
            con.execute("insert into _migrations values (?, now()::timestamp)", [name])


def _newer(path: Path) -> None:
    with duckdb.connect(str(path)) as con:
        con.execute("insert into _migrations values ('9999_from_the_future', now()::timestamp)")


def _without_views(path: Path) -> None:
    with duckdb.connect(str(path)) as con:
        views = con.execute("select view_name from duckdb_views() where not internal").fetchall()
        for (name,) in views:
            con.execute(f'drop view "{name}"')


WAYS: dict[str, tuple[Callable[[Path], None], str]] = {
    "garbage": (_garbage, "dyno rebuild"), "emptied": (_emptied, "dyno rebuild"),
    "truncated": (_truncated, "dyno rebuild"), "overwritten": (_overwritten, "dyno rebuild"),
    "another program's": (_another, "none of dyno's"), "older": (_older, "older dyno"),
    "newer": (_newer, "newer dyno .step 9999_from_the_future.*upgrade dyno"),
    "without views": (_without_views, "dyno rebuild"),
}
"""How a database file is spoilt, and what is said of it (a regular expression)."""


def spoil(path: Path, way: str) -> None:
    """Spoils a database file; nobody may have it open."""
    path.chmod(0o644)
    WAYS[way][0](path)
