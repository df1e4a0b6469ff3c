"""Tables for people in a hurry: units in the heading, sensible digits, JSON of the same rows beside them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], str]]


def number(value: object, digits: int = 3) -> str:
    """Three significant digits, thousands set apart; `—` for nothing."""
    if value is None:
        return "—"
    if not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.{digits}g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.1e}"


def pair(row: Row, metric: str) -> str:
    """`61 / 118`: median and 95th percentile of a metric."""
    return f"{number(row.get(f'{metric}_p50'))} / {number(row.get(f'{metric}_p95'))}"


def emit(rows: Sequence[Row], columns: Sequence[Column], as_json: bool, title: str = "") -> None:
    """Prints rows as a table of the given columns, or all of their fields as a JSON list."""
    if as_json:
        dump(rows)
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if _is_terminal() else 200, highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0), title=title or None, title_justify="left", header_style="bold")
    for i, (heading, _) in enumerate(columns):
        table.add_column(heading, justify="left" if i == 0 else "right", no_wrap=i == 0)
    for row in rows:
        table.add_row(*(cell(row) for _, cell in columns))
    console.print(table)


def dump(value: object) -> None:
    """Prints JSON that any JSON reader accepts."""
    import click
    import orjson

    option = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    click.echo(orjson.dumps(value, option=option, default=_plain).decode())


def _plain(value: object) -> object:
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def _is_terminal() -> bool:
    import sys

    return sys.stdout.isatty()


MEASUREMENT: tuple[Column, ...] = (
    ("engine", lambda r: str(r["variant"] or r["engine"])),
    ("quantisation", lambda r: str(r["quantization"])),
    ("slots", lambda r: number(r["max_sequences"])),
    ("load", lambda r: number(r["concurrency"]) if r["concurrency"] else f"{number(r['request_rate'])}/s"),
    ("TTFT p50 / p95 ms", lambda r: pair(r, "ttft_from_schedule_ms")),
    ("TPOT p50 / p95 ms", lambda r: pair(r, "tpot_ms")),
    ("tok/s", lambda r: number(r["output_tokens_per_second"])),
    ("USD per M out", lambda r: number(r["usd_per_million_output_tokens"])),
    ("trust", lambda r: str(r["trust"])),
)
"""Columns of the table that everyone sees; TTFT from the instant a request was meant to be sent."""

RUN: tuple[Column, ...] = (
    ("trial", lambda r: str(r["trial_id"])[:8]),
    ("model", lambda r: str(r["model"])),
    ("workload", lambda r: str(r["workload"])),
    *MEASUREMENT,
    ("measured", lambda r: str(r["started_at"])[:16]),
)
