"""Tables for people in a hurry: units in the heading, sensible digits, JSON of the same rows beside them."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], str]]

_NUMBER = re.compile(r"[-—\d][\d .e/—-]*(/s)?$")
WIDE, FEW = 12, 6
"""Columns that a terminal holds; rows that can lie down instead."""
WRAPPED = 20
"""Characters that a last column is given before it wraps."""


def number(value: object, digits: int = 3) -> str:
    """Three significant digits, thousands set apart; `—` for nothing."""
    if value is None:
        return "—"
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.{digits}g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.1e}"


def pair(row: Row, metric: str) -> str:
    """`61 / 118`: median and 95th percentile of a metric."""
    return f"{number(row.get(f'{metric}_p50'))} / {number(row.get(f'{metric}_p95'))}"


def field(name: str, digits: int = 3) -> Column:
    """A column that shows one field under its own name."""
    return name, lambda row: number(row[name], digits)


def emit(rows: Sequence[Row], columns: Sequence[Column], as_json: bool, title: str = "",
         spare: Sequence[str] = ()) -> None:
    """Prints rows as a table of the given columns, or all of their fields as a JSON list.

    On a terminal that is too narrow the `spare` columns are left out, first ones first, and that is said.
    """
    if as_json:
        dump(rows)
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if _is_terminal() else 200, highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0), title=title or None, title_justify="left", header_style="bold")
    cells = {heading: [cell(row) for row in rows] for heading, cell in columns}
    hidden = _too_wide(cells, console.width, spare)
    for heading in hidden:
        del cells[heading]
    for i, (heading, values) in enumerate(cells.items()):
        table.add_column(heading, justify="right" if all(map(_NUMBER.match, values)) else "left", no_wrap=i == 0)
    for line in zip(*cells.values(), strict=True):
        table.add_row(*line)
    console.print(table)
    if hidden:
        console.print(f"not shown on {console.width} columns: {', '.join(hidden)}", style="dim")


def _too_wide(cells: Mapping[str, Sequence[str]], width: int, spare: Sequence[str]) -> list[str]:
    """Names of the spare columns that have to go; the last column may wrap."""
    wide = {heading: 2 + max(map(len, (heading, *values))) for heading, values in cells.items()}
    wide[list(wide)[-1]] = min(list(wide.values())[-1], WRAPPED)
    hidden: list[str] = []
    for heading in spare:
        if sum(wide.values()) <= width:
            break
        del wide[heading]
        hidden.append(heading)
    return hidden


def any_rows(names: Sequence[str], rows: Sequence[Row], as_json: bool) -> None:
    """Prints rows of any columns: upright while they fit, few rows of many columns lying down."""
    if as_json or len(names) <= WIDE:
        emit(rows, [field(n, 6) for n in names], as_json)
    elif 0 < len(rows) <= FEW:
        lying = [{"column": n, **{str(i): r[n] for i, r in enumerate(rows, 1)}} for n in names]
        heads = ["column", *(str(i) for i in range(1, len(rows) + 1))]
        emit(lying, [field(h, 6) for h in heads], as_json=False)
    else:
        emit(rows, [field(n, 6) for n in names[:WIDE]], as_json=False)
        import click

        click.echo(f"{len(names) - WIDE} more columns: name those you want, or use --json", err=True)


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
SPARE = ("measured", "model", "USD per M out", "slots", "workload", "TPOT p50 / p95 ms")
"""What a narrow terminal shows none of, least needed first."""

RUN: tuple[Column, ...] = (
    ("trial", lambda r: str(r["trial_id"])[:8]),
    ("model", lambda r: str(r["model"])),
    ("workload", lambda r: str(r["workload"])),
    ("measured", lambda r: str(r["started_at"])[:16]),
    *MEASUREMENT,
)
