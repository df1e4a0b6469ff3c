"""The charts of reports, as Vega-Lite specifications (plain data)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from models.latencies import latencies
from models.shown import LATENCIES, PHASES, colour
from warehouse._blocks import Chart

_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
_INK = "currentColor"
_REQUESTS_MAX = 150
_SOURCES = {"engine": "#0072B2", "host": "#8c8c8c", "client": "#E69F00", "gauges": "#009E73"}
_CONFIG = {
    "font": "system-ui, sans-serif",
    "axis": {"labelColor": _INK, "titleColor": _INK, "gridColor": _INK, "gridOpacity": 0.12, "domainColor": _INK,
             "tickColor": _INK, "titleFontWeight": "normal", "labelFontSize": 11, "titleFontSize": 11},
    "legend": {"labelColor": _INK, "titleColor": _INK, "labelFontSize": 11, "titleFontSize": 11, "orient": "bottom",
               "columns": 2, "columnPadding": 28, "symbolStrokeColor": _INK, "symbolOpacity": 1,
               "labelLimit": 220},
    "view": {"stroke": None}, "text": {"fill": _INK}}
_AXIS = {"labelExpr": "replace(datum.label, /,/g, '\u202f')", "tickCount": 6}
_WIDE = 30


def _spec(layers: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]], height: int = 260) -> dict[str, Any]:
    return {"$schema": _SCHEMA, "width": 430, "height": height, "background": "transparent", "config": _CONFIG,
            "data": {"values": list(rows)}, "layer": list(layers)}


def _scale(rows: Sequence[dict[str, Any]], y: str) -> dict[str, Any]:
    """Logarithmic where values differ by more than an axis from 0 could show."""
    values = [row[y] for row in rows]
    wide = min(values) > 0 and max(values) > _WIDE * min(values)
    return {"type": "log", "nice": True} if wide else {"zero": True}


def curves(rows: Sequence[dict[str, Any]], axis: str, title: str, y: str, y_title: str,
           limit: float | None = None) -> Chart:
    """A line a setup over load, with the 95 % interval of each point. Rows have setup, engine, quantization, slots,
    trusted, the axis, and the metric with `_low` and `_high`."""
    engines = sorted({row["engine"] for row in rows})
    loads = sorted({row[axis] for row in rows})
    across = {"field": axis, "type": "quantitative", "title": title, "scale": {"type": "log", "base": 2, "nice": False,
              "padding": 10}, "axis": {"values": loads, "format": "~g"}}
    up = {"field": y, "type": "quantitative", "title": y_title, "scale": _scale(rows, y), "axis": _AXIS}
    shade = {"field": "engine", "type": "nominal", "title": "engine", "scale": {
        "domain": engines, "range": [colour(e) for e in engines]}}
    mark = {"field": "quantization", "type": "nominal", "title": "quantisation"}
    slots = {"field": "slots", "type": "nominal", "title": "slots", "legend": {"symbolFillColor": _INK}}
    layers: list[dict[str, Any]] = [
        {"mark": {"type": "line", "strokeWidth": 1.8}, "encoding": {
            "x": across, "y": up, "color": shade, "detail": {"field": "setup"}, "strokeDash": mark}},
        {"mark": {"type": "rule", "strokeWidth": 1, "opacity": 0.5}, "encoding": {
            "x": across, "y": {"field": f"{y}_low", "type": "quantitative"}, "y2": {"field": f"{y}_high"},
            "color": shade}},
        {"mark": {"type": "point", "filled": True, "size": 45}, "encoding": {
            "x": across, "y": up, "color": shade, "shape": slots,
            "opacity": {"condition": {"test": "datum.trusted", "value": 1}, "value": 0.3}}}]
    layers += _limit(limit)
    return Chart(title=f"{y_title} against load", spec=_spec(layers, rows))


def against(rows: Sequence[dict[str, Any]], axis: str, x: str, x_title: str, y: str, y_title: str,
            limit: float | None = None) -> Chart:
    """Latency against throughput: down and to the right is better; the load stands at each point."""
    engines = sorted({row["engine"] for row in rows})
    across = {"field": x, "type": "quantitative", "title": x_title, "axis": _AXIS}
    up = {"field": y, "type": "quantitative", "title": y_title, "scale": _scale(rows, y), "axis": _AXIS}
    shade = {"field": "engine", "type": "nominal", "title": "engine", "scale": {
        "domain": engines, "range": [colour(e) for e in engines]}}
    mark = {"field": "quantization", "type": "nominal", "title": "quantisation"}
    layers: list[dict[str, Any]] = [
        {"mark": {"type": "line", "strokeWidth": 1.8}, "encoding": {
            "x": across, "y": up, "color": shade, "detail": {"field": "setup"}, "order": {"field": axis},
            "strokeDash": mark}},
        {"mark": {"type": "point", "filled": True, "size": 45}, "encoding": {"x": across, "y": up, "color": shade}},
        {"mark": {"type": "text", "dx": 8, "dy": -7, "fontSize": 10, "color": _INK}, "encoding": {
            "x": across, "y": up, "text": {"field": axis, "type": "quantitative", "format": "~g"}}}]
    return Chart(title=f"{y_title} against {x_title}: down and to the right is better",
                 spec=_spec([*layers, *_limit(limit)], rows))


def _limit(limit: float | None) -> list[dict[str, Any]]:
    if limit is None:
        return []
    return [{"data": {"values": [{"limit": limit}]}, "mark": {"type": "rule", "strokeDash": [4, 3], "color": _INK},
             "encoding": {"y": {"field": "limit", "type": "quantitative"}}}]


def distribution(requests: pl.DataFrame, metric: str) -> Chart | None:
    """How many requests were answered within a time; None where nothing was."""
    ok = requests.filter((pl.col("phase") == "measured") & (pl.col("outcome") == "ok"))
    values = latencies(ok)[metric].drop_nulls().sort()
    if values.is_empty():
        return None
    step = max(1, values.len() // 400)
    rows = [{"ms": float(v), "share": (i + 1) / values.len()} for i, v in enumerate(values) if i % step == 0
            or i == values.len() - 1]
    name = LATENCIES[metric]
    layer = {"mark": {"type": "line", "interpolate": "step-after", "color": "#0072B2"}, "encoding": {
        "x": {"field": "ms", "type": "quantitative", "title": f"{name}, ms", "axis": _AXIS},
        "y": {"field": "share", "type": "quantitative", "title": "share of the requests",
              "axis": {"format": "%"}, "scale": {"domain": [0, 1]}}}}
    return Chart(title=f"{name}: share of the requests within it", spec=_spec([layer], rows, 200))


def timeline(requests: pl.DataFrame) -> Chart | None:
    """A bar a request, coloured by what it waits for; the first ones of many."""
    sent = requests.filter(pl.col("sent_ns").is_not_null()).sort("request_index").head(_REQUESTS_MAX)
    first, done = pl.coalesce("first_token_ns", "done_ns"), pl.coalesce("done_ns", "last_token_ns")
    spans = ((pl.col("planned_ns"), pl.col("sent_ns")), (pl.col("sent_ns"), first), (first, done))
    frames = [sent.select(request="request_index", measured=pl.col("phase") == "measured", stage=pl.lit(stage),
                          begin=begin / 1e9, end=end / 1e9)
              for stage, (begin, end) in zip(PHASES, spans, strict=True)]
    rows = pl.concat(frames).filter(pl.col("end") > pl.col("begin")).to_dicts()
    if not rows:
        return None
    layer = {"mark": {"type": "bar", "height": {"band": 0.8}}, "encoding": {
        "x": {"field": "begin", "type": "quantitative", "title": "seconds since the run's start"},
        "x2": {"field": "end"},
        "y": {"field": "request", "type": "ordinal", "title": "request", "axis": {"labelOverlap": True}},
        "color": {"field": "stage", "type": "nominal", "title": None,
                  "scale": {"domain": list(PHASES), "range": list(PHASES.values())}},
        "opacity": {"condition": {"test": "datum.measured", "value": 1}, "value": 0.35}}}
    shown = f", the first {_REQUESTS_MAX} of {requests.height}" if requests.height > _REQUESTS_MAX else ""
    return Chart(title=f"Requests in time{shown}", spec=_spec([layer], rows, max(120, min(400, 6 * sent.height))))


def telemetry(samples: pl.DataFrame, metric: str, title: str, divisor: float = 1.0) -> Chart | None:
    """One metric in time, a line a source; None where it was not sampled."""
    one = samples.filter(pl.col("metric") == metric)
    if one.is_empty():
        return None
    sources = {n: c for n, c in _SOURCES.items() if n in one["source"]}
    rows = one.select("source", at=pl.col("at_ns") / 1e9, value=pl.col("value") / divisor).to_dicts()
    layer = {"mark": {"type": "line", "strokeWidth": 1.5}, "encoding": {
        "x": {"field": "at", "type": "quantitative", "title": "seconds since the run's start"},
        "y": {"field": "value", "type": "quantitative", "title": title, "axis": _AXIS},
        "color": {"field": "source", "type": "nominal", "title": None, "scale": {
            "domain": list(sources), "range": list(sources.values())}}}}
    return Chart(title=title, spec=_spec([layer], rows, 200))
