"""What a question about stacks is answered from: a few aggregate queries on the published snapshot, no request rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import duckdb

from models.capabilities import Capability
from models.choosing.evidence import Curve, Evidence, Machine, Observed, Point, PriceOf, Stack
from models.choosing.question import Question
from models.errors import UserError
from models.latencies import LATENCIES, STATISTICS
from models.specs import Architecture
from warehouse import reader

VALUES = tuple(f"{name}_{statistic}" for name in LATENCIES for statistic in STATISTICS)
KEPT = ("requests_per_second", "output_tokens_per_second", *(
    f"{name}_{statistic}" for name in ("ttft_from_schedule_ms", "tpot_ms", "itl_ms", "e2e_from_schedule_ms")
    for statistic in ("mean", "p50", "p95", "p99")))
"""Of these the 95 % intervals are read."""
_NEEDS = ("measurements", "hardware_prices", "calibrations", "capabilities", "quality")


def read(home: Path, model: str | None = None) -> Evidence:
    """Reads what choose() needs: of one model (by name, or a size such as 8B), or of all.

    Raises UserError when nothing is published, or by an older dyno.
    """
    with reader.connect(home) as con:
        names = {row[0] for row in con.execute("select view_name from duckdb_views() where not internal union "
                                               "select table_name from duckdb_tables()").fetchall()}
        if missing := [name for name in _NEEDS if name not in names]:
            raise UserError(f"what is published in {home} is of an older dyno and has no {', '.join(missing)}:"
                            " `dyno rebuild` makes it again from the bundles")
        known = {row["name"]: row["parameters"] for row in _rows(con, _MODELS)}
        wanted = list(known) if model is None else [
            n for n, size in known.items() if Question(model=model).means(n, size)]
        return Evidence(
            models=known, workloads={r["workload"]: r["name"] for r in _rows(con, _WORKLOADS)},
            machines=tuple(Machine.model_validate(r) for r in _rows(con, _MACHINES)),
            curves=_curves(con, wanted), prices=tuple(PriceOf.model_validate(r) for r in _rows(con, _PRICES)),
            capabilities=tuple(Capability.model_validate(r) for r in _rows(con, _CAPABILITIES)),
            observed=tuple(Observed.model_validate(r) for sql in _OBSERVED for r in _rows(con, sql)),
            shapes={r.pop("name"): Architecture.model_validate(r) for r in _rows(con, _SHAPES)
                    if r["parameters"] and r["context_tokens"]})


def _curves(con: duckdb.DuckDBPyConnection, wanted: Sequence[str]) -> tuple[Curve, ...]:
    """names are those of the warehouse, quoted."""
    fits: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    names = ", ".join(f"'{name.replace(chr(39), chr(39) * 2)}'" for name in wanted) or "''"
    for row in _rows(con, _FITS.format(names=names)):
        fits[row["setup_id"], row["workload"]][row["quantity"]] = row["fit"]
    stacks = {r["setup_id"]: Stack.model_validate(r) for r in _rows(con, _STACKS.format(names=names))}
    points: dict[tuple[str, str, str], list[Point]] = defaultdict(list)
    for row in _rows(con, _POINTS.format(names=names)):
        points[row.pop("setup_id"), row.pop("workload"), row.pop("workload_name")].append(_point(row))
    return tuple(Curve(stack=stacks[setup], workload=label, workload_name=name, points=tuple(found),
                       fits_json=fits.get((setup, label), {}))  # type: ignore[arg-type]
                 for (setup, label, name), found in points.items())


def _point(row: dict[str, Any]) -> Point:
    values = {name: value for name in VALUES if (value := row.pop(name)) is not None}
    return Point(values=values, **row)


def _rows(con: duckdb.DuckDBPyConnection, sql: str) -> Iterable[dict[str, Any]]:
    """Without parameters: DuckDB imports pandas, where it is installed, as soon as a query has one."""
    done = con.execute(sql)
    names = [column[0] for column in done.description]
    return [dict(zip(names, row, strict=True)) for row in done.fetchall()]


_MODELS = "select name, max(parameters) as parameters from models group by name order by name"
_SHAPES = """select distinct on (name) name, * exclude (model_id, name, source, repository, file, revision, content)
             from models where layers is not null"""
_WORKLOADS = "select distinct workload, name from workloads order by workload"
_MACHINES = """
    select h.hardware_id, h.name, h.kind, h.accelerator, h.accelerators, h.accelerator_memory_gib, h.cores,
           h.memory_gib, any_value(t.memory_bandwidth_gb_s) as memory_bandwidth_gb_s
    from hardware h left join setups s using (hardware_id) left join trials t using (setup_id)
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
_FITS = """
    select c.setup_id, c.workload, c.quantity, c.fit::varchar as fit
    from calibrations c join setups s using (setup_id) join models m using (model_id) where m.name in ({names})
    qualify row_number() over (partition by c.setup_id, c.workload, c.quantity order by calibrated_at desc) = 1"""
