"""What a question about stacks is answered from: a few aggregate queries on the published snapshot, no request rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from models.capabilities import Capability
from models.choosing.evidence import Curve, Evidence, Machine, Observed, Point, PriceOf, Stack
from models.choosing.question import Question
from models.latencies import LATENCIES, STATISTICS
from models.planning.points import CurveQuantity
from warehouse import _schema, published
from warehouse.published import Connection

VALUES = tuple(f"{name}_{statistic}" for name in LATENCIES for statistic in STATISTICS)


def read(home: Path, model: str | None = None, workload: str | None = None, values: Sequence[str] = VALUES,
         points: bool = True) -> Evidence:
    """Reads what choose() needs: of one model (by name, or a size such as 8B), or of all; with the points of one
    workload (by label or name), or of all where it is None or was never measured; and of their latencies those columns
    of `measurements`.

    points: without, curves have neither points nor fits, which is what a question can be about, in no time.
    Raises UserError when nothing is published, and WarehouseError when it cannot be read, or is of another dyno.
    """
    with published.connect(home) as con:
        known = {row["name"]: row["parameters"] for row in _rows(con, _MODELS)}
        wanted = list(known) if model is None else [
            n for n, size in known.items() if Question(model=model).means(n, size)]
        names = {row["workload"]: row["name"] for row in _rows(con, _WORKLOADS)}
        curves = _curves(con, wanted, names, workload, values) if points else _empty(con, wanted, names)
        return Evidence(
            models=known, workloads=names, curves=tuple(curves),
            machines=tuple(Machine.model_validate(r) for r in _rows(con, _MACHINES)),
            prices=tuple(PriceOf.model_validate(r) for r in _rows(con, _PRICES)),
            capabilities=tuple(Capability.model_validate(r) for r in _rows(con, _CAPABILITIES)),
            observed=tuple(Observed.model_validate(r) for r in _rows(con, _OBSERVED)),
            shapes={r["name"]: r for r in _rows(con, _SHAPES)})


def _empty(con: Connection, wanted: Sequence[str], names: Mapping[str, str]) -> Iterator[Curve]:
    """Without points and fits. names: of workloads, by label."""
    for row in _rows(con, _STACKS.format(models=_listed(wanted))):
        labels = row.pop("workloads")
        stack = Stack.model_validate(row)
        yield from (Curve(stack, label, names[label]) for label in labels)


def _curves(con: Connection, wanted: Sequence[str], names: Mapping[str, str], workload: str | None,
            values: Sequence[str]) -> Iterator[Curve]:
    """Those of other workloads are without points and fits, so that a stack can be said to have been measured."""
    labels = [label for label, name in names.items() if workload in (label, name)] or list(names)
    of = f"model in ({_listed(wanted)}) and workload in ({_listed(labels)})"
    fits: dict[tuple[str, str], dict[CurveQuantity, str]] = defaultdict(dict)
    for setup, label, quantity, fit in con.execute(_FITS.format(of=of)).fetchall():
        fits[setup, label][quantity] = fit
    points = _points(con, of, values)
    for one in _empty(con, wanted, names):
        key = one.stack.setup_id, one.workload
        yield replace(one, points=points[key], fits_json=fits.get(key, {})) if key in points else one


def _points(con: Connection, of: str, values: Sequence[str]) -> dict[tuple[str, str], tuple[Point, ...]]:
    """By setup and workload, in the order they were measured in."""
    kept = [name for name in _schema.INTERVALS if name in ("requests_per_second", *values)]
    ends = [f"intervals[{2 * _schema.INTERVALS.index(name) + i}]" for name in kept for i in (1, 2)]
    found = con.execute(_POINTS.format(columns=", ".join((*values, *ends)), of=of)).fetchall()
    first = 2 + len(Point._fields) - 2
    last = first + len(values)

    def point(row: Sequence[Any]) -> Point:
        known_ms = {name: ms for name, ms in zip(values, row[first:last], strict=True) if ms is not None}
        pairs = zip(row[last::2], row[last + 1::2], strict=True)
        return Point._make((*row[2:first], known_ms, dict(zip(kept, pairs, strict=True))))

    return {key: tuple(map(point, rows)) for key, rows in groupby(found, key=itemgetter(0, 1))}


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(map(_quoted, texts)) or "null"


def _quoted(text: str) -> str:
    return f"'{text.replace(chr(39), chr(39) * 2)}'"


def _rows(con: Connection, sql: str) -> Iterable[dict[str, Any]]:
    """Without parameters: DuckDB imports pandas, where it is installed, as soon as a query has one."""
    done = con.execute(sql)
    names = [column[0] for column in done.description]
    return [dict(zip(names, row, strict=True)) for row in done.fetchall()]


_MODELS = "select name, max(parameters) as parameters from models group by name order by name"
_SHAPES = "select distinct on (name) * from models where layers is not null"
_WORKLOADS = "select distinct workload, name from workloads order by workload"
_MACHINES = "from _machines"
_PRICES = """select hardware_id, price_usd_per_hour, tier, date, source, region, given, choice from hardware_prices
             order by hardware_id, choice"""
_CAPABILITIES = "select engine, variant, kind, name, supported, coalesce(about, '') as about," \
                " coalesce(reason, '') as reason from capabilities order by engine, variant nulls first, position"
_STACKS = "from _stacks where model in ({models}) order by setup_id"
_FITS = "select setup_id, workload, quantity, fit from _fits where {of}"
_POINTS = """select setup_id, workload, trial_id, concurrency, request_rate, requests_per_second, input_tokens_mean,
                    output_tokens_mean, trust, fatal, {columns} from _points where {of}"""
_OBSERVED = "from observed order by feature, engine, variant"
