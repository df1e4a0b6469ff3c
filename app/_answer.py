"""What was measured, said so that a person can act on it: tables, findings, the answer and where to go next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from app._render import MEASUREMENT, RUN, SPARE, Row, dump, emit, field, number
from models import physics, planner, slo
from models.planner import Answer
from warehouse import reader

_OBEYS = {"obeys": "yes", "explained": "but", "contradicts": "NO "}


def show(home: Path, trial_ids: Sequence[str], limits: str, as_json: bool) -> None:
    """Prints the points of an experiment by workload, what physics says of them, and the cheapest within limits."""
    rows = _points(home, trial_ids)
    bandwidth = max((r["memory_bandwidth_gb_s"] or 0.0 for r in rows), default=0.0) or None
    found = physics.findings(rows, bandwidth)
    bounds = slo.parse(limits)
    by_workload = {w: [r for r in rows if r["workload"] == w] for w in dict.fromkeys(r["workload"] for r in rows)}
    answers = {w: planner.cheapest(points, bounds) for w, points in by_workload.items()}
    if as_json:
        dump({"points": rows, "findings": [f.model_dump() for f in found],
              "answers": {str(w): a.model_dump() for w, a in answers.items()}})
        return
    for workload, points in by_workload.items():
        _table(str(workload), points, bounds, answers[workload])
    _findings(found)
    if any("synthetic" in str(r["model"]) for r in rows):
        click.echo("Random weights: speed and memory are real, quality is not.")
    if rows:
        click.echo("Explore it: make explore      Ask in SQL: dyno sql \"from measurements\"      "
                   "Your own model: dyno evaluate --help")


def _points(home: Path, trial_ids: Sequence[str]) -> list[dict[str, Any]]:
    order = {t: i for i, t in enumerate(trial_ids)}
    rows = reader.query(home, "from measurements where list_contains(?, trial_id)", [list(trial_ids)]).to_dicts()
    return sorted(rows, key=lambda r: order[r["trial_id"]])


def _table(workload: str, rows: list[dict[str, Any]], limits: tuple[slo.Limit, ...], answer: Answer) -> None:
    first = rows[0]
    inputs, outputs = (number(first[f"{side}_tokens_mean"] or first[f"{side}_tokens_planned_mean"], 2)
                       for side in ("input", "output"))
    click.echo(f"\n{workload} · {inputs} tokens in, {outputs} out (means) · limits "
               + ", ".join(str(limit) for limit in limits))
    trust = ("trust", lambda r: str(r["trust"]) + _missed(r, limits))
    options = (("options", _options),) if any(map(_options, rows)) else ()
    emit(rows, (*MEASUREMENT[:3], *options, *MEASUREMENT[3:-1], trust), as_json=False, spare=SPARE[2:])
    click.echo(_sentence(rows, answer))


def _missed(row: Row, limits: tuple[slo.Limit, ...]) -> str:
    missed = slo.misses(row, limits)
    return " · misses " + ", ".join(m.split("_")[0].upper() for m in missed) if missed else ""


def _sentence(rows: list[dict[str, Any]], answer: Answer) -> str:
    """`Answer: llama-server, Q4_K_M, 4 slots. …`"""
    by_id = {r["trial_id"]: r for r in rows}
    if answer.best is None:
        near = by_id.get(answer.nearest or "")
        return (f"Answer: nothing measured keeps the limits ({len(answer.left_out)} points left out)."
                + (f" Nearest: {_setup(near)} at {_load(near)} {answer.nearest_keeps}." if near else ""))
    best = by_id[answer.best]
    text = (f"Answer: {_setup(best)}. {number(best['usd_per_million_output_tokens'])} USD per million output tokens at"
            f" {_load(best)}; TTFT p95 {number(best['ttft_from_schedule_ms_p95'])} ms, TPOT p95"
            f" {number(best['tpot_ms_p95'])} ms. From trial {best['trial_id']}")
    if answer.runner_up:
        other = by_id[answer.runner_up]
        text += (f"; next: {_setup(other)}, {number(other['usd_per_million_output_tokens'])} USD at {_load(other)}"
                 f" (trial {other['trial_id']})")
    priced = (f" At {number(best['price_usd_per_hour'])} USD an hour ({best['price_tier']}, {best['price_date']}:"
              f" {best['price_source']}).")
    return f"{text}. {answer.within_limits} points keep the limits, {len(answer.left_out)} do not.{priced}"


def _setup(row: Row) -> str:
    slots = row["max_sequences"]
    tail = f", {slots} slot{'s' if slots != 1 else ''}" if slots else ""
    options = _options(row)
    return f"{row['variant'] or row['engine']}, {row['quantization']}{tail}{', ' if options else ''}{options}"


def _options(row: Row) -> str:
    """What was asked for beside dyno's own."""
    return " ".join(row["extra_args"] or ())


