"""One bundle, failure or price as rows of the database."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from models.energy import ENERGY
from models.records import Failure, Measurement
from models.specs import ModelSpec, Setup, Workload, content_id
from models.summary import LATENCIES, RATES, STATISTICS, TOTALS
from warehouse import _schema, bundles
from warehouse.bundles import Bundle
from warehouse.pricelist import StoredPrice

Row = dict[str, Any]
FIGURES = (*RATES, *TOTALS, *ENERGY, *(f"{name}_{statistic}" for name in LATENCIES for statistic in STATISTICS))
"""The metrics that `measurements` has as columns."""
KEYS = {"models": "model_id", "engines": "engine_id", "hardware": "hardware_id", "workloads": "workload_id",
        "setups": "setup_id"}
"""Of the tables whose rows many trials share."""


def fingerprint(path: Path) -> str:
    """Identifies what a bundle holds: a trial measured again has another start, so another measurement.json."""
    return hashlib.sha256((path / bundles.MEASUREMENT).read_bytes()).hexdigest()


def store_bundles(con: duckdb.DuckDBPyConnection, home: Path, read: Sequence[tuple[Bundle, str]],
                  again: Sequence[str]) -> None:
    """Stores trials with their fingerprints; `again`: those of them that take the place of an earlier measurement of
    theirs, which takes a look at every row. Runs in the caller's transaction."""
    for table in ("metrics", "verdicts", "requests", "chunk_timings", "telemetry") if again else ():
        con.execute(f"delete from {table} where trial_id in (select unnest(?))", [list(again)])  # noqa: S608
    rows: dict[str, list[Row]] = defaultdict(list)
    for bundle, sha256 in read:
        for table, row in _rows(bundle, home, sha256):
            rows[table].append(row)
    for table, of_it in rows.items():
        upsert(con, table, *of_it)
    for table, frames in (("metrics", [_metrics(bundle.measurement) for bundle, _ in read]),
                          ("requests", [_of(b, b.requests.drop("chunk_ns")) for b, _ in read]),
                          ("chunk_timings", [_of(b, b.requests.select("request_index", "chunk_ns")) for b, _ in read]),
                          ("telemetry", [_of(b, b.telemetry) for b, _ in read])):
        _append(con, table, pl.concat(frames))


def _append(con: duckdb.DuckDBPyConnection, table: str, frame: pl.DataFrame) -> None:
    con.register("_frame", frame.to_arrow())
    con.execute(f"insert into {table} by name from _frame")
    con.unregister("_frame")


def _rows(bundle: Bundle, home: Path, sha256: str) -> Iterator[tuple[str, Row]]:
    measurement = bundle.measurement
    setup, workload = measurement.trial.setup, measurement.trial.workload
    yield "models", _model(setup.model)
    yield "engines", _engine(measurement)
    yield "hardware", setup.hardware.model_dump() | {"hardware_id": setup.hardware.hardware_id}
    yield "workloads", _workload(workload)
    yield "setups", _setup(setup)
    yield "trials", _trial(measurement, str(bundle.path.relative_to(home)), sha256)
    yield "_measured", _measured(measurement)
    for position, verdict in enumerate(measurement.verdicts):
        yield "verdicts", verdict.model_dump() | {"trial_id": measurement.trial_id, "position": position}


def _metrics(measurement: Measurement) -> pl.DataFrame:
    metrics = measurement.summary.metrics
    return pl.DataFrame({"metric": list(metrics), "value": list(metrics.values())}, schema={
        "metric": pl.String, "value": pl.Float64}).select(pl.lit(measurement.trial_id).alias("trial_id"), pl.all())


def _of(bundle: Bundle, frame: pl.DataFrame) -> pl.DataFrame:
    began = pl.lit(utc(bundle.measurement.started_at)).alias("trial_started_at")
    return frame.select(pl.lit(bundle.measurement.trial_id).alias("trial_id"), pl.all(), began)


def store_failure(con: duckdb.DuckDBPyConnection, name: str, failure: Failure) -> None:
    """Stores a failed launch, keyed by its folder's name."""
    setup = failure.setup
    upsert(con, "failures", {
        "failure": name, "failed_at": utc(failure.failed_at), "setup_id": failure.setup_id, "setup_label": setup.label,
        "model": setup.model.name, "engine": setup.engine.engine, "variant": setup.engine.variant,
        "quantization": setup.engine.quantization, "hardware": setup.hardware.name, "stage": failure.stage,
        "error": failure.error, "command": failure.command, "exit_code": failure.exit_code,
        "log_tail": failure.log_tail, "record": failure.model_dump_json()})


def store_price(con: duckdb.DuckDBPyConnection, stored: StoredPrice) -> None:
    """Stores a price, in place of one of the same key."""
    upsert(con, "prices", {"price_id": stored.key, **stored.price.model_dump(), "given": stored.given,
                            "stored_at": stored.stored_at})


