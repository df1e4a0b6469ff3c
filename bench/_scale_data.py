"""A warehouse of any size made up by rule, straight in SQL: no bundles lie behind it.

Requests are drawn around each trial's own TTFT and TPOT; the figures of a trial come from the same two, not from its
requests. `chunk_timings` stays empty.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import duckdb

from models.planning.curves import fit_only
from models.planning.points import point
from models.summary import LATENCIES, STATISTICS
from warehouse import _project, _schema, writer

TRIALS_PER_SETUP, SETUPS_PER_EVALUATION, BATCH = 20, 20, 4000
"""An evaluation is of one model on one machine, and its trials follow one another."""
SPREAD = dict(zip(STATISTICS, (1.0, 0.94, 1.35, 1.6, 2.4), strict=True))
"""Statistics of a latency relative to its mean."""
MODELS = (("Qwen/Qwen3-8B", 8.2e9), ("meta-llama/Llama-3.1-8B-Instruct", 8.0e9), ("Qwen/Qwen3-0.6B", 0.6e9),
          ("Qwen/Qwen3-4B", 4.0e9), ("mistralai/Mistral-7B-Instruct-v0.3", 7.2e9), ("google/gemma-3-12b-it", 12.2e9),
          ("Qwen/Qwen3-14B", 14.8e9), ("meta-llama/Llama-3.2-1B", 1.2e9), ("meta-llama/Llama-3.2-3B", 3.2e9),
          ("microsoft/phi-4", 14.7e9), ("google/gemma-3-27b-it", 27.4e9), ("Qwen/Qwen3-32B", 32.8e9),
          ("meta-llama/Llama-3.3-70B-Instruct", 70.6e9), ("mistralai/Mistral-Small-24B", 23.6e9),
          ("ibm-granite/granite-3.3-8b", 8.2e9), ("HuggingFaceTB/SmolLM3-3B", 3.1e9), ("allenai/OLMo-2-13B", 13.7e9),
          ("tiiuae/Falcon3-10B", 10.3e9), ("Qwen/Qwen2.5-72B", 72.7e9), ("EleutherAI/pythia-1.4b", 1.4e9))
"""Names and parameters; the first ones are measured most."""
HARDWARE = (("EPYC 9654, 32 cores", "cpu", None, 0, 460), ("EPYC, 2 cores", "cpu", None, 0, 30),
            ("Xeon 8480, 16 cores", "cpu", None, 0, 300), ("MacBook Pro M4", "metal", "Apple M4 Pro", 1, 273),
            ("l4-node", "cuda", "NVIDIA L4", 1, 300), ("l40s-node", "cuda", "NVIDIA L40S", 1, 864),
            ("a100-node", "cuda", "NVIDIA A100 80GB", 1, 2039), ("h100-node", "cuda", "NVIDIA H100 80GB HBM3", 1, 3350),
            ("h100x2-node", "cuda", "NVIDIA H100 80GB HBM3", 2, 6700), ("h200-node", "cuda", "NVIDIA H200", 1, 4800),
            ("h100x8-node", "cuda", "NVIDIA H100 80GB HBM3", 8, 26800), ("mi300x-node", "rocm", "AMD MI300X", 1, 5300))
"""Name, kind, accelerator, how many, memory bandwidth of all in GB/s."""
ENGINES = (("vllm", None, "0.32.0"), ("vllm", None, "0.31.1"), ("sglang", None, "0.6.2"), ("tgi", None, "3.4.1"),
           ("llama_cpp", "llama-server", "b7120"), ("llama_cpp", "llama_cpp.server", "0.3.36"))
GPU_FORMATS, CPU_FORMATS = (("bf16", 16), ("fp8", 8), ("awq", 4.25)), (("F16", 16), ("Q8_0", 8.5), ("Q4_K_M", 4.85))
WORKLOADS = (("chat", 512, 180), ("rag", 3200, 220), ("summarise", 6000, 300), ("code", 900, 400),
             ("agent", 2400, 120), ("classify", 400, 8), ("translate", 300, 320), ("batch", 1000, 600))
"""Name, mean tokens in and out."""


def make(home: Path, trials: int, requests: int, said: Callable[[str], None]) -> None:
    """Writes the database of a home, with so many trials of so many requests each. Its file must not be there."""
    home.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(home / writer.DATABASE)) as con:
        _schema.upgrade(con)
        con.execute("set enable_progress_bar = false")
        _things(con, -(-trials // TRIALS_PER_SETUP))
        con.execute(_MADE, {"trials": trials, "requests": requests})
        for name, sql in (("figures", _measured()), ("metrics", _METRICS), ("verdicts", _VERDICTS),
                          ("trials", _TRIALS), ("quality", _QUALITY), ("calibrations", _calibrations()),
                          ("failures", _FAILURES)):
            said(name)
            con.execute(sql)
        for first in range(0, trials, BATCH):
            said(f"requests of trials {first} to {min(first + BATCH, trials)} of {trials}")
            con.execute(_REQUESTS, {"first": first, "last": first + BATCH - 1, "requests": requests})
            con.execute(_TELEMETRY, {"first": first, "last": first + BATCH - 1})
        con.execute("drop table made; drop table made_setups")


def _things(con: duckdb.DuckDBPyConnection, setups: int) -> None:
    """Models, engines, hardware, workloads, prices, and setups made of them."""
    for i, (name, size) in enumerate(MODELS):
        _project.upsert(con, "models", {
            "model_id": f"m{i}", "name": name, "source": "hub", "family": "llama", "parameters": int(size),
            "layers": 32, "heads": 32, "hidden_size": 4096,
            "kv_heads": 8, "head_dim": 128, "intermediate_size": 14336, "vocabulary": 128256,
            "tied_embeddings": False, "context_tokens": 32768})
    for i, (engine, variant, version) in enumerate(ENGINES):
        con.execute("insert into engines values (?, ?, ?, ?)", [f"e{i}", engine, variant, version])
    for i, (name, kind, accelerator, count, _) in enumerate(HARDWARE):
        con.execute("insert into hardware values (?, ?, ?, null, 32, 256, ?, ?, 80)",
                    [f"h{i}", name, kind, accelerator, count])
        for tier, factor in (("on-demand", 1.0), ("reserved-1y", 0.65), ("spot", 0.4)):
            _project.upsert(con, "prices", {
                "price_id": f"{name} {tier}", "hardware": name, "tier": tier, "date": "2026-11", "source": "made up",
                "price_usd_per_hour": factor * (0.4 + 2.2 * max(count, 0.2)), "given": False,
                "stored_at": "2026-11-01"})
    for i, (name, _, _) in enumerate(WORKLOADS):
        con.execute("insert into workloads (workload_id, workload, name, description, source, api, offline, spec)"
                    " values (?, ?, ?, 'made up', 'bench', 'completions', false, '{}')", [f"w{i}", name, name])
    con.execute(_SETUPS, {"setups": setups, "models": len(MODELS), "hardware": [h[1] for h in HARDWARE],
                          "bandwidth": [h[4] for h in HARDWARE], "sizes": [m[1] for m in MODELS],
                          "gpu": [f[0] for f in GPU_FORMATS], "cpu": [f[0] for f in CPU_FORMATS],
                          "gpu_bits": [f[1] for f in GPU_FORMATS], "cpu_bits": [f[1] for f in CPU_FORMATS],
                          "engines": [e[0] for e in ENGINES], "variants": [e[1] for e in ENGINES]})
    con.execute("insert into setups by name select columns(c -> c not in "
                "('no', 'm', 'h', 'e', 'q', 'base_tpot_ms', 'base_ttft_ms')) from made_setups")


def _random(*salt: str) -> str:
    """SQL of a number that is uniform between 0 and 1, by the columns named."""
    return f"(hash({', '.join(salt)}) % 1000003 / 1000003.0)"


_SETUPS = f"""
create temp table made_setups as
with drawn as (
    select i as no, i // {SETUPS_PER_EVALUATION} as v, floor($models * {_random('v', "'m'")} ** 2)::int as m,
           floor(12 * {_random('v', "'h'")})::int as h,
           floor(3 * {_random('i', "'q'")})::int as q, (array[1, 4, 16, 64, 256])[1 + i % 5] as slots
    from range($setups) t(i)
),
placed as (
    select *, $hardware[h + 1] in ('cpu', 'metal') as small,
           case when small then 4 + i2 % 2 else i2 % 4 end as e
    from (select *, floor(8 * {_random('no', "'e'")})::int as i2 from drawn)
)
select no, m, h, e, q, 's' || substr(md5(no::varchar), 1, 15) as setup_id,
       'm' || m as model_id, 'h' || h as hardware_id, $engines[e + 1] as engine, $variants[e + 1] as variant,
       null::varchar as version, case when small then 'venv' else 'docker' end as runtime,
       case when small then $cpu[q + 1] else $gpu[q + 1] end as quantization,
       concat_ws(' ', coalesce(variant, engine), quantization, slots || ' slots') as label, 'f16' as kv_type,
       slots as max_sequences,
       (array[null, 2048, 8192])[1 + no % 3] as max_batched_tokens, no % 7 = 0 as prefix_caching,
       8192 as context_tokens, 0.9 as memory_fraction, '{{}}' as environment,
       md5(concat_ws(' ', m, e, q, h)) as numerics_id,
       $sizes[m + 1] * (case when small then $cpu_bits[q + 1] else $gpu_bits[q + 1] end) / 8 / $bandwidth[h + 1] / 1e6
           as base_tpot_ms, base_tpot_ms * 6 as base_ttft_ms
