"""Brings a database to this dyno's schema: named steps in order, each once; views whenever their text has changed."""

from __future__ import annotations

import hashlib
from importlib import resources

import duckdb

from models.errors import WarehouseError

METRIC_COMMENTS = {
    "ttft_ms": "time to first token, from sent, ms",
    "ttft_from_schedule_ms": "time to first token, from the instant it was meant to be sent, ms; limits are on this",
    "first_content_ms": "time to the first token of the answer proper, from sent, ms",
    "tpot_ms": "mean time per output token after the first, of each request, ms",
    "itl_ms": "gap between consecutive chunks, pooled over requests, ms",
    "e2e_ms": "whole answer, from sent, ms",
    "e2e_from_schedule_ms": "whole answer, from the instant it was meant to be sent, ms",
    "send_delay_ms": "how late it was sent, ms: queueing in the client",
}
REBUILD = "`dyno rebuild` makes it again from the bundles, which stay as they are"
STATISTICS = ("mean", "p50", "p90", "p95", "p99")


def steps(folder: str) -> list[tuple[str, str]]:
    """Returns (name, SQL) of the files in `migrations` or `views`, in order."""
    files = [f for f in resources.files("warehouse").joinpath(folder).iterdir() if f.name.endswith(".sql")]
    return [(f.name.removesuffix(".sql"), f.read_text()) for f in sorted(files, key=lambda f: f.name)]


def fingerprint() -> str:
    """Identifies the text of the migrations and views that this dyno knows."""
    text = "\0".join(part for folder in ("migrations", "views") for step in steps(folder) for part in step)
    return hashlib.sha256((text + repr(METRIC_COMMENTS)).encode()).hexdigest()[:16]


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
    for metric, text in METRIC_COMMENTS.items():
        for statistic in STATISTICS:
            con.execute(f"comment on column measurements.{metric}_{statistic} is '{text} ({statistic})'")
    con.execute("delete from _views")
    con.execute("insert into _views values (?)", [fingerprint()])
