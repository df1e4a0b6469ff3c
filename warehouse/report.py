"""Reports: a run, an evaluation or an answer as one document, to be written as HTML (one file, works offline) or
Markdown."""

from __future__ import annotations

import datetime as dt
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models import slo
from models.choosing.answer import Answer
from models.energy import ENERGY
from models.records import Measurement
from models.shown import LATENCIES, figure, within
from models.summary import RATES, STATISTICS
from warehouse import _report_answer, _report_charts, _report_points, reader
from warehouse._blocks import Block, Chart, Code, Document, Facts, Heading, Text, table
from warehouse._report_html import html as html
from warehouse._report_markdown import markdown as markdown

_LOG_LINES = 40
_MIB = 2.0**20
_FIGURES = {"requests_per_second": "requests a second", "output_tokens_per_second": "output tokens a second",
            "input_tokens_per_second": "input tokens a second", "joules_per_output_token": "joules an output token",
            "joules_per_request": "joules a request", "power_watts_mean": "power, mean W",
            "output_valid_share": "answers that obey their schema, share"}


def of_trial(home: Path, trial: str) -> Document:
    """One run, given by its trial's id or the start of it. Raises UserError and BundleError."""
    bundle = reader.bundle_of(home, trial)
    m = bundle.measurement
    found = reader.query(home, "from measurements where trial_id = ?", [m.trial_id]).to_dicts()
    row = found[0] if found else {}
    lines = bundle.engine_log.splitlines()[-_LOG_LINES:]
    charts = [_report_charts.timeline(bundle.requests),
              *(_report_charts.distribution(bundle.requests, name) for name in ("ttft_from_schedule_ms", "tpot_ms")),
              _report_charts.telemetry(bundle.telemetry, "cpu_percent", "CPU, % of one core"),
              _report_charts.telemetry(bundle.telemetry, "rss_bytes", "resident memory, MiB", _MIB),
              _report_charts.telemetry(bundle.telemetry, "gpu_percent", "GPU busy, %"),
              _report_charts.telemetry(bundle.telemetry, "power_watts", "power, W")]
    blocks: list[Block] = [
        Text(text=_headline(m, row), strong=True), Heading(text="Asked"), _asked(m), Heading(text="Ran"), *_ran(m),
        Heading(text="Can it be trusted?"), *_verdicts(m), Heading(text="Latencies"), _percentiles(m),
        *(c for c in charts[:3] if c is not None), Heading(text="Rates, energy"), _figures(m),
        *(c for c in charts[3:] if c is not None), Heading(text="Cost"), *_report_points.cost([row] if row else []),
        Heading(text="Quality"), *_report_points.quality(home, [row] if row else []),
        Heading(text="What this rests on"), _basis(m, bundle.path)]
    blocks += [Code(text="\n".join(lines), folded=f"The last {len(lines)} lines of the engine's log")] if lines else []
    return Document(title=m.trial.label, subtitle=f"{m.trial.setup.model.name} on {m.trial.setup.hardware.name} · "
                    f"measured {m.started_at[:16].replace('T', ' ')} UTC", blocks=tuple(blocks))


def of_points(home: Path, name: str, trial_ids: Sequence[str], limits: str, asked: str = "",
              skipped: Sequence[tuple[str, str]] = ()) -> Document:
    """An evaluation: the points of these trials that were measured. `asked` is the experiment as it was written,
    `skipped` names what could not be measured, and why. Raises UserError when nothing is published."""
    rows = reader.query(home, "from measurements where list_contains(?, trial_id) order by setup, concurrency, "
                        "request_rate, started_at", [list(trial_ids)]).to_dicts()
    bounds = slo.parse(limits)
    dates = sorted({str(row["started_at"])[:10] for row in rows})
    when = f"measured {dates[0]}" + (f" to {dates[-1]}" if len(dates) > 1 else "") if dates else "nothing measured yet"
    blocks: list[Block] = []
    for workload in dict.fromkeys(row["workload"] for row in rows):
        points = [row for row in rows if row["workload"] == workload]
        blocks += [Heading(text=str(workload)), *_report_points.workload(home, points, bounds)]
    blocks += [Heading(text="Cost"), *_report_points.cost(rows), Heading(text="Quality"),
               *_report_points.quality(home, rows), Heading(text="Commands"), *_report_points.commands(home, rows),
               Heading(text="Verdicts"), *_report_points.verdicts(home, rows)]
    if skipped or len(rows) < len(trial_ids):
        blocks += [Heading(text="Not measured"), *_missing(len(trial_ids) - len(rows), skipped)]
    blocks += [Heading(text="What was asked"), Code(text=asked, folded="The experiment")] if asked else []
    return Document(title=name, subtitle=f"{len(rows)} points of {len(trial_ids)} · {when} · limits "
                    + ", ".join(map(str, bounds)) + f" · written {_now()}", blocks=tuple(blocks))