from placed"""

_INPUTS, _OUTPUTS = ([w[i] for w in WORKLOADS] for i in (1, 2))
_MADE = f"""
create temp table made as
with spread as (
    select i as no, i // {TRIALS_PER_SETUP} as s, i % {TRIALS_PER_SETUP} as k from range($trials) t(i)
)
select no, s.*, 't' || substr(md5('t' || no), 1, 15) as trial_id, e as engine_no,
       'w' || w as workload_id, w, case when l < 9 then 2 ** l end::int as concurrency,
       case when l = 9 then 2.5 end as request_rate, coalesce(concurrency, 8) as users,
       {_INPUTS}[w + 1] as input_tokens, {_OUTPUTS}[w + 1] as output_tokens,
       base_tpot_ms * (1 + 0.012 * least(users, max_sequences)) * (0.95 + 0.1 * {_random('no', "'tpot'")}) as tpot_ms,
       base_ttft_ms * (0.4 + input_tokens / 800) * (0.95 + 0.1 * {_random('no', "'ttft'")})
           + greatest(0, users - max_sequences) / max_sequences * output_tokens * tpot_ms as ttft_ms,
       ttft_ms + tpot_ms * output_tokens as e2e_ms, users / e2e_ms * 1e3 as requests_per_second,
       $requests * e2e_ms / 1e3 / users as window_s,
       timestamp '2026-01-01' + to_seconds((no * 300)::bigint) as started_at
