"""What a report is made of: a few kinds of blocks, which HTML and Markdown each know how to write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models.identity import Record


class Heading(Record):
    """A section's title."""

    text: str


class Text(Record):
    """A paragraph; `strong` for the one sentence that matters."""

    text: str
    strong: bool = False


class Facts(Record):
    """Names and values."""

    rows: tuple[tuple[str, str], ...]


class Table(Record):
    """Cells as they are shown. A row whose index is in `muted` cannot be trusted."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    muted: tuple[int, ...] = ()


class Code(Record):
    """A command or a file; `folded`: long, and opened by whoever wants it."""

    text: str
    folded: str = ""


class Chart(Record):
    """A Vega-Lite specification, and what it shows in words. Its numbers are in a table of the report too."""

    title: str
    spec: dict[str, Any]


Block = Heading | Text | Facts | Table | Code | Chart


class Document(Record):
    """A report."""

    title: str
    subtitle: str
    blocks: tuple[Block, ...]


def table(rows: Sequence[Mapping[str, object]], muted: Sequence[int] = ()) -> Table:
    """Of rows of text by column; columns that are empty in all of them are left out."""
    names = [n for n in (rows[0] if rows else ()) if any(row[n] not in ("", "—") for row in rows)]
    return Table(columns=tuple(names), rows=tuple(tuple(str(row[n]) for n in names) for row in rows),
                 muted=tuple(muted))
