"""What `dyno plan capacity` answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from app import _stack
from app._render import dump, emit, number
from models.errors import UserError
from models.planning import fleet
from models.planning.capacity import Impossible, Served
from models.planning.profile import Profile
from models.slo import Limit


@dataclass(frozen=True)
class Question:
    """The load, and what may fail or run out."""

    rate: float
    profile: Profile
    down: int
    max_instances: int | None

    @property
    def peak(self) -> float:
        """Requests a second in the busiest hour."""
        return self.rate * self.profile.peak_factor


def one_of(stack: str | None, capacity: float | None) -> None:
    """Raises UserError unless exactly one of the two says what an instance serves."""
    if (stack is None) == (capacity is None):
        raise UserError("say what one instance serves: a measured STACK (setup or trial id; `dyno runs` lists trials),"
                        " or --capacity in requests a second; one of the two")


def show(home: Path, which: str | None, workload: str | None, limits: tuple[Limit, ...], capacity: float | None,
         question: Question, as_json: bool) -> bool:
    """Prints the instances by level. Returns False when the SLO or the rate cannot be kept."""
    one_of(which, capacity)
    label, said = "given", " and ".join(str(x) for x in limits)
    if which is not None:
        stack = _stack.find(home, which, workload)
        label, levels = stack.label, stack.levels(limits)
    else:
        levels = [Served(level="given", requests_per_second=capacity or 0.0, concurrency=0, how="--capacity")]
    if isinstance(levels, Impossible):
        _impossible(levels, label, as_json)
        return False
    rows = [_row(one, question) for one in levels]
    best = rows[surest(levels)]
    if as_json:
        dump({"stack": label, "limits": [x.model_dump() for x in limits], "rate": question.rate,
              "peak_rate": question.peak, "profile": question.profile.name, "feasible": best["feasible"],
              "levels": rows})
        return bool(best["feasible"])
    click.echo(f"{label}\n{question.rate:g} requests a second on the mean, {number(question.peak)} in the busiest hour"
               f" ({question.profile.source}){'; ' + said if which else ''}")
    emit(rows, _COLUMNS, as_json=False)
    click.echo(_sentence(best, question))
    return bool(best["feasible"])


def surest(levels: Sequence[Served]) -> int:
    """Which level the answer is taken from: calibrated before measured before given, the rough one last."""
    order = {"calibrated": 0, "measured": 1, "given": 2, "architecture": 3, "rough": 4}
    return min(range(len(levels)), key=lambda i: order[levels[i].level])


def _row(one: Served, question: Question) -> dict[str, Any]:
    needed = fleet.instances(question.peak, one.requests_per_second)
    sure = fleet.instances(question.peak, one.low) if one.low else None
    count = needed + question.down
    fits = question.max_instances is None or count <= question.max_instances
    alive = max(0, (question.max_instances or count) - question.down)
    return {"level": one.level, "requests_per_second": one.requests_per_second, "low": one.low, "high": one.high,
            "error": one.error, "concurrency": one.concurrency, "how": one.how, "instances_needed": needed,
            "instances": count, "instances_sure": sure and sure + question.down, "feasible": fits,
            "load_share": question.peak / (count * one.requests_per_second),
            "load_share_with_down": question.peak / (needed * one.requests_per_second),
            "rate_max": None if fits else alive * one.requests_per_second / question.profile.peak_factor}


_COLUMNS = (
    ("level", lambda r: str(r["level"])),
    ("req/s an instance", lambda r: number(r["requests_per_second"])),
    ("90 %", lambda r: f"{number(r['low'])}–{number(r['high'])}" if r["low"] else "—"),
    ("error %", lambda r: f"{100 * r['error']:.1f}" if r["error"] is not None else "—"),
    ("users at once", lambda r: number(r["concurrency"]) if r["concurrency"] else "—"),
    ("instances", lambda r: number(r["instances"])),
    ("surely", lambda r: number(r["instances_sure"])),
    ("load", lambda r: f"{100 * r['load_share']:.0f} %"),
    ("with those down", lambda r: f"{100 * r['load_share_with_down']:.0f} %"),
    ("how", lambda r: str(r["how"])),
)


def _sentence(row: dict[str, Any], question: Question) -> str:
    down = f"{question.down} of them down" if question.down else "none down"
    if not row["feasible"]:
        return (f"Not with {question.max_instances} instances: it takes {row['instances']} ({down}). The nearest that"
                f" they keep is {number(row['rate_max'])} requests a second on the mean.")
    text = f"Answer: {row['instances']} instances ({row['level']}), which keep the limits with {down}."
    if row["instances_sure"] and row["instances_sure"] > row["instances"]:
        text += f" {row['instances_sure']} at the lower end of its interval."
    return text


def _impossible(answer: Impossible, label: str, as_json: bool) -> None:
    if as_json:
        dump({"stack": label, "feasible": False, **answer.model_dump()})
        return
    nearest = " and ".join(str(x).replace("≤ ", "<=").replace(" ", "") for x in answer.nearest)
    click.echo(f"{label}\nNot with any number of instances: {answer.reason}.\n"
               f"The nearest that is kept: --slo \"{nearest}\"")
