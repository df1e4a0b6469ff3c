"""Evaluations that were started elsewhere: waited for, and shown."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import click

from app._progress import display

EVERY_S = 2.0


class Outcome(Protocol):
    """How far one is (flows.dispatch.Outcome)."""

    @property
    def state(self) -> str: ...

    @property
    def detail(self) -> str: ...


def wait(rows: Sequence[dict[str, str]], outcome: Callable[[str], Outcome]) -> list[dict[str, str]]:
    """Returns the rows with state and detail once all of them have ended; tells of each meanwhile."""
    with display() as progress:
        while True:
            now = [(row, outcome(row["run"])) for row in rows]
            ended = [o for _, o in now if o.state in ("evaluated", "failed")]
            progress("evaluating", len(ended) / len(now), ", ".join(f"{row['pool']}: {o.state}" for row, o in now))
            if len(ended) == len(now):
                return [{**row, "state": o.state, "detail": o.detail} for row, o in now]
            time.sleep(EVERY_S)


def show(rows: Sequence[dict[str, str]], as_json: bool) -> None:
    """One line each."""
    if as_json:
        click.echo(json.dumps(list(rows), indent=1))
        return
    for row in rows:
        click.echo(f"{row['pool']}: {row.get('state', 'started')}  {row.get('detail') or row['page']}")
