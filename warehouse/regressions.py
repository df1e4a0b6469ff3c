"""What a look at changes is made of: measurements of equal setups under equal loads, also those replaced since."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.paired import FIGURES, Timed
from models.specs import Batching, Load
from models.verdicts import DISTURBED
from warehouse import published

KEPT = 20
"""Measurements of a series that are looked at, the newest: enough to know the noise from one to the next."""


def runs(home: Path, trial_ids: Sequence[str] | None = None) -> list[Timed]:
    """Returns the published measurements of every series that holds one of these trials (None: of all series), the
    newest KEPT of each. Raises UserError when nothing is published."""
    with published.connect(home) as con:
        wanted = "" if trial_ids is None else "where trial_id in (select unnest(?::varchar[]))"
        lists = ", ".join(f"list({name} order by request_index) as {name}" for name in ("request_index", *FIGURES))
        found = con.execute(_RUNS.format(key=_key(), wanted=wanted, kept=KEPT, lists=lists, of=", ".join(FIGURES)),
                            [] if trial_ids is None else [list(trial_ids)])
        names = [column[0] for column in found.description]
        return [_timed(dict(zip(names, row, strict=True))) for row in found.fetchall()]


def _timed(row: dict[str, Any]) -> Timed:
    fatal, trust = row.pop("fatal"), row.pop("trust")
    numbers = np.array(row.pop("request_index") or [], dtype=np.int64)
    times = {name: np.array(row.pop(name) or [], dtype=float) for name in FIGURES}
    return Timed(**row, trusted=not fatal and DISTURBED.isdisjoint(trust.split(", ")), numbers=numbers, times=times)


def _key() -> str:
    """What is equal within a series: all of setup, workload and load but versions, weights and where they come from."""
    setup = ("engine", "variant", "runtime", "quantization", "kv_type", *Batching.model_fields, "extra_args",
             "environment", "url", "hardware_id")
    shape = ("name", "layers", "hidden_size", "heads", "kv_heads", "vocabulary", "parameters")
    load = ("requests_planned", *(name for name in Load.model_fields if name != "requests"), "seed", "workload_id")
    columns = [f"s.{n}" for n in setup] + [f"m.{n}" for n in shape] + [f"t.{n}" for n in load]
    return f"md5(to_json([{', '.join(f'{c}::varchar' for c in columns)}])::varchar)"


_RUNS = """
    with keyed as (
        select {key} as series, t.trial_id, coalesce(s.variant, s.engine) as engine, m.name as model,
               coalesce(m.content, m.revision, '') as content, h.name as hardware, s.label as setup, w.workload, t.load
        from trials t join setups s using (setup_id) join models m using (model_id) join hardware h using (hardware_id)
        join workloads w using (workload_id)
    ), mine as (
        from keyed where series in (select series from keyed {wanted})
    ), answered as (
        select trial_id, {lists} from latencies where phase = 'measured' and outcome = 'ok'
        and trial_id in (select trial_id from mine) group by trial_id
    ), every as (
        select t.trial_id, t.started_at, e.version, p.fatal, p.trust, t.measurement, a.* exclude (trial_id)
        from mine join trials t using (trial_id) join engines e using (engine_id) join _measured p using (trial_id)
        left join answered a using (trial_id)
        union all
        select trial_id, started_at, engine_version, fatal, trust, measurement, request_index, {of}
        from earlier where trial_id in (select trial_id from mine)
    )
    select mine.*, started_at, version, fatal, trust, request_index, {of},
           concat_ws('/', setup, measurement->>'$.run.log_file', measurement->>'$.run.ready_s') as launch,
           coalesce(measurement->>'$.host.hostname', '') as host,
           (measurement->>'$.host.memory_bandwidth_gb_s')::double as memory_bandwidth_gb_s,
           coalesce(measurement->>'$.dyno_version', '') as dyno_version
    from every join mine using (trial_id)
    qualify row_number() over (partition by series order by started_at desc) <= {kept}
    order by series, started_at"""
