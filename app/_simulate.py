"""What a simulation says, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from app._render import Row, emit, number

_ROWS = (("TTFT p50 ms", "ttft_ms_p50"), ("TTFT p95 ms", "ttft_ms_p95"), ("TTFT p99 ms", "ttft_ms_p99"),
         ("TPOT p50 ms", "tpot_ms_p50"), ("TPOT p95 ms", "tpot_ms_p95"), ("E2E p50 ms", "e2e_ms_p50"),
         ("E2E p95 ms", "e2e_ms_p95"), ("queued p95 ms", "queued_ms_p95"),
         ("output tok/s", "output_tokens_per_second"), ("requests/s", "requests_per_second"))
_SPREAD = 6
"""Rows of the course of the day that are shown."""


def show(said: Mapping[str, Any]) -> None:
    """Prints the metrics, with what was measured beside where there is a point; the state over time; where it all
    comes from."""
    metrics, beside = said["metrics"], {row["metric"]: row for row in said["measured"]}
    rows = [{"metric": name, "simulated": metrics.get(key), "measured": beside.get(key, {}).get("measured"),
             "error": beside.get(key, {}).get("error")} for name, key in _ROWS]
    columns = [("", lambda r: str(r["metric"])), ("simulated", lambda r: number(r["simulated"]))]
    if beside:
        columns += [("measured", lambda r: number(r["measured"])), ("error", _percent)]
    emit(rows, columns, as_json=False)
    click.echo(_fullness(metrics, said["scheduling"]))
    if len(said["timeline"]) >= _SPREAD:
        step = (len(said["timeline"]) - 1) / (_SPREAD - 1)
        emit([said["timeline"][round(i * step)] for i in range(_SPREAD)],
             (("at", _clock), ("busy", lambda r: number(r["busy"])), ("waiting", lambda r: number(r["waiting"])),
              ("KV tokens", lambda r: number(r["kv_tokens"]))), as_json=False)
    for note in said["notes"]:
        click.echo(f"note: {note}")
    click.echo(_source(said))


def _percent(row: Row) -> str:
    return "—" if row["error"] is None else f"{100 * row['error']:+.1f}%"


def _clock(row: Row) -> str:
    hours, minutes = divmod(int(row["at_s"] // 60), 60)
    return f"{hours:02d}:{minutes:02d}:{int(row['at_s'] % 60):02d}"


def _fullness(metrics: Mapping[str, float], how: Mapping[str, Any]) -> str:
    """One sentence: slots, queue, KV cache."""
    of = f" of {how['slots']}" if how["slots"] else ""
    text = (f"{number(metrics['busy_mean'])}{of} slots busy on average, {number(metrics['waiting_mean'])} requests"
            " waiting")
    if "full_share" in metrics:
        text += f"; full {100 * metrics['full_share']:.3g}% of the time"
    text += f"; KV cache {number(int(metrics['kv_tokens_peak']))} tokens at the peak"
    if "kv_pressure_peak" in metrics:
        text += f", {100 * metrics['kv_pressure_peak']:.3g}% of it"
    return text + (f", {number(int(metrics['preemptions']))} preemptions." if metrics["preemptions"] else ".")


def _source(said: Mapping[str, Any]) -> str:
    fit = said["fit"]
    if fit is None:
        return f"Simulated ({number(int(said['metrics']['requests']))} requests) from the step times given."
    trials = ", ".join(trial[:8] for trial in said["trial_ids"])
    return (f"Simulated ({number(int(said['metrics']['requests']))} requests); step times fitted on"
            f" {len(fit['loads'])} measured points, {100 * fit['error_left_out']:.1f}% off on requests left out: trials"
            f" {trials}.")
