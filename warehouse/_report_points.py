"""What reports say of measured points: rows of the view `measurements`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models import planner, slo
from models.errors import BundleError
from models.shown import LATENCIES, figure, within
from warehouse import _report_charts, bundles, reader
from warehouse._blocks import Block, Code, Table, Text, table

Row = dict[str, Any]
THROUGHPUT = "output_tokens_per_second"
_SHOWN = {"TTFT p50 ms": "ttft_from_schedule_ms_p50", "TTFT p95 ms": "ttft_from_schedule_ms_p95",
          "TPOT p50 ms": "tpot_ms_p50", "TPOT p95 ms": "tpot_ms_p95", "output tok/s": THROUGHPUT}
_AXES = {"concurrency": "requests at once", "request_rate": "requests a second asked for"}


def workload(home: Path, rows: Sequence[Row], bounds: tuple[slo.Limit, ...], answered: bool = True) -> list[Block]:
    """The cheapest within the limits, the curves and every point of one workload."""
    intervals = {row["trial_id"]: _intervals(home, row["trial_id"]) for row in rows}
    first = rows[0]
    about = (f"{figure(first['input_tokens_mean'] or first['input_tokens_planned_mean'])} tokens in, "
             f"{figure(first['output_tokens_mean'] or first['output_tokens_planned_mean'])} out (means). Intervals, in"
             " brackets and as vertical lines, are of 95 %; pale points cannot be trusted; a dashed grey line is the"
             " limit.")
    found: list[Block] = [Text(text=_sentence(rows, bounds), strong=True)] if answered else []
    return [*found, *_charts(rows, intervals, bounds), Text(text=about), _points(rows, intervals, bounds)]


def _intervals(home: Path, trial_id: str) -> dict[str, tuple[float | None, float | None]]:
    try:
        return bundles.read_measurement(home, trial_id).summary.intervals
    except BundleError:
        return {}


def _sentence(rows: Sequence[Row], bounds: tuple[slo.Limit, ...]) -> str:
    answer = planner.cheapest(rows, bounds)
    by_id = {row["trial_id"]: row for row in rows}
    if answer.best is None:
        near = by_id.get(answer.nearest or "")
        return (f"Nothing measured keeps the limits ({len(answer.left_out)} points left out)."
                + (f" Nearest: {near['setup']} at {near['load']} {answer.nearest_keeps}." if near else ""))
    best = by_id[answer.best]
    said = (f"{best['setup']} on {best['hardware']}: {figure(best[planner.COST])} USD per million output tokens at "
            f"{best['load']}, TTFT p95 {figure(best['ttft_from_schedule_ms_p95'])} ms, TPOT p95 "
            f"{figure(best['tpot_ms_p95'])} ms (trial {best['trial_id']}).")
    if answer.runner_up:
        other = by_id[answer.runner_up]
        said += f" Next: {other['setup']}, {figure(other[planner.COST])} USD (trial {other['trial_id']})."
    return f"{said} {answer.within_limits} points keep the limits, {len(answer.left_out)} do not."


def _charts(rows: Sequence[Row], intervals: dict[str, dict[str, tuple[float | None, float | None]]],
            bounds: tuple[slo.Limit, ...]) -> list[Block]:
    axis = max(_AXES, key=lambda name: sum(row[name] is not None for row in rows))
    limits = {f"{limit.judged}_{limit.statistic}": limit.at_most for limit in bounds}
    names = list(limits) or ["ttft_from_schedule_ms_p95"]
    points = [_point(row, axis, names, intervals[row["trial_id"]]) for row in rows
              if row[axis] is not None and row[THROUGHPUT] is not None]
    if not points:
        return []
    charts: list[Block] = [_report_charts.curves(points, axis, _AXES[axis], THROUGHPUT, "output tokens a second")]
    for name in names:
        kept = [p for p in points if p[name] is not None]
        if kept:
            charts.append(_report_charts.curves(kept, axis, _AXES[axis], name, _title(name), limits.get(name)))
    kept = [p for p in points if p[names[0]] is not None]
    if kept:
        charts.append(_report_charts.against(kept, axis, THROUGHPUT, "output tokens a second", names[0],
                                             _title(names[0]), limits.get(names[0])))
    return charts


def _point(row: Row, axis: str, names: Sequence[str],
           intervals: dict[str, tuple[float | None, float | None]]) -> dict[str, Any]:
    point = {"setup": row["setup"], "engine": row["variant"] or row["engine"], "quantization": row["quantization"],
             "slots": str(row["max_sequences"] or "default"), "trusted": not row["fatal"], axis: row[axis]}
    for name in (THROUGHPUT, *names):
        low, high = intervals.get(name, (None, None))
        point |= {name: row.get(name), f"{name}_low": low, f"{name}_high": high}
    return point


def _title(name: str) -> str:
    latency, _, statistic = name.rpartition("_")
    return f"{LATENCIES[latency]} {statistic}, ms"


def _points(rows: Sequence[Row], intervals: dict[str, dict[str, tuple[float | None, float | None]]],
            bounds: tuple[slo.Limit, ...]) -> Table:
    lines = []
    several = len({row["hardware"] for row in rows}) > 1
    for row in rows:
        own = intervals[row["trial_id"]]
        lines.append({"setup": row["setup"], "hardware": row["hardware"] if several else "", "load": row["load"],
                      **{title: within(row[name], *own.get(name, (None, None))) for title, name in _SHOWN.items()},
                      "USD per M out": figure(row[planner.COST]), "trust": row["trust"],
                      "misses": ", ".join(slo.misses(row, bounds)), "trial": row["trial_id"]})
    return table(lines, [i for i, row in enumerate(rows) if row["fatal"]])


def cost(rows: Sequence[Row]) -> list[Block]:
    """The prices that costs rest on, with source and date."""
    priced = {row["hardware"]: row for row in rows if row["price_usd_per_hour"] is not None}
    lines = [{"hardware": name, "USD an hour": figure(row["price_usd_per_hour"]), "tier": row["price_tier"] or "",
              "date": row["price_date"] or "", "source": row["price_source"] or ""} for name, row in priced.items()]
    free = sorted({row["hardware"] for row in rows} - set(priced))
    found: list[Block] = [table(lines)] if lines else []
    if free:
        found.append(Text(text=f"No price is known of {', '.join(free)}."))
    if len(rows) == 1 and lines:
        row = rows[0]
        found.append(Text(text=f"{figure(row[planner.COST])} USD per million output tokens, "
                          f"{figure(row['usd_per_million_total_tokens'])} per million of input and output together, "
                          f"{figure(row['usd_per_qps_hour'])} an hour for one request a second. Each charges the whole "
                          "machine: they do not add up."))
    return found


def quality(home: Path, rows: Sequence[Row]) -> list[Block]:
    """How far quantisation moved the setups, where that was asked."""
    asked = reader.query(home, "from quality where list_contains(?, setup_id) order by kl_nats",
                         [[row["setup_id"] for row in rows]]).to_dicts()
    if not asked:
        return [Text(text="Not measured: `dyno quality` does.")]
    lines = [{"setup": row["setup"], "KL divergence, nats": within(row["kl_nats"], row["kl_nats_low"],
                                                                   row["kl_nats_high"]),
              "same likeliest token": within(row["top1_agreement"], row["top1_agreement_low"],
                                             row["top1_agreement_high"]),
              "positions": figure(row["positions"]), "compared with": row["reference"],
              "": "random weights: quality is not real" if row["synthetic"] else ""} for row in asked]
    return [table(lines)]


def commands(home: Path, rows: Sequence[Row]) -> list[Block]:
    """The exact command of each setup, and how to have it again."""
    first = {row["setup_id"]: row for row in rows}
    found: list[Block] = []
    for row in first.values():
        try:
            run = bundles.read_measurement(home, row["trial_id"]).run
        except BundleError as error:
            found.append(Text(text=f"{row['setup']}: {error}"))
            continue
        words = [*(f"{name}={shlex.quote(value)}" for name, value in run.environment.items()), shlex.join(run.argv)]
        version = f"{row['setup']} · {run.engine} {run.engine_version} · deploy: dyno deploy {row['trial_id']}"
        found.append(Code(text=" ".join(words) if run.argv else "served by others", folded=version))
    return found


def verdicts(home: Path, rows: Sequence[Row]) -> list[Block]:
    """Everything that speaks against a point."""
    said = reader.query(home, "select v.*, m.setup, m.load from verdicts v join measurements m using (trial_id) where "
                        "list_contains(?, trial_id) and severity <> 'note' order by severity, v.name, trial_id",
                        [[row["trial_id"] for row in rows]]).to_dicts()
    if not said:
        return [Text(text="Nothing speaks against any point.")]
    return [table([{"verdict": f"{v['severity']}: {v['name'].replace('_', ' ')}", "setup": v["setup"],
                    "load": v["load"], "detail": v["detail"], "trial": v["trial_id"]} for v in said])]