_PATHS = ", ".join(f"'$.summary.intervals.{name}'" for name in KEPT)
_INTERVALS = ", ".join(f"'{name}'" for name in KEPT)
_POINTS = f"""
    select v.setup_id, v.workload, v.workload_name, v.trial_id, v.load, v.concurrency, v.request_rate,
           v.requests_per_second, v.output_tokens_per_second, v.input_tokens_mean as input_tokens,
           v.output_tokens_mean as output_tokens, {', '.join(f'v.{name}' for name in VALUES)}, v.trust, v.fatal,
           strftime(v.started_at, '%Y-%m-%dT%H:%M:%S') as measured_at,
           to_json(map([{_INTERVALS}], json_extract(t.measurement, [{_PATHS}])))::varchar as intervals_json
    from measurements v join trials t using (trial_id)
    where v.model in ({{names}})
    order by v.started_at, v.trial_id"""  # noqa: S608 (names of this module)
_ANSWERS = """
    select e.engine, e.variant, '{feature}' as feature, count(*) as trials, avg(x.value) as share,
           arg_max(t.trial_id, x.value) as trial_id, 'answers that were valid' as about
    from metrics x join trials t using (trial_id) join engines e using (engine_id) join workloads w using (workload_id)
    where x.metric = 'output_valid_share' and {field} group by e.engine, e.variant"""
_OBSERVED = (
    _ANSWERS.format(feature="structured_output", field="json_type(w.spec, '$.json_schema') = 'OBJECT'"),
    _ANSWERS.format(feature="tool_calls", field="json_type(w.spec, '$.tools') = 'ARRAY'"),
    """select e.engine, e.variant, 'prefix_caching' as feature, count(*) as trials,
              sum(c.value) / nullif(sum(i.value), 0) as share, arg_max(t.trial_id, c.value) as trial_id,
              'input tokens taken from the prefix cache' as about
       from trials t join setups s using (setup_id) join engines e using (engine_id)
       join metrics i on i.trial_id = t.trial_id and i.metric = 'input_tokens'
       left join metrics c on c.trial_id = t.trial_id and c.metric = 'cached_tokens'
       where s.prefix_caching group by e.engine, e.variant""",
    """with rates as (
           select t.setup_id, t.workload_id, t.trial_id, t.concurrency, x.value
           from trials t join metrics x using (trial_id)
           where x.metric = 'output_tokens_per_second' and t.concurrency is not null
             and not exists (from verdicts v where v.trial_id = t.trial_id and v.severity = 'fatal')),
       gains as (
           select setup_id, workload_id, max(value) / arg_min(value, concurrency) as gain,
                  arg_max(trial_id, value) as trial_id, count(*) as trials
           from rates group by all having max(concurrency) > 1 and min(concurrency) = 1)
       select s.engine, (select any_value(variant) from engines join trials t using (engine_id)
                         where t.setup_id = s.setup_id) as variant,
              'continuous_batching' as feature, sum(g.trials)::bigint as trials, max(g.gain) as share,
              arg_max(g.trial_id, g.gain) as trial_id, 'times the throughput of one user, at best' as about
       from gains g join setups s using (setup_id) group by 1, 2""",
    """select e.engine, e.variant, 'openai_api' as feature, count(*) as trials,
              sum(t.requests_ok) / nullif(sum(t.requests_ok + t.requests_failed), 0) as share,
              arg_max(t.trial_id, t.requests_ok) as trial_id, 'requests answered whole' as about
       from trials t join engines e using (engine_id) join workloads w using (workload_id)
       where w.api in ('completions', 'chat') group by e.engine, e.variant""")
