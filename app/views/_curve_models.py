"""What models add to measured curves: the calibrated 90 % band, the Pareto front, the cache by a request's length."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
import polars as pl

from app.views import _style
from models.memory import rough_kv_bytes
from models.planning.curves import Fit
from models.planning.kv import sequence_bytes
from models.specs import Architecture
from warehouse.launches import Launch

STEPS = 40
QUANTITIES = {"output_tokens_per_second": "throughput", "ttft_ms_mean": "ttft", "ttft_from_schedule_ms_mean": "ttft",
              "tpot_ms_mean": "tpot"}
"""Columns that a calibrated curve is of; in a closed loop a request is sent when it is meant to be."""
BAND = {"setup": pl.String, "engine": pl.String, "load": pl.Float64, "value": pl.Float64, "low": pl.Float64,
        "high": pl.Float64}
MIB = 2.0**20


def bands(calibrations: pl.DataFrame, rows: pl.DataFrame, metric: str) -> pl.DataFrame:
    """Value and 90 % interval of each setup's newest fit of a metric, over the concurrencies that it was fitted on."""
    quantity = QUANTITIES.get(metric)
    known = {s: (shown, engine) for s, shown, engine in rows.select("setup_id", "setup_shown", "engine_shown")
             .unique().iter_rows()}
    found = []
    for row in calibrations.filter(pl.col("quantity") == quantity).to_dicts() if quantity else []:
        if row["setup_id"] not in known:
            continue
        fit = Fit.model_validate_json(row["fit"])
        at = np.geomspace(fit.points[0].concurrency, fit.points[-1].concurrency, STEPS).tolist()
        setup, engine = known[row["setup_id"]]
        found += [{"setup": setup, "engine": engine, "load": c, "value": p.value, "low": p.low, "high": p.high}
                  for c, p in zip(at, fit.predict_many(at), strict=True)]
    return pl.DataFrame(found, schema=BAND)


def area(band: pl.DataFrame, points: pl.DataFrame, hover: alt.Parameter, scale: alt.Scale) -> alt.Chart:
    """The band of each setup, faint; that of the setup under the pointer, strong."""
    chart: alt.Chart = alt.Chart(band).mark_area().encode(
        x="load:Q", y=alt.Y("low:Q", scale=scale), y2="high:Q", detail="setup:N",
        color=alt.Color("engine:N", scale=_style.colours(points["engine"]), legend=None),
        opacity=alt.condition(hover, alt.value(0.3), alt.value(0.07), empty=False))
    return chart


def front(points: pl.DataFrame) -> pl.DataFrame:
    """The trusted points that no other beats in both throughput and latency, by throughput."""
    best, kept = float("inf"), []
    for row in points.filter("trusted").sort("throughput", "latency", descending=[True, False]).to_dicts():
        if row["latency"] < best:
            best = row["latency"]
            kept.append(row)
    return pl.DataFrame(kept, schema=points.schema).sort("throughput")


def front_line(points: pl.DataFrame, scale: alt.Scale) -> alt.Chart:
    """The front as a broad line under the curves."""
    line: alt.Chart = alt.Chart(front(points)).mark_line(strokeWidth=9, opacity=0.3, color=_style.MUTED).encode(
        x="throughput:Q", y=alt.Y("latency:Q", scale=scale), order="throughput:Q")
    return line


def of_cache(shape: Architecture, launches: Sequence[Launch]) -> pl.DataFrame:
    """MiB of one request's KV cache over its tokens, by level; measured: what an engine set aside for a sequence."""
    top = max([shape.context_tokens, *(one.context_tokens for one in launches)])
    tokens = np.unique(np.geomspace(64, max(128, top), STEPS).astype(int)).tolist()
    rows = [{"tokens": n, "mib": rough_kv_bytes(1, n, shape.hidden_size) / MIB, "level": "rough", "of": "the survey's "
             "formula", "engine": ""} for n in tokens]
    for kv_type in sorted({one.kv_type for one in launches} or {"f16"}):
        rows += [{"tokens": n, "mib": sequence_bytes(shape, n, kv_type) / MIB, "level": "architecture",
                  "of": f"{kv_type} cache", "engine": ""} for n in tokens]
    for one in launches:
        if one.kv_bytes:
            rows.append({"tokens": one.context_tokens, "mib": one.kv_bytes / one.kv_tokens * one.context_tokens / MIB,
                         "level": "measured", "engine": one.engine, "of": f"{one.engine} {one.version}, {one.kv_type} "
                         f"cache, {one.sequences} sequences"})
    return pl.DataFrame(rows).with_columns(shown=pl.Series([_style.shown(r["mib"]) for r in rows])).unique(
        maintain_order=True)


def cache(found: pl.DataFrame) -> alt.LayerChart:
    """Lines by level, engines' own figures as points."""
    x = alt.X("tokens:Q", title="Tokens of the request", scale=alt.Scale(type="log", base=2, nice=False),
              axis=alt.Axis(values=[2**i for i in range(6, 21)], format="d"))
    y = alt.Y("mib:Q", title="KV cache of one request, MiB", scale=alt.Scale(type="log"), axis=_style.axis(5))
    tips = [alt.Tooltip("level"), alt.Tooltip("of", title="Of"), alt.Tooltip("tokens", title="Tokens"),
            alt.Tooltip("shown", title="MiB")]
    levels = alt.Scale(domain=["rough", "architecture"], range=["#E69F00", "#56B4E9"])
    lines = alt.Chart(found.filter(pl.col("level") != "measured")).mark_line(strokeWidth=2).encode(
        x=x, y=y, detail="of:N", tooltip=tips,
        color=alt.Color("level:N", title=None, scale=levels, legend=alt.Legend(orient="top")))
    told = found.filter(pl.col("level") == "measured")
    dots = alt.Chart(told).mark_point(filled=True, size=80, opacity=1).encode(x=x, y=y, tooltip=tips, fill=alt.Fill(
        "engine:N", title=None, scale=_style.colours(told["engine"]), legend=alt.Legend(orient="top")))
    layers: alt.LayerChart = (lines + dots).resolve_scale(color="independent", fill="independent")
    return layers