def utc(text: str) -> dt.datetime:
    """An ISO 8601 instant as a naive UTC one, which is how the database keeps them."""
    instant = dt.datetime.fromisoformat(text)
    return instant.astimezone(dt.UTC).replace(tzinfo=None) if instant.tzinfo else instant


def upsert(con: duckdb.DuckDBPyConnection, table: str, *rows: Row) -> None:
    """Stores rows, each in place of one of the same key: the last one where several of these have the same."""
    alike: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in _last(table, rows):
        alike[tuple(row)].append(row)
    for columns, of_them in alike.items():
        names, marks = ", ".join(f'"{n}"' for n in columns), ", ".join("?" * len(columns))
        how = "insert" if table == "verdicts" else "insert or replace"  # verdicts have no key
        con.execute(f"{how} into {table} ({names}) values {', '.join([f'({marks})'] * len(of_them))}",
                    [value for row in of_them for value in row.values()])


def _last(table: str, rows: Sequence[Row]) -> Iterable[Row]:
    """DuckDB refuses to replace what the same statement stored."""
    if len(rows) == 1 or table not in KEYS:
        return rows
    return {row[KEYS[table]]: row for row in rows}.values()


def _model(model: ModelSpec) -> Row:
    shape = model.architecture.model_dump() if model.architecture else {}
    row = model.model_dump(include={"name", "source", "repository", "file", "revision", "content"})
    return row | {"model_id": content_id(model)} | shape


def _engine(measurement: Measurement) -> Row:
    run = measurement.run
    engine_id = "/".join(filter(None, (run.engine, run.variant, run.engine_version)))
    return {"engine_id": engine_id, "engine": run.engine, "variant": run.variant, "version": run.engine_version}


def _workload(workload: Workload) -> Row:
    row = workload.model_dump(include={"name", "description", "source", "shared_prefix_tokens", "turns", "input_scale",
                                       "output_scale", "api", "offline"})
    return row | {"workload_id": content_id(workload), "workload": workload.label, "spec": workload.model_dump_json()}


def _setup(setup: Setup) -> Row:
    engine = setup.engine
    row = engine.model_dump(include={"engine", "variant", "version", "runtime", "quantization", "kv_type", "url",
                                      "image"})
    return row | engine.batching.model_dump() | {
        "setup_id": setup.setup_id, "label": setup.label, "model_id": content_id(setup.model),
        "numerics_id": setup.numerics_id,
        "hardware_id": setup.hardware.hardware_id, "extra_args": list(engine.extra_args),
        "environment": json.dumps(engine.environment)}


def _measured(measurement: Measurement) -> Row:
    """What `measurements` shows of figures and verdicts, and intervals; steps 0014 and 0015 say the same in SQL."""
    verdicts, metrics, known = measurement.verdicts, measurement.summary.metrics, measurement.summary.intervals
    against = sorted((v for v in verdicts if v.severity != "note"), key=lambda v: v.severity != "fatal")
    return {name: metrics.get(name) for name in FIGURES} | {
        "trial_id": measurement.trial_id, "trust": ", ".join(v.name for v in against) or "ok",
        "fatal": any(v.severity == "fatal" for v in verdicts), "verdicts": ", ".join(v.name for v in verdicts),
        "intervals": [end for name in _schema.INTERVALS for end in known.get(name, (None, None))]}


def _trial(measurement: Measurement, bundle: str, sha256: str) -> Row:
    trial, run, host, summary = measurement.trial, measurement.run, measurement.host, measurement.summary
    load = trial.load.model_dump(exclude={"requests"})
    cut = measurement.warmup
    return load | host.model_dump() | {
        "warmup_cut_requests": cut and cut.requests, "warmup_cut_s": cut and cut.seconds,
        "warmup_method": cut and cut.method, "warmup_over": cut and (cut.found if cut.method else None),
        "trial_id": measurement.trial_id, "setup_id": measurement.setup_id,
        "engine_id": _engine(measurement)["engine_id"], "workload_id": content_id(trial.workload),
        "load": trial.load.label, "requests_planned": trial.load.requests, "seed": trial.seed, "repeat": trial.repeat,
        "started_at": utc(measurement.started_at), "duration_s": measurement.duration_s, "window_s": summary.window_s,
        "requests_ok": summary.requests_ok, "requests_failed": summary.requests_failed,
        "argv": list(run.argv), "environment": json.dumps(run.environment), "model_bytes": run.model_bytes,
        "bits_per_weight": run.bits_per_weight, "threads": run.threads, "context_tokens": run.context_tokens,
        **run.model_dump(include={"kv_cache_tokens", "weights_bytes", "overhead_bytes", "image", "ready_s"}),
        "settings": json.dumps(run.settings), "energy_source": summary.energy_source, "notes": list(run.notes),
        "client_cpu_s": measurement.client_cpu_s,
        "dyno_version": measurement.dyno_version, "source": measurement.source,
        "bundle": bundle, "bundle_sha256": sha256, "measurement": measurement.model_dump_json()}