from (select no, k, s, (k // 10 + s) % {len(WORKLOADS)} as w, k % 10 as l from spread)
join (select no as s, * exclude (no) from made_setups) s using (s)"""


def _measured() -> str:
    """The wide table; figures by rule."""
    mean = {"ttft_ms": "ttft_ms", "ttft_from_schedule_ms": "ttft_ms + 0.2", "first_content_ms": "ttft_ms + 1",
            "tpot_ms": "tpot_ms", "itl_ms": "tpot_ms * 1.01", "e2e_ms": "e2e_ms",
            "e2e_from_schedule_ms": "e2e_ms + 0.2", "send_delay_ms": "0.2 * (1 + tpot_ms / 1e4)"}
    figures = {f"{name}_{statistic}": f"({mean[name]}) * {SPREAD[statistic]}" for name in LATENCIES
               for statistic in STATISTICS}
    figures |= {"requests_per_second": "requests_per_second", "input_tokens_mean": "input_tokens",
                "output_tokens_mean": "output_tokens", "input_tokens_planned_mean": "input_tokens",
                "output_tokens_planned_mean": "output_tokens", "chunks_per_output_token": "0.998",
                "output_tokens_per_second": "requests_per_second * output_tokens", "cached_tokens": "0",
                "input_tokens_per_second": "requests_per_second * input_tokens",
                "input_tokens": "480 * input_tokens", "output_tokens": "480 * output_tokens",
                "joules_per_output_token": "case when no % 3 > 0 then 0.4 * tpot_ms end",
                "joules_per_request": "case when no % 3 > 0 then 0.4 * e2e_ms end",
                "power_watts_mean": "case when no % 3 > 0 then 400 end"}
    columns = ", ".join(f"({sql})::double as {name}" for name, sql in figures.items())
    verdict = ("case when no % 41 = 0 then 'client_bound' when no % 13 = 0 then 'host_busy' "
               "when no % 7 = 0 then 'short_run' end")
    ends = ", ".join(f"({figures[name]}) * {end}" for name in _schema.INTERVALS for end in (0.97, 1.03))
    return (f"insert into _measured by name select trial_id, {columns}, coalesce(nullif({verdict}, 'short_run'), 'ok') "
            f"as trust, no % 41 = 0 as fatal, coalesce({verdict}, '') as verdicts, [{ends}]::double[] as intervals "
            "from made order by no")


_NAMES = ", ".join(_project.FIGURES)
_METRICS = f"""insert into metrics unpivot (select trial_id, {_NAMES} from _measured) on {_NAMES}
               into name metric value value"""
_VERDICTS = """insert into verdicts select trial_id, 0, verdicts, case when fatal then 'fatal' when trust <> 'ok' then
               'warning' else 'note' end, 'made up: 12 % of what was asked' from _measured where verdicts <> ''"""
_INTERVALS = ", ".join(f"'{name}': [f.{name} * 0.97, f.{name} * 1.03]" for name in _project.FIGURES
                       if not name.startswith(("input", "output_tokens_mean", "output_tokens_planned")))
_METRICS_JSON = ", ".join(f"'{name}': f.{name}" for name in _project.FIGURES)
_TRIALS = f"""
insert into trials by name
select m.trial_id, m.setup_id, 'e' || m.engine_no as engine_id, m.workload_id, m.concurrency, m.request_rate,
       coalesce(m.concurrency || ' at once', m.request_rate || ' a second') as load,
       case when m.request_rate is not null then 'poisson' end as arrivals, 480 as requests_planned,
       10 as warmup_requests,
       m.no as seed, 0 as repeat, m.started_at,
       m.window_s as duration_s, m.window_s, 478 as requests_ok, 2 as requests_failed, 8 as threads,
       8192 as context_tokens, 12.5 as ready_s, 200.0 as memory_bandwidth_gb_s, 0.4 as client_cpu_s,
       ['serve', '--model', m.model_id, '--max-num-seqs', m.max_sequences::varchar] as argv, '{{}}' as environment,
       (m.base_tpot_ms * 1e6)::bigint as model_bytes, 'bench' as hostname, 'Linux' as os, '0.1.0' as dyno_version,
       'measured' as source, 'bundles/' || m.trial_id as bundle, md5('b' || m.no) as bundle_sha256,
       '{{"schema_version":1,"trial_id":"' || m.trial_id || '","summary":{{"metrics":' ||
       to_json({{{_METRICS_JSON}}}) || ',"intervals":' || to_json({{{_INTERVALS}}}) || '}},"trial":"' ||
       repeat(m.setup_id, 160) || '","run":"' || repeat(m.model_id, 600) || '"}}' as measurement
from made m join _measured f using (trial_id) order by m.no"""
_QUALITY = """
insert into asked select numerics_id, any_value(model_id), false, any_value(engine), any_value(variant), null,
    any_value(quantization), 'f16', any_value(hardware_id), 'text', 't1', 'ids', 200, 20, '2026-11-01', 9, '0.1.0',
    '', '{}'
from made_setups group by numerics_id;
insert into divergences (numerics_id, reference_id, same_engine, positions, mass_seen, kl_nats, kl_nats_low,
    kl_nats_high, top1_agreement, top1_agreement_low, top1_agreement_high)
select a.numerics_id, any_value(s.numerics_id), true, 200, 0.99, max(s.q) * 0.02, max(s.q) * 0.015, max(s.q) * 0.03,
       0.97, 0.95, 0.99
from asked a join made_setups s using (numerics_id) group by a.numerics_id"""


def _calibrations() -> str:
    """The newest fit of each curve, with the curve's own points; form and prior from a real fit."""
    real = [fit_only([point(c, 40 + c, 8 + c / 10, 200, 1e3 * c / (8 + c / 10)) for c in (1, 4, 16, 64)], q)
            for q in ("tpot", "throughput", "ttft")]
    cases = " ".join(f"when '{f.quantity}' then '{json.dumps(f.model_dump(mode='json')['prior'])}'" for f in real)
    quantities = ", ".join(f"'{f.quantity}'" for f in real)
    return f"""
insert into calibrations by name
with curves as (
    select setup_id, any_value(label) as setup, w, any_value(max_sequences) as knee, list(trial_id) as trial_ids,
           to_json(list({{'concurrency': concurrency::double, 'tpot_ms': tpot_ms, 'ttft_ms': ttft_ms,
                          'output_tokens_per_second': requests_per_second * output_tokens,
                          'output_tokens': output_tokens::double}} order by concurrency)) as points
    from made where concurrency is not null group by setup_id, w
)
select 'made.json' as run, timestamp '2026-11-01' as calibrated_at, setup_id, setup,
       {[w[0] for w in WORKLOADS]}[w + 1] as workload, quantity, '{real[0].form}' as form, 1.0 as a, 0.1 as b, 0.9 as k,
       knee, 0.05 as error, 7 as error_points, 1 as concurrency_low, 256 as concurrency_high, trial_ids,
       '{{"quantity":"' || quantity || '","points":' || points || ',"knee":' || knee ||
       ',"parameters":{{"a":1,"b":0.1,"k":0.9}},"error":0.05,"of":7,"prior":' || case quantity {cases} end ||
       '}}' as fit, '0.1.0' as dyno_version
from curves, (select unnest([{quantities}]) as quantity)"""


_FAILURES = """
insert into failures select 'f' || no, timestamp '2026-01-01' + to_seconds(no * 3600), setup_id, label, model_id,
    engine, variant, quantization, hardware_id, 'launch', 'exited before it was ready: out of memory', 'serve x', 1,
    repeat('loading weights' || chr(10), 30), '{}'
from made_setups where no % 10 = 0"""
_REQUESTS = f"""
insert into requests by name
with rows as (
    select trial_id, no, unnest(range($requests))::int as i, users, ttft_ms, tpot_ms, e2e_ms, input_tokens,
           output_tokens, started_at
    from made where no between $first and $last order by no
),
drawn as (
    select *, {_random('no', 'i', '1')} as u1, {_random('no', 'i', '2')} as u2, {_random('no', 'i', '3')} as u3,
           greatest(1, output_tokens * (0.3 + 1.4 * u1))::int as tokens,
           ((i // users) * e2e_ms * 1e6 + u2 * 5e6)::bigint as planned, planned + (u3 * 4e5)::bigint as sent,
           sent + (ttft_ms * (0.7 + 0.6 * u2) * 1e6)::bigint as first,
           first + (tokens * tpot_ms * (0.9 + 0.2 * u3) * 1e6)::bigint as last
    from rows
)
select trial_id, i as request_index, i as session, 0 as turn,
       case when i < 10 then 'warmup' when i >= $requests - 10 then 'tail' else 'measured' end as phase,
       input_tokens as input_tokens_planned, tokens as output_tokens_planned,
       input_tokens + (u3 * 9)::int as input_tokens,
       0 as cached_tokens, tokens as output_tokens, 'usage' as output_tokens_source, planned as planned_ns,
       sent as sent_ns, first - 1000 as first_byte_ns, first as first_content_ns, first as first_token_ns,
       last as last_token_ns, last + 100000 as done_ns, started_at as trial_started_at,
       case when u1 < 0.004 then 'http_error' else 'ok' end as outcome,
       200 as http_status, 'length' as finish_reason
from drawn"""
_TELEMETRY = f"""
insert into telemetry
with rows as (
    select trial_id, no, window_s, started_at, unnest(range(100)) as j
    from made where no between $first and $last order by no
)
select trial_id, ((j // 5) * window_s / 20 * 1e9)::bigint,
       (['host', 'engine', 'engine', 'client', 'gauges'])[1 + j % 5],
       (['cpu_percent', 'cpu_percent', 'rss_bytes', 'cpu_percent', 'requests_running'])[1 + j % 5],
       100 * {_random('no', 'j')} * (case when j % 5 = 2 then 1e7 else 1 end), started_at
from rows"""