def _load(row: Row) -> str:
    return f"{row['concurrency']} at once" if row["concurrency"] else f"{number(row['request_rate'])} requests a second"


def _findings(found: Sequence[physics.Finding]) -> None:
    if found:
        click.echo("\nDoes it obey physics?")
    for finding in found:
        click.echo(f"  {_OBEYS[finding.verdict]}  {finding.text}")
    if any(f.verdict == "contradicts" for f in found):
        click.echo("  NO: the figures above are not to be trusted until somebody knows why.")


def dry_run(expansion: Any, home: Path, as_json: bool) -> None:
    """Prints what would be measured, what has a result, and what cannot be measured and why."""
    from warehouse import bundles

    done = bundles.present(home)
    rows = [{"trial_id": t.trial_id, "setup": t.setup.label, "workload": t.workload.label, "load": t.load.label,
             "model": t.setup.model.name, "state": "measured" if t.trial_id in done else "to measure", "reason": None}
            for t in expansion.trials]
    rows += [{"trial_id": None, "setup": s.label, "workload": None, "load": None, "model": None,
              "state": "cannot be measured", "reason": f"{s.field}: {s.reason}"} for s in expansion.skipped]
    columns = tuple(map(field, ("setup", "workload", "load", "state", "reason")))
    emit(rows, columns, as_json)
    if not as_json:
        states = [r["state"] for r in rows]
        click.echo("\n" + ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states)))


def latencies(row: Row) -> None:
    from models.summary import LATENCIES, STATISTICS

    rows = [{"metric": m, **{s: row.get(f"{m}_{s}") for s in STATISTICS}} for m in LATENCIES]
    rows = [r for r in rows if r["mean"] is not None]
    emit(rows, (("ms", lambda r: str(r["metric"]).removesuffix("_ms")),
                *((s, lambda r, s=s: number(r[s])) for s in STATISTICS)), as_json=False)


def runs(home: Path, limit: int, as_json: bool) -> None:
    """Prints what was measured, newest first, then launches that failed."""
    rows = reader.newest(home, limit).to_dicts()
    failed = reader.query(home, "from failures order by failed_at desc limit ?", [limit]).to_dicts()
    if as_json:
        dump([*({"kind": "measurement", **r} for r in rows), *({"kind": "failure", **r} for r in failed)])
        return
    emit(rows, RUN, as_json=False, spare=SPARE)
    for row in failed:
        click.echo(f"failed {str(row['failed_at'])[:16]}: {row['setup_label']}: {row['error']}")


def show_trial(home: Path, prefix: str, as_json: bool) -> None:
    """Prints one measurement whole."""
    bundle = reader.bundle_of(home, prefix)
    m = bundle.measurement
    log = (bundle.path / "engine.log").read_text(errors="replace") if (bundle.path / "engine.log").exists() else ""
    if as_json:
        dump(m.model_dump(mode="json") | {"bundle": str(bundle.path), "engine_log_tail": log.splitlines()[-20:]})
        return
    click.echo(f"{m.trial_id} · {m.trial.label}")
    click.echo(f"{m.trial.setup.model.name} on {m.trial.setup.hardware.name} · {m.run.engine} {m.run.engine_version} · "
               f"measured {m.started_at[:19]} in {number(m.duration_s)} s · ready after {number(m.run.ready_s)} s")
    click.echo(f"command: {' '.join(m.run.argv)}")
    if m.run.environment:
        click.echo("environment: " + " ".join(f"{k}={v}" for k, v in m.run.environment.items()))
    click.echo(f"{m.summary.requests_ok} requests ok, {m.summary.requests_failed} failed · "
               f"{number(m.summary.metrics.get('output_tokens_per_second'))} output tok/s")
    latencies(m.summary.metrics)
    if m.warmup:
        click.echo(m.warmup.text)
    for verdict in m.verdicts:
        click.echo(f"{verdict.severity}: {verdict.name}: {verdict.detail}")
    click.echo(f"bundle: {bundle.path}")
    for line in log.splitlines()[-10:]:
        click.echo(f"  {line}")


def doctor(checks: Sequence[Any], as_json: bool) -> None:
    """Prints the checks; a failed one says what to do."""
    rows = [{"name": c.name, "ok": c.ok, "detail": c.detail} for c in checks]
    emit(rows, (("check", lambda r: str(r["name"])), ("", lambda r: "ok" if r["ok"] else "NO"),
                ("detail", lambda r: str(r["detail"]))), as_json)
