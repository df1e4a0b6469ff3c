"""Runs: what was measured, and one run down to its requests, its verdicts and its engine's log."""

from __future__ import annotations

import json
import shlex
from typing import Any

import polars as pl
import streamlit as st

from app.views import _data, _empty, _frame, _run_charts, _state, _style
from models.energy import ENERGY
from models.errors import BundleError, UserError
from models.frames import PHASES
from models.summary import LATENCIES, RATES, STATISTICS, TOTALS
from warehouse.bundles import Bundle

LIST_HEIGHT, LIST_ROWS = 250, 6
LOG_LINES = 30
LIST = {
    "started_at": "Measured (UTC)", "setup_shown": "Setup", "model": "Model", "workload": "Workload", "load": "Load",
    "ttft_from_schedule_ms_p95": "TTFT p95 ms", "tpot_ms_p95": "TPOT p95 ms",
    "output_tokens_per_second": "Output tok/s", "usd_per_million_output_tokens": "USD per M out", "trust": "Trust",
    "trial_id": "Trial",
}
SEVERITY = {"fatal": ":red-badge[fatal]", "warning": ":orange-badge[warning]", "note": ":gray-badge[note]"}


def page() -> None:
    """Draws the page."""
    failed = _data.failures()
    if not _data.held()["trials"]:
        _empty.nothing_measured(failed)
        return
    row = _list(failed)
    if row is None:
        return
    trial_id = row["trial_id"]
    bundle = _bundle(trial_id)
    _head(row)
    _figures(row, bundle)
    requests = _data.requests(trial_id)
    _timeline(requests, row)
    _requests(requests, trial_id)
    _telemetry(trial_id)
    _engine(row, bundle)


def _list(failed: pl.DataFrame) -> dict[str, Any] | None:
    """The list of runs; returns the one selected, else the one in the URL, else the newest; None without any."""
    start = _state.wanted("trial") or ""
    find = _state.words("Find", "find", "Runs whose model, engine, setup, workload, load, hardware, trust or trial "
                        "hold all of these words.", "llama q4 chat")
    measured = _data.runs(find)
    found = _data.run(start) if start else None
    if start and found is None:
        st.warning(f"No trial begins with {start}; this is the newest.")
    held, trial_ids = _data.held()["trials"], measured["trial_id"].to_list()
    index = trial_ids.index(found["trial_id"]) if found and found["trial_id"] in trial_ids else None
    many = _style.count(measured.height, "measurement")
    done, not_done = st.tabs([many if measured.height == held else f"{many} of {_style.shown(held)}",
                              _style.count(failed.height, "failed launch", "failed launches")])
    with done:
        if measured.is_empty():
            st.info("No run holds all of these words.")
            picked = None
        else:
            picked = _frame.table(measured.select(list(LIST)).with_columns(
                pl.col("started_at").dt.strftime("%Y-%m-%d %H:%M")).rename(LIST), key="runs", selected=index,
                height=LIST_HEIGHT if measured.height > LIST_ROWS else "content", muted=measured["fatal"].to_list())
    with not_done:
        _failed(failed)
    row = measured.row(picked, named=True) if picked is not None else found or (
        None if measured.is_empty() else measured.row(0, named=True))
    _state.keep("trial", row and row["trial_id"])
    return row


def _failed(failed: pl.DataFrame) -> None:
    if failed.is_empty():
        st.caption("Every launch succeeded.")
        return
    shown = failed.select(pl.col("failed_at").dt.strftime("%Y-%m-%d %H:%M").alias("Failed (UTC)"),
                          pl.col("setup_label").alias("Setup"), pl.col("model").alias("Model"),
                          pl.col("stage").alias("Stage"), pl.col("error").alias("Error"))
    picked = _frame.table(shown, key="failures", height="content")
    row = failed.row(picked or 0, named=True)
    st.code(row["command"] or "no command was started", language="shell", wrap_lines=True)
    st.code(row["log_tail"] or "the log is empty", language=None, height=200)


def _bundle(trial_id: str) -> Bundle | str:
    """The bundle on disk, or why it cannot be read."""
    try:
        return _data.bundle(trial_id)
    except (UserError, BundleError) as error:
        return str(error)


def _head(row: dict[str, Any]) -> None:
    st.subheader(f"{row['setup_shown']} · {row['workload']} · {row['load']}")
    parts = (f"trial {row['trial_id']}", f"{row['model']} on {row['hardware']}",
             f"{row['engine']} {row['engine_version']}",
             f"{row['started_at']:%Y-%m-%d %H:%M:%S} UTC, {_style.shown(row['duration_s'])} s",
             f"ready after {_style.shown(row['ready_s'])} s", f"seed {row['seed']}, repeat {row['repeat']}",
             str(row["source"]))
    st.caption(" · ".join(parts))


