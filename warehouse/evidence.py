"""What a question about stacks is answered from: a few aggregate queries on the published snapshot, no request rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from models.capabilities import Capability
from models.choosing.evidence import Curve, Evidence, Machine, Observed, Point, PriceOf, Stack
from models.choosing.question import Question
from models.latencies import LATENCIES, STATISTICS
from models.specs import Architecture
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
        return Evidence(
            models=known, workloads={r["workload"]: r["name"] for r in _rows(con, _WORKLOADS)},
            machines=tuple(Machine.model_validate(r) for r in _rows(con, _MACHINES)),
            curves=_curves(con, wanted, workload, values) if points else _empty(con, wanted),
            prices=tuple(PriceOf.model_validate(r) for r in _rows(con, _PRICES)),
            capabilities=tuple(Capability.model_validate(r) for r in _rows(con, _CAPABILITIES)),
            observed=tuple(Observed.model_validate(r) for r in _rows(con, _OBSERVED)),
            shapes={r["name"]: shape for r in _rows(con, _SHAPES) if (shape := _shape(r))})


def _shape(row: dict[str, Any]) -> Architecture | None:
    """None where a model was stored without all of it."""
    try:
        return Architecture.model_validate({k: v for k, v in row.items() if k in Architecture.model_fields})
    except ValidationError:
        return None


def _empty(con: Connection, wanted: Sequence[str]) -> tuple[Curve, ...]:
    """Without points and fits."""
    names = _listed(wanted)
    stacks = {r["setup_id"]: Stack.model_validate(r) for r in _rows(con, _STACKS.format(names=names))}
    return tuple(Curve(stack=stacks[row["setup_id"]], workload=row["workload"], workload_name=row["name"], points=())
                 for row in _rows(con, _SEEN.format(names=names)))


def _curves(con: Connection, wanted: Sequence[str], workload: str | None, values: Sequence[str],
            ) -> tuple[Curve, ...]:
    """Those of other workloads are without points and fits, so that a stack can be said to have been measured."""
    fits: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    names = _listed(wanted)
    known = list(_rows(con, _WORKLOADS))
    labels = [r["workload"] for r in known if workload in (r["workload"], r["name"])] or [r["workload"] for r in known]
    of = f"in ({_listed(labels)})"
    for row in _rows(con, _FITS.format(names=names, of=f"and c.workload {of}")):
        fits[row["setup_id"], row["workload"]][row["quantity"]] = row["fit"]
    kept = [name for name in _schema.INTERVALS if name in ("requests_per_second", *values)]
    places = ", ".join(f"{2 * i + 1}, {2 * i + 2}" for i, name in enumerate(_schema.INTERVALS) if name in kept)
    columns = ", ".join(f"p.{name}" for name in values)
    points: dict[tuple[str, str], list[Point]] = defaultdict(list)
    sql = _POINTS.format(names=names, of=of, values=columns, places=places)
    for setup, label, ends, *said in con.execute(sql).fetchall():
        known_ms = {name: ms for name, ms in zip(values, said[11:], strict=True) if ms is not None}
        intervals = dict(zip(kept, zip(ends[::2], ends[1::2], strict=True), strict=False)) if ends else {}
        points[setup, label].append(Point(*said[:8], known_ms, intervals, *said[8:11]))  # type: ignore[call-arg]
    return tuple(Curve.model_construct(
        stack=one.stack, workload=one.workload, workload_name=one.workload_name, points=tuple(points[key]),
        fits_json=fits.get(key, {}))
        if (key := (one.stack.setup_id, one.workload)) in points else one for one in _empty(con, wanted))


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
_MACHINES = """
    with seen as (
        select setup_id, any_value(memory_bandwidth_gb_s) as memory_bandwidth_gb_s from trials group by setup_id)
    select h.hardware_id, h.name, h.kind, h.accelerator, h.accelerators, h.accelerator_memory_gib, h.cores,
           h.memory_gib, any_value(t.memory_bandwidth_gb_s) as memory_bandwidth_gb_s
    from hardware h left join setups s using (hardware_id) left join seen t using (setup_id)
    group by all order by h.name"""
_PRICES = """select hardware_id, price_usd_per_hour, tier, date, source, region, given, choice from hardware_prices
             order by hardware_id, choice"""
_CAPABILITIES = "select engine, variant, kind, name, supported, coalesce(about, '') as about," \
                " coalesce(reason, '') as reason from capabilities order by engine, variant nulls first, position"
_STACKS = """
    select s.setup_id, s.label as setup, m.name as model, s.engine, any_value(e.variant) as variant,
           max(e.version) as engine_version, s.quantization, s.kv_type, s.max_sequences, s.tensor_parallel,
           coalesce(s.prefix_caching, false) as prefix_caching, s.runtime, s.hardware_id,
           any_value(q.kl_nats) as kl_nats, coalesce(bool_or(a.synthetic), false) as kl_of_random_weights
    from setups s join models m using (model_id) join trials t using (setup_id) join engines e using (engine_id)
    left join divergences q on q.numerics_id = s.numerics_id left join asked a on a.numerics_id = s.numerics_id
    where m.name in ({names})
    group by s.setup_id, s.label, m.name, s.engine, s.quantization, s.kv_type, s.max_sequences, s.tensor_parallel,
             s.prefix_caching, s.runtime, s.hardware_id"""
_SEEN = """
    select distinct t.setup_id, w.workload, w.name
    from trials t join setups s using (setup_id) join models m using (model_id) join workloads w using (workload_id)
    where m.name in ({names}) order by all"""
_FITS = """
    select c.setup_id, c.workload, c.quantity, arg_max(c.fit::varchar, c.calibrated_at) as fit
    from calibrations c
    where c.setup_id in (select setup_id from setups join models m using (model_id) where m.name in ({names})) {of}
    group by c.setup_id, c.workload, c.quantity"""
_POINTS = """
    with asked as materialized (
        select t.setup_id, w.workload, t.trial_id, t.load, t.concurrency, t.request_rate, t.started_at
        from trials t join setups s using (setup_id) join models m using (model_id)
        join workloads w using (workload_id) where m.name in ({names}) and w.workload {of})
    select a.setup_id, a.workload, list_select(p.intervals, [{places}]), a.trial_id, a.load, a.concurrency,
           a.request_rate, p.requests_per_second, p.output_tokens_per_second, p.input_tokens_mean, p.output_tokens_mean,
           p.trust, p.fatal, strftime(a.started_at, '%Y-%m-%dT%H:%M:%S'), {values}
    from asked a join _measured p using (trial_id) order by a.started_at, a.trial_id"""
_OBSERVED = "from observed order by feature, engine, variant"
