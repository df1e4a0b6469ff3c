"""A person's SQL: what it may do, and what its result and its errors look like."""

from __future__ import annotations

import difflib
import itertools
import re

import duckdb
import polars as pl
import pyarrow as pa

from models.errors import QueryError
from warehouse.quack import Served

LOCKDOWN = (
    "set autoinstall_known_extensions = false", "set autoload_known_extensions = false",
    "set enable_external_access = false", "set lock_configuration = true",
)
BATCH_ROWS = 10_000
QUESTIONS = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}


def answer(con: duckdb.DuckDBPyConnection | Served, sql: str, rows_max: int | None = None,
           memory_mb: int | None = None) -> pl.DataFrame:
    """Runs every statement and returns the last one's result, at most so many rows of it. Raises QueryError. The
    connection stays locked down; a served warehouse is by itself, and has its own memory."""
    limit = [f"set memory_limit = '{memory_mb} MB'"] if memory_mb else []
    for setting in (*limit, *LOCKDOWN) if isinstance(con, duckdb.DuckDBPyConnection) else ():
        con.execute(setting)
    try:
        statements = con.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(_short(error)) from None
    if not statements:
        raise QueryError("there is no statement in this SQL; try: from measurements")
    for statement in statements:
        _refuse(statement)
    try:
        for statement in statements:
            result = con.execute(statement)
        return to_polars(result, rows_max)
    except duckdb.OutOfMemoryException as error:
        if memory_mb is None:
            raise QueryError(_short(error)) from None
        raise QueryError(f"this needs more than the {memory_mb} MB of memory that a question has here: `dyno sql` has "
                         "the whole machine's") from None
    except duckdb.Error as error:
        raise QueryError(_suggestion(con, str(error)) or _short(error)) from None


def to_polars(result: duckdb.DuckDBPyConnection, rows_max: int | None = None) -> pl.DataFrame:
    """Returns a result with plain types: integers wider than 64 bits and decimals become floats, intervals text.

    Of columns with one name the later ones are numbered: `value`, `value_1`.
    """
    table = result.to_arrow_table() if rows_max is None else _first(result, rows_max)
    table = table.rename_columns(_unique(table.column_names))
    for i, column in enumerate(table.schema):
        if pa.types.is_interval(column.type):
            text = pa.array([None if v is None else _interval(v) for v in table.column(i).to_pylist()], pa.string())
            table = table.set_column(i, column.name, text)
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError("an Arrow table becomes a data frame")
    return frame.with_columns(pl.selectors.decimal().cast(pl.Float64))


def _first(result: duckdb.DuckDBPyConnection, rows: int) -> pa.Table:
    """DuckDB streams: rows that are not fetched are not computed."""
    stream = result.to_arrow_reader(min(rows, BATCH_ROWS))
    batches, got = [], 0
    for batch in stream:
        batches.append(batch)
        got += batch.num_rows
        if got >= rows:
            break
    return pa.Table.from_batches(batches, stream.schema).slice(0, rows)


def _unique(names: list[str]) -> list[str]:
    out: list[str] = []
    for name in names:
        numbered = (f"{name}_{n}" for n in itertools.count(1))
        out.append(name if name not in out else next(n for n in numbered if n not in {*out, *names}))
    return out


def _refuse(statement: duckdb.Statement) -> None:
    """Nothing but questions; a dynamic PIVOT brings a CREATE TYPE of its own, which has no text."""
    kind = statement.type
    generated = kind == duckdb.StatementType.CREATE and not statement.query.strip()
    if kind == duckdb.StatementType.EXPLAIN and re.match(r"\s*explain\s+analyze\b", statement.query, re.IGNORECASE):
        inner = re.sub(r"^\s*explain\s+analyze\b", "", statement.query, flags=re.IGNORECASE)
        for part in duckdb.extract_statements(inner):
            _refuse(part)
    elif kind not in QUESTIONS and not generated:
        raise QueryError(f"{kind.name} is refused: SQL here only asks questions (SELECT, FROM, SHOW, DESCRIBE, "
                         "SUMMARIZE, PIVOT, EXPLAIN); the warehouse is written by dyno alone")


def _short(error: duckdb.Error) -> str:
    """DuckDB's message in at most two lines: what is wrong, and its hint or the place."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    hints = [line for line in lines[1:] if line.startswith(("Candidate bindings", "LINE "))]
    return "\n".join([lines[0], *hints[:1]])


def _suggestion(con: duckdb.DuckDBPyConnection | Served, message: str) -> str:
    """For a misspelt table DuckDB suggests its own catalogue's; these are the warehouse's."""
    missing = re.match(r"(?:Catalog|Invalid Input) Error: Table with name (\S+) does not exist", message)
    if not missing:
        return ""
    names = [row[0] for row in con.execute("select table_name from information_schema.tables").fetchall()]
    close = difflib.get_close_matches(missing[1].lower(), [n for n in names if not n.startswith("_")], n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(close)}?" if close else "`show tables` lists what there is"
    return f"{message.splitlines()[0]}\n{hint}"


def _interval(value: pa.MonthDayNano) -> str:
    """`1 day 02:03:04.5`, as DuckDB prints it."""
    sign = "-" if value.nanoseconds < 0 else ""
    seconds, nanoseconds = divmod(abs(value.nanoseconds), 1_000_000_000)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    large = ((value.months, "month"), (value.days, "day"))
    parts = [f"{n} {unit}{'s' if abs(n) != 1 else ''}" for n, unit in large if n]
    fraction = f".{nanoseconds:09d}".rstrip("0").rstrip(".")
    if hours or minute or second or fraction or not parts:
        parts.append(f"{sign}{hours:02d}:{minute:02d}:{second:02d}{fraction}")
    return " ".join(parts)
