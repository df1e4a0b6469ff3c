"""Files of traces: Mooncake's JSON lines and Azure's CSV, told apart by their contents and checked line by line."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal

import polars as pl

from models.errors import UserError

Kind = Literal["mooncake", "azure"]

LONGEST_TOKENS = 10_000_000
LONGEST_S = 10 * 366 * 86_400
_JSON: dict[str, Any] = {"timestamp": pl.Float64(), "input_length": pl.Int64(), "output_length": pl.Int64(),
                         "hash_ids": pl.List(pl.Int64())}
_CSV: dict[str, Any] = {"TIMESTAMP": pl.String(), "ContextTokens": pl.Int64(), "GeneratedTokens": pl.Int64()}
_LINE = "{timestamp (ms), input_length, output_length, hash_ids (may be left out)}, lengths and hashes whole numbers"
_HEADER = "CSV with the columns " + ", ".join(_CSV)
_SHAPES = f"a trace is JSON lines, each {_LINE}; or {_HEADER}"
_MOMENT = "%Y-%m-%d %H:%M:%S%.f"
_COLUMNS = ["at_ns", "input_tokens", "output_tokens"]
_UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


class _Bad(Exception):
    """What is wrong in a row (with the column's name in the file), or in a line that is not blank (without); from 0."""

    def __init__(self, index: int, column: str, reason: str) -> None:
        self.index, self.column, self.reason = index, column, reason


def parse(path: str | Path) -> tuple[bytes, Kind, pl.DataFrame]:
    """Returns a trace's bytes, its format and its requests: at_ns since the first, never falling, input_tokens,
    output_tokens, hash_ids (null where the file says none). Raises UserError naming file, line and column.
    """
    data = _bytes(Path(path))
    start = data.lstrip().splitlines()[0].decode()
    kind: Kind = "mooncake" if start.startswith("{") else "azure"
    try:
        if kind == "mooncake":
            return data, kind, _checked(_mooncake(data), list(_JSON))
        if not any(name in start for name in _CSV):
            raise _Bad(0, "", f"{start[:60]!r} begins no trace: {_SHAPES}")
        return data, kind, _checked(_azure(data), list(_CSV))
    except _Bad as bad:
        lines = [n for n, text in enumerate(data.splitlines(), 1) if text.strip()]
        number = lines[bad.index + (1 if bad.column and kind == "azure" else 0)]
        raise UserError(f"{path}: line {number}: {bad.column and f'{bad.column}: '}{bad.reason}") from None


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
        data.decode()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file: unpack it if it is compressed, else save it as UTF-8") from None
    if not data.strip():
        raise UserError(f"{path}: the file is empty: {_SHAPES}")
    return data


def _mooncake(data: bytes) -> pl.DataFrame:
    try:
        table = pl.read_ndjson(io.BytesIO(data), schema=_JSON)
    except _UNREADABLE:
        raise _bad_line(data) from None
    since_ms = table["timestamp"] - table["timestamp"][0]
    _none(since_ms.abs() > 1e3 * LONGEST_S, "timestamp", "years after the first: times are in milliseconds")
    _none(table["timestamp"] < 0, "timestamp", "before the trace began: times count from 0")
    _none(table["hash_ids"].list.eval(pl.element().is_null()).list.any(), "hash_ids", "a block without a hash")
    return table.select((since_ms * 1e6).round().cast(pl.Int64()).alias("at_ns"),
                        pl.col("input_length").alias("input_tokens"), pl.col("output_length").alias("output_tokens"),
                        "hash_ids")


def _bad_line(data: bytes) -> _Bad:
    """Finds the first line that cannot be read: what is left is halved until it is one."""
    lines = [text for text in data.splitlines() if text.strip()]
    at = 0
    while True:
        size = max(1, len(lines) // 2)
        try:
            pl.read_ndjson(io.BytesIO(b"\n".join(lines[:size])), schema=_JSON)
            at, lines = at + size, lines[size:]
        except _UNREADABLE as error:
            if size == 1:
                return _Bad(at, "", f"{str(error).splitlines()[0]}: a line is {_LINE}")
            lines = lines[:size]


def _azure(data: bytes) -> pl.DataFrame:
    header = [name.strip(' "') for name in data.lstrip().splitlines()[0].decode().split(",")]
    for name in _CSV:
        if name not in header:
            raise _Bad(0, "", f"no column {name}: such a trace is {_HEADER}")
    try:
        table = pl.read_csv(io.BytesIO(data.lstrip()), schema_overrides=_CSV, new_columns=header).select(list(_CSV))
    except _UNREADABLE:
        raise _bad_cell(data, header) from None
    table = table.filter(~pl.all_horizontal(pl.all().is_null()))
    moments = table["TIMESTAMP"].str.replace("T", " ", literal=True).str.replace(r"(Z|\+00:?00)$", "")
    at = moments.str.to_datetime(_MOMENT, time_unit="ns", strict=False).dt.timestamp("ns")
    _none(at.is_null() & table["TIMESTAMP"].is_not_null(), "TIMESTAMP", "no time such as 2023-11-16 18:17:03.9799600")
    return pl.DataFrame({"at_ns": at - at.min(), "input_tokens": table["ContextTokens"],
                         "output_tokens": table["GeneratedTokens"], "hash_ids": [None] * table.height},
                        schema_overrides={"at_ns": pl.Int64(), "hash_ids": pl.List(pl.Int64())})


def _bad_cell(data: bytes, header: list[str]) -> _Bad:
    """Finds what was not a number, or the first row that has too many cells."""
    lines = [text for text in data.splitlines() if text.strip()]
    cells = pl.read_csv(io.BytesIO(b"\n".join(lines)), infer_schema=False, new_columns=header,
                        truncate_ragged_lines=True)
    for name in list(_CSV)[1:]:
        wrong = (cells[name].is_not_null() & cells[name].cast(pl.Int64(), strict=False).is_null()).arg_max()
        if wrong is not None and cells[name].cast(pl.Int64(), strict=False)[wrong] is None and cells[name][wrong]:
            return _Bad(wrong, name, f"{cells[name][wrong]!r} is not a whole number")
    for i, text in enumerate(lines):
        if text.count(b",") != len(header) - 1:
            return _Bad(i, "", f"{text.count(b',') + 1} cells for {len(header)} columns")
    return _Bad(0, "", f"this is no readable CSV; such a trace is {_HEADER}")


def _checked(table: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    if not table.height:
        raise _Bad(0, "", "no request follows the header")
    for column, name in zip(_COLUMNS, names, strict=False):
        _none(table[column].is_null(), name, "missing")
    for column, name in zip(_COLUMNS[1:], names[1:], strict=False):
        _none(table[column] < 1, name, "at least one token is needed: take such requests out of the file")
        _none(table[column] > LONGEST_TOKENS, name, f"more than {LONGEST_TOKENS} tokens")
    _none(table["at_ns"].diff() < 0, names[0], "earlier than the line before: sort the file by time")
    _none(table["at_ns"] > LONGEST_S * 10**9, names[0], "years after the first request")
    return table


def _none(wrong: pl.Series, name: str, reason: str) -> None:
    """Raises _Bad for the first row in which something is wrong."""
    rows = wrong.fill_null(False).arg_true()
    if len(rows):
        raise _Bad(int(rows[0]), name, reason)