def _figures(row: dict[str, Any], bundle: Bundle | str) -> None:
    tiles = (("TTFT p95", row["ttft_from_schedule_ms_p95"], "ms"), ("TPOT p95", row["tpot_ms_p95"], "ms"),
             ("Output", row["output_tokens_per_second"], "tok/s"), ("Requests", row["requests_per_second"], "/s"),
             ("Cost", row["usd_per_million_output_tokens"], "USD/M out"))
    with st.container(horizontal=True, gap="medium"):
        for label, value, unit in tiles:
            st.metric(label, f"{_style.shown(value)} {unit if value is not None else ''}", width="content")
        st.metric("Answered", f"{row['requests_ok']} of {row['requests_ok'] + row['requests_failed']}", width="content")
    for verdict in _data.verdicts(row["trial_id"]).to_dicts():
        st.markdown(f"{SEVERITY[verdict['severity']]} **{verdict['name'].replace('_', ' ')}**: {verdict['detail']}")
    warmup = None if isinstance(bundle, str) else bundle.measurement.warmup
    if warmup:
        st.caption(warmup.text)
    with st.expander("Every figure"):
        table = pl.DataFrame([{"ms": _style.UNITS[m], **{s: row[f"{m}_{s}"] for s in STATISTICS}} for m in LATENCIES])
        _frame.table(table, key="latencies", select=False)
        others = [{"Figure": _style.title(m), "Value": float(row[m])}
                  for m in (*RATES, *TOTALS, *ENERGY, "kl_nats", "top1_agreement") if row[m] is not None]
        _frame.table(pl.DataFrame(others, schema={"Figure": pl.String, "Value": pl.Float64}), key="figures",
                     select=False)


def _timeline(requests: pl.DataFrame, row: dict[str, Any]) -> None:
    st.markdown("**Requests in time**")
    bars = _run_charts.bars(requests)
    if bars.is_empty():
        st.info("No request of this run was sent.")
        return
    st.altair_chart(_run_charts.timeline(bars, requests), key="timeline")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("A bar is a request: waiting in the client until it is sent; to the first token, which is the queue "
                   "in the engine and the prefill; decoding. Pale: warm-up and tail, which are not counted. Between "
                   f"the grey lines: the {_style.shown(row['window_s'])} s over which rates are taken."
                   + (f" The first {_run_charts.SHOWN_MAX} of {requests.height} requests."
                      if requests.height > _run_charts.SHOWN_MAX else ""))
        st.space("stretch")
        _frame.download(bars, f"timeline-{row['trial_id']}")


def _requests(requests: pl.DataFrame, trial_id: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("**Requests**")
        phase = _state.several("Phase", PHASES, "phase")
        failed = _state.flag("only failed", "failed")
        st.space("stretch")
        _frame.download(requests, f"requests-{trial_id}", parquet=True)
    rows = requests.filter(pl.col("phase").is_in(phase)) if phase else requests
    rows = rows.filter(pl.col("outcome") != "ok") if failed else rows
    _frame.table(_run_charts.table(rows), key="requests", select=False, height=260)


def _telemetry(trial_id: str) -> None:
    telemetry = _data.telemetry(trial_id)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("**Telemetry**")
        st.space("stretch")
        _frame.download(telemetry, f"telemetry-{trial_id}")
    metrics = _run_charts.metrics(telemetry)
    if not metrics:
        st.caption("Nothing was sampled during this run.")
        return
    columns = st.columns(min(3, len(metrics)))
    for i, metric in enumerate(metrics):
        with columns[i % len(columns)]:
            st.caption(_run_charts.name(metric))
            st.altair_chart(_run_charts.telemetry(telemetry.filter(pl.col("metric") == metric), metric))


def _engine(row: dict[str, Any], bundle: Bundle | str) -> None:
    st.markdown("**Engine**")
    if isinstance(bundle, str):
        st.warning(bundle)
        return
    run = bundle.measurement.run
    environment = "".join(f"{k}={shlex.quote(v)} " for k, v in run.environment.items())
    st.code(environment + shlex.join(run.argv), language="shell", wrap_lines=True)
    for note in run.notes:
        st.caption(note)
    lines = bundle.engine_log.splitlines()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"The last {min(LOG_LINES, len(lines))} of {len(lines)} lines of its log" if lines else
                   "No log was kept.")
        st.space("stretch")
        st.download_button("Log", bundle.engine_log, f"dyno-{row['trial_id']}.log", key="log", type="tertiary",
                           on_click="ignore")
        st.download_button("measurement.json", json.dumps(bundle.measurement.model_dump(mode="json"), indent=1),
                           f"dyno-{row['trial_id']}.json", key="json", type="tertiary", on_click="ignore")
    if lines:
        st.code("\n".join(lines[-LOG_LINES:]), language=None)
    st.caption(f"Everything of this run: `{bundle.path}`")
