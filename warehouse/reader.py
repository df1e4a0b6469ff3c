"""Readers: tables and frames of the published snapshot (warehouse.published), a person's SQL, bundles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from models.errors import UserError
from models.frames import REQUESTS, TELEMETRY
from models.records import Measurement
from warehouse import _user_sql, bundles, published, quack
from warehouse.bundles import Bundle

SAMPLES_SHOWN = 5
SCHEMA = """
    with relations as (
        select view_name as name, 'view' as kind, comment as about from duckdb_views()
        where database_name = current_database() and not internal
        union all
        select table_name, 'table', comment from duckdb_tables() where database_name = current_database()
    )
    select r.name, r.kind, r.about, c.column_name as column, c.data_type as type, c.comment
    from relations r join duckdb_columns() c on c.table_name = r.name and c.database_name = current_database()
    where not starts_with(r.name, '_')
    order by r.name <> 'measurements', r.kind desc, r.name, c.column_index"""
"""What `schema` asks of a database."""


def query(home: Path, sql: str, params: Sequence[object] | None = None) -> pl.DataFrame:
    """Answers dyno's own SQL on the snapshot. Raises UserError when there is no snapshot."""
    with published.connect(home) as con:
        return _user_sql.to_polars(con.execute(sql, params))


def user_sql(home: Path, sql: str, rows_max: int | None = None, memory_mb: int | None = None) -> pl.DataFrame:
    """Answers a person's SQL: read-only, no file or network access, configuration locked, nothing but questions.

    Several statements are run in order, and the last one's result is returned, its first `rows_max` rows: what lies
    beyond is never made. memory_mb: that DuckDB may use, before it spills to disk or gives up; left out, 80 % of the
    machine's. Raises QueryError with DuckDB's own message, and UserError when there is no snapshot.
    """
    with published.connect(home) as con:
        return _user_sql.answer(con, sql, rows_max, memory_mb)


def schema(home: Path) -> pl.DataFrame:
    """Lists what can be asked: columns `name`, `kind` (view or table), `about`, `column`, `type`, `comment`.

    Views come first, `measurements` before all.
    """
    return query(home, SCHEMA.replace("current_database()", "(select alias from _served)") if quack.is_served(home)
                 else SCHEMA)


def newest(home: Path, limit: int, words: Sequence[str] = ()) -> pl.DataFrame:
    """Returns the newest of `measurements` whose names, load, trust or trial id hold all of the words, in any case.

    They are found by what is looked at alone; only those found, by name, are then read with all of their columns.
    """
    holds = " and ".join(["true", *("(contains(of_setup, ?) or contains(of_trial, ?))" for _ in words)])
    with published.connect(home) as con:
        found = con.execute(_FOUND.format(said=_SAID if words else "trials", holds=holds),
                            [*(word.lower() for word in words for _ in range(2)), limit]).fetchall()
        ids = ", ".join(f"'{trial_id}'" for (trial_id,) in found) or "null"
        return _user_sql.to_polars(con.execute(
            f"from measurements where trial_id in ({ids}) order by started_at desc, trial_id"))


_FOUND = "select trial_id from {said} where {holds} order by started_at desc, trial_id limit ?"
_SAID = """(
    with setup as (
        select setup_id, lower(concat_ws(' ', m.name, s.engine, s.label, h.name)) as of_setup
        from setups s join models m using (model_id) join hardware h using (hardware_id))
    select trial_id, started_at, of_setup,
           lower(concat_ws(' ', e.variant, w.workload, t.load, p.trust, t.trial_id)) as of_trial
    from trials t join setup using (setup_id) join workloads w using (workload_id) join engines e using (engine_id)
    join _measured p using (trial_id))"""


def requests(home: Path, trial_id: str) -> pl.DataFrame:
    """Returns the requests of a trial with the columns of `models.frames.REQUESTS`."""
    rows = "requests left join chunk_timings using (trial_id, trial_started_at, request_index)"
    frame = _of_trial(home, trial_id, rows, "request_index")
    return frame.select(pl.col(n).cast(t) for n, t in REQUESTS.items())


def telemetry(home: Path, trial_id: str) -> pl.DataFrame:
    """Returns the telemetry of a trial with the columns of `models.frames.TELEMETRY`."""
    frame = _of_trial(home, trial_id, "telemetry", "at_ns")
    return frame.select(pl.col(n).cast(t) for n, t in TELEMETRY.items())


def _of_trial(home: Path, trial_id: str, rows: str, order: str) -> pl.DataFrame:
    """A trial's rows, found by when it began (step 0016): as a value, which DuckDB holds against each stretch of rows
    before it reads it."""
    with published.connect(home) as con:
        began = con.execute("select started_at from trials where trial_id = ?", [trial_id]).fetchone()
        return _user_sql.to_polars(con.execute(
            f"from {rows} where trial_id = ? and trial_started_at = ? order by {order}",
            [trial_id, began and began[0]]))


def bundle_of(home: Path, trial: str) -> Bundle:
    """Reads the bundle of a trial given by its id or the start of it. Raises UserError when none or several match."""
    found = beginning(home, trial.strip().lower())
    if not found:
        raise UserError(f"no trial begins with {trial!r}; `dyno runs` lists them")
    if len(found) > 1:
        more = "" if len(found) <= SAMPLES_SHOWN else f" and {len(found) - SAMPLES_SHOWN} more"
        raise UserError(f"{trial!r} is the start of {len(found)} trials: {', '.join(found[:SAMPLES_SHOWN])}{more}")
    return _rebuilt(home, found[0]) if quack.is_served(home) else bundles.read(bundles.folder(home) / found[0])


def beginning(home: Path, start: str) -> list[str]:
    """The trials whose id begins so; none for an empty start."""
    if not start:
        return []
    if quack.is_served(home):
        return query(home, "select trial_id from trials where starts_with(trial_id, ?) order by 1", [start])[
            "trial_id"].to_list()
    return sorted(t for t in bundles.present(home) if t.startswith(start))


def _rebuilt(home: Path, trial_id: str) -> Bundle:
    """A bundle out of the rows that were made of it; its engine's log is only where it was measured, and shared."""
    said = query(home, "select measurement::varchar as said from trials where trial_id = ?", [trial_id])["said"].item()
    return Bundle(home / "bundles" / trial_id, Measurement.model_validate_json(said), requests(home, trial_id),
                  telemetry(home, trial_id))
