"""How far long work is: a live bar on a terminal, a line a step elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from models.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

LINE_EVERY_S = 15.0
WIDE = 110
"""Columns of a terminal that has room for a long bar."""


@contextmanager
def display(quiet: bool = False) -> Iterator[Progress]:
    """Yields a progress callable that draws on stderr; stdout stays clean for results."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet:
        yield lambda step, done=None, detail="": None
    elif console.is_terminal:
        with _bars(console) as progress:
            yield progress
    else:
        yield _lines(console)


@contextmanager
def _bars(console: Console) -> Iterator[Progress]:
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.table import Column

    # The detail takes what is left of the line, so that it never pushes out the share and the time left.
    detail_column = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    columns = (TextColumn("{task.description:<28}"), BarColumn(bar_width=24 if console.width >= WIDE else 8),
               TaskProgressColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
               TextColumn("{task.fields[detail]}", style="dim", table_column=detail_column))
    with Bars(*columns, console=console, transient=False, refresh_per_second=4, expand=True) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(step: str, done: float | None = None, detail: str = "") -> None:
            if step not in tasks:
                for other in tasks.values():
                    bars.update(other, completed=1.0, total=1.0, detail="")
                tasks[step] = bars.add_task(step, total=1.0 if done is not None else None, detail=detail)
            bars.update(tasks[step], detail=detail)
            if done is not None:
                bars.update(tasks[step], total=1.0, completed=done)

        yield progress
        for task in tasks.values():
            bars.update(task, completed=1.0, total=1.0, detail="")


def _lines(console: Console) -> Progress:
    last: dict[str, float | str] = {"step": "", "at": 0.0}
    started: dict[str, float] = {}

    def progress(step: str, done: float | None = None, detail: str = "") -> None:
        now = time.monotonic()
        started.setdefault(step, now)
        if step == last["step"] and now - float(last["at"]) < LINE_EVERY_S:
            return
        last.update(step=step, at=now)
        parts = [step]
        if done:
            left = (now - started[step]) * (1 - done) / done
            parts.append(f"{done:.0%}" + (f", about {left:.0f} s left" if now - started[step] > 2 else ""))
        if detail:
            parts.append(detail)
        console.print(" · ".join(parts), highlight=False, markup=False, soft_wrap=True)

    return progress
