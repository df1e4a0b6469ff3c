"""Bundles made up by rule, for the warehouse's own tests: realistic frames, no engine."""

from __future__ import annotations

import random
from pathlib import Path

import polars as pl

from models.frames import REQUESTS, TELEMETRY
from models.records import EngineRun, Failure, HostInfo, Measurement, Warmup
from models.specs import (
    Architecture,
    Batching,
    EngineSpec,
    HardwareSpec,
    Lengths,
    Load,
    ModelSpec,
    Setup,
    Trial,
    Workload,
)
from models.summary import summarise
from models.verdicts import judge
from warehouse import bundles

MS = 1_000_000
SHAPE = Architecture(layers=12, hidden_size=768, heads=12, kv_heads=4, head_dim=64, intermediate_size=2048,
                     vocabulary=32000, parameters=110_000_000, context_tokens=2048)
MACHINE = HardwareSpec(name="AMD EPYC, 2 cores", cpu="AMD EPYC", cores=2, memory_gib=24)


def setup(variant: str = "llama-server", quantization: str = "Q8_0", slots: int | None = 4,
          hardware: HardwareSpec = MACHINE) -> Setup:
    engine = EngineSpec(engine="llama_cpp", variant=variant, version="0.3.36", quantization=quantization,
                        batching=Batching(max_sequences=slots, context_tokens=2048, threads=1))
    return Setup(model=ModelSpec(name="synthetic-llama-110m", content="recipe-1", architecture=SHAPE), engine=engine,
                 hardware=hardware)


def trial(of: Setup | None = None, concurrency: int | None = 4, requests: int = 24, seed: int = 0,
          request_rate: float | None = None) -> Trial:
    workload = Workload(name="chat", description="made up", source="tests", input_scale=0.1, output_scale=0.3,
                        input_tokens=Lengths(mean=128), output_tokens=Lengths(mean=24))
    load = Load(concurrency=None if request_rate else concurrency, request_rate=request_rate, requests=requests)
    return Trial(setup=of or setup(), workload=workload, load=load, seed=seed)


def requests_of(what: Trial, ttft_ms: float = 40.0, itl_ms: float = 8.0) -> pl.DataFrame:
    """A closed loop of so many users, a warm-up and a tail request each, one failure, one answer without reasoning."""
    rng = random.Random(f"{what.trial_id}")
    users = what.load.concurrency or 4
    free, rows = [0.0] * users, []
    for index in range(what.load.requests + 2 * users):
        phase = "warmup" if index < users else "measured" if index < users + what.load.requests else "tail"
        user = min(range(users), key=lambda u: free[u])
        planned = free[user] * MS
        sent = planned + rng.uniform(0.01, 0.3) * MS
        tokens = rng.randint(1, 40)
        gaps = [ttft_ms * rng.uniform(0.8, 1.6), *(itl_ms * rng.uniform(0.7, 1.5) for _ in range(tokens - 1))]
        at = [round(sum(gaps[:n + 1]) * MS) for n in range(tokens)]
        if tokens > 5 and index % 7 == 0:
            at = at[:3] + at[4:]  # two tokens shared a chunk
        failed = index == users + 3
        first, last, done = round(sent) + at[0], round(sent) + at[-1], round(sent) + at[-1] + 100_000
        rows.append({
            "request_index": index, "session": index, "turn": 0, "phase": phase, "input_tokens_planned": 128,
            "output_tokens_planned": tokens, "input_tokens": None if failed else 128 + index % 3,
            "cached_tokens": None if failed else 0, "output_tokens": 2 if failed else tokens,
            "output_tokens_source": "chunks" if failed else "usage", "planned_ns": round(planned),
            "sent_ns": round(sent), "first_byte_ns": round(sent) + MS, "first_reasoning_ns": None,
            "first_content_ns": None if index == users + 5 else first, "first_token_ns": first, "last_token_ns": last,
            "done_ns": done, "outcome": "truncated" if failed else "ok", "http_status": 200,
            "finish_reason": None if failed else "length", "error": "ended early" if failed else None, "chunk_ns": at,
            "output_valid": None if failed or index % 7 == 1 else index % 5 > 0,
        })
        free[user] = done / MS
    return pl.DataFrame(rows, schema=REQUESTS)


def telemetry_of(requests: pl.DataFrame) -> pl.DataFrame:
    end = int(requests["done_ns"].max() or 0)  # type: ignore[arg-type]
    rows = [{"at_ns": at, "source": source, "metric": metric, "value": value + at / end}
            for at in range(0, end, max(1, end // 20)) for source, metric, value in
            (("host", "cpu_percent", 120.0), ("engine", "cpu_percent", 100.0), ("engine", "rss_bytes", 2e8),
             ("client", "cpu_percent", 10.0), ("gauges", "requests_running", 3.0))]
    return pl.DataFrame(rows, schema=TELEMETRY)


def measurement_of(what: Trial, requests: pl.DataFrame, telemetry: pl.DataFrame,
                   started_at: str = "2026-11-20T10:00:00+00:00", warmup: Warmup | None = None) -> Measurement:
    engine = what.setup.engine
    summary = summarise(requests)
    duration_s = int(requests["done_ns"].max() or 0) / 1e9  # type: ignore[arg-type]
    verdicts = judge(requests, telemetry, summary, what.workload, what.load, 0.1, duration_s)
    run = EngineRun(engine=engine.engine, variant=engine.variant, engine_version="0.3.36",
                    argv=("llama-server", "-np", "4"), environment={"OMP_WAIT_POLICY": "passive"},
                    model_bytes=117_000_000, bits_per_weight=8.5, threads=1, context_tokens=2048, ready_s=0.6)
    host = HostInfo(hostname="box", os="Linux", memory_bandwidth_gb_s=29.7)
    return Measurement(trial_id=what.trial_id, setup_id=what.setup.setup_id, trial=what, run=run, host=host,
                       started_at=started_at, duration_s=duration_s, summary=summary, verdicts=verdicts,
                       warmup=warmup, client_cpu_s=0.1, dyno_version="0.1.0")


def store(home: Path, what: Trial | None = None, started_at: str = "2026-11-20T10:00:00+00:00", replace: bool = False,
          ttft_ms: float = 40.0, itl_ms: float = 8.0, warmup: Warmup | None = None) -> Path:
    """Writes a bundle of a made-up trial."""
    what = what or trial()
    requests = requests_of(what, ttft_ms, itl_ms)
    telemetry = telemetry_of(requests)
    return bundles.write(home, measurement_of(what, requests, telemetry, started_at, warmup), requests, telemetry,
                         "starting\nready\n", replace=replace)


def failure() -> Failure:
    of = setup(quantization="F16")
    return Failure(setup_id=of.setup_id, setup=of, failed_at="2026-11-20T12:00:00+00:00", stage="launch",
                   error="exited before it was ready", command="llama-server -m x.gguf", exit_code=1,
                   log_tail="error: bad magic")