def of_answer(home: Path, answer: Answer) -> Document:
    """An answer of `dyno choose`, with the measured points that it rests on."""
    ids = list(dict.fromkeys(t for choice in answer.ranked for t in choice.trial_ids))
    rows = reader.query(home, "from measurements where list_contains(?, trial_id) order by setup, concurrency, "
                        "request_rate", [ids]).to_dicts()
    blocks = [*_report_answer.blocks(answer)]
    if rows:
        blocks += [Heading(text="The measurements behind it")]
        for workload in dict.fromkeys(row["workload"] for row in rows):
            points = [row for row in rows if row["workload"] == workload]
            blocks += [Text(text=str(workload)), *_report_points.workload(home, points, answer.question.bounds, False)]
        blocks += [Heading(text="Cost"), *_report_points.cost(rows), Heading(text="Quality"),
                   *_report_points.quality(home, rows), Heading(text="Commands"), *_report_points.commands(home, rows),
                   Heading(text="Verdicts"), *_report_points.verdicts(home, rows)]
    return Document(title=f"Which stack for {answer.question.model}?", subtitle=f"answered {_now()} from "
                    f"{len(rows)} measured points", blocks=tuple(blocks))


def _now() -> str:
    return f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC"


def _headline(m: Measurement, row: dict[str, Any]) -> str:
    metrics, cost = m.summary.metrics, row.get("usd_per_million_output_tokens")
    said = [f"{figure(metrics.get('output_tokens_per_second'))} output tokens a second",
            f"TTFT p95 {figure(metrics.get('ttft_from_schedule_ms_p95'))} ms",
            f"TPOT p95 {figure(metrics.get('tpot_ms_p95'))} ms"]
    said += [f"{figure(cost)} USD per million output tokens"] if cost is not None else []
    return f"{', '.join(said)}; trust: {m.trust}."


def _asked(m: Measurement) -> Facts:
    setup, work = m.trial.setup, m.trial.workload
    batching = ", ".join(f"{name} {value}" for name, value in setup.engine.batching if value not in (None, False))
    rows = (("model", setup.model.name + (" (random weights)" if setup.model.source == "synthetic" else "")),
            ("engine", f"{setup.engine.label}, {setup.engine.quantization}, KV cache {setup.engine.kv_type}"),
            ("batching", batching), ("hardware", setup.hardware.name),
            ("workload", f"{work.label}: {work.description}" if work.description else work.label),
            ("load", f"{m.trial.load.label}, {m.trial.load.requests} requests"),
            ("seed, repeat", f"{m.trial.seed}, {m.trial.repeat}"))
    return Facts(rows=rows)


def _ran(m: Measurement) -> list[Block]:
    run = m.run
    words = [*(f"{name}={shlex.quote(value)}" for name, value in run.environment.items()), shlex.join(run.argv)]
    rows = [("version", f"{run.engine} {run.engine_version}"), ("image", run.image or ""),
            ("ready after", f"{figure(run.ready_s)} s"),
            ("weights", f"{figure((run.model_bytes or 0) / _MIB)} MiB, {figure(run.bits_per_weight)} bits a weight"),
            ("threads", figure(run.threads)), ("context", f"{figure(run.context_tokens)} tokens"),
            *(("note", note) for note in run.notes)]
    return [Facts(rows=tuple(r for r in rows if r[1])), Code(text=" ".join(words) if run.argv else "served by others")]


def _verdicts(m: Measurement) -> list[Block]:
    said = [(f"{v.severity}: {v.name.replace('_', ' ')}", v.detail) for v in m.verdicts]
    found: list[Block] = [Facts(rows=tuple(said))] if said else [Text(text="Nothing speaks against it.")]
    return [*found, Text(text=m.warmup.text)] if m.warmup else found


def _percentiles(m: Measurement) -> Block:
    """With 95 % intervals where the requests are enough for one."""
    def shown(name: str) -> str:
        low, high = m.summary.intervals.get(name, (None, None))
        return within(m.summary.metrics.get(name), low, high)
    names = [n for n in LATENCIES if f"{n}_mean" in m.summary.metrics]
    return table([{"ms (95 % interval)": LATENCIES[n], **{s: shown(f"{n}_{s}") for s in STATISTICS}} for n in names])


def _figures(m: Measurement) -> Facts:
    metrics, intervals = m.summary.metrics, m.summary.intervals
    rows = [(_FIGURES[n], within(metrics[n], *intervals.get(n, (None, None)))) for n in (*RATES, *ENERGY,
            "output_valid_share") if n in metrics]
    rows += [("requests answered", f"{m.summary.requests_ok} of {m.summary.requests_ok + m.summary.requests_failed}"),
             ("window", f"{figure(m.summary.window_s)} s")]
    rows += [("energy read from", m.summary.energy_source)] if m.summary.energy_source else []
    return Facts(rows=tuple(rows))


def _basis(m: Measurement, path: Path) -> Facts:
    host = m.host
    return Facts(rows=(("trial", m.trial_id), ("setup", m.setup_id), ("bundle", str(path)),
                       ("machine", f"{host.hostname}, {host.os}, {host.kernel}"
                        + (f", reads {figure(host.memory_bandwidth_gb_s)} GB/s" if host.memory_bandwidth_gb_s else "")),
                       ("measured by", f"dyno {m.dyno_version}, {m.source}"), ("report written", _now())))


def _missing(count: int, skipped: Sequence[tuple[str, str]]) -> list[Block]:
    found: list[Block] = [Text(text=f"{count} points have no measurement yet.")] if count > 0 else []
    return [*found, table([{"what": what, "why": why} for what, why in skipped])] if skipped else found


__all__ = ("Chart", "Document", "html", "markdown", "of_answer", "of_points", "of_trial")
