"""Brings a database to this dyno's schema: named steps in order, each once; views whenever their text has changed."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

import duckdb

from models.errors import WarehouseError
from warehouse import _comments

INTERVALS = ("requests_per_second", "output_tokens_per_second", *(
    f"{name}_{statistic}" for name in ("ttft_from_schedule_ms", "tpot_ms", "itl_ms", "e2e_from_schedule_ms")
    for statistic in ("mean", "p50", "p95", "p99")))
"""Metrics whose 95 % intervals are kept beside them: low and high of each, in this order."""
REBUILD = "`dyno rebuild` makes it again from the bundles, which stay as they are"


@cache
def steps(folder: str) -> tuple[tuple[str, str], ...]:
    """Returns (name, SQL) of the files in `migrations` or `views`, in order."""
    files = [f for f in resources.files("warehouse").joinpath(folder).iterdir() if f.name.endswith(".sql")]
    return tuple((f.name.removesuffix(".sql"), f.read_text()) for f in sorted(files, key=lambda f: f.name))


@cache
def fingerprint() -> str:
    """Identifies the text of the migrations and views that this dyno knows."""
    text = "\0".join(part for folder in ("migrations", "views") for step in steps(folder) for part in step)
    known = repr((_comments.METRICS, _comments.COMMON, _comments.OWN))
    return hashlib.sha256((text + known).encode()).hexdigest()[:16]


def upgrade(con: duckdb.DuckDBPyConnection) -> None:
    """Applies what is missing, all or nothing. Raises WarehouseError for a database that a newer dyno wrote."""
    con.execute("create table if not exists _migrations (name varchar primary key, applied_at timestamp not null)")
    con.execute("create table if not exists _views (fingerprint varchar not null)")
    done = {row[0] for row in con.execute("select name from _migrations").fetchall()}
    known = steps("migrations")
    _refuse_newer(done)
    missing = [step for step in known if step[0] not in done]
    current = con.execute("select fingerprint from _views").fetchone()
    if not missing and current == (fingerprint(),):
        return
    con.begin()
    try:
        for name, sql in missing:
            con.execute(sql)
            con.execute("insert into _migrations values (?, now() at time zone 'UTC')", [name])
        _views(con)
        con.commit()
    except BaseException:
        con.rollback()
        raise


def check(con: duckdb.DuckDBPyConnection) -> None:
    """Raises WarehouseError for a database that this dyno cannot read as it is: older, newer, or not dyno's."""
    tables = {row[0] for row in con.execute("select table_name from duckdb_tables() where database_name = "
                                            "current_database()").fetchall()}
    if "_migrations" not in tables:
        raise WarehouseError(f"this is a database, but none of dyno's: {REBUILD}")
    done = {row[0] for row in con.execute("select name from _migrations").fetchall()}
    _refuse_newer(done)
    missing = [name for name, _ in steps("migrations") if name not in done]
    if missing:
        raise WarehouseError(f"this warehouse was written by an older dyno (it lacks step {missing[0]}): {REBUILD}")


def _refuse_newer(done: set[str]) -> None:
    unknown = sorted(done - {name for name, _ in steps("migrations")})
    if unknown:
        raise WarehouseError(f"this warehouse was written by a newer dyno (step {unknown[-1]} is not known here): "
                             f"upgrade dyno, or, {REBUILD}")


def _views(con: duckdb.DuckDBPyConnection) -> None:
    for _, sql in steps("views"):
        con.execute(sql)
    _comment(con)
    con.execute("delete from _views")
    con.execute("insert into _views values (?)", [fingerprint()])


def _comment(con: duckdb.DuckDBPyConnection) -> None:
    """Says what columns mean where the SQL above did not."""
    said = _comments.said(sql for folder in ("migrations", "views") for _, sql in steps(folder))
    columns = con.execute("select table_name, column_name from duckdb_columns() where database_name = "
                          "current_database() and not internal and not starts_with(table_name, '_')").fetchall()
    texts = {(relation, column): _comments.comment(relation, column) for relation, column in columns
             if f"{relation}.{column}" not in said}
    con.execute(";".join(f"comment on column {relation}.\"{column}\" is '{text.replace(chr(39), chr(39) * 2)}'"
                         for (relation, column), text in texts.items() if text))
