"""Curves: what more load does to throughput and latency, one line a setup."""

from __future__ import annotations

import altair as alt
import polars as pl
import streamlit as st

from app.views import _curve_models, _data, _empty, _fits, _frame, _legend, _scope, _state, _style
from app.views._scope import Scope
from models.summary import STATISTICS

THROUGHPUT = "output_tokens_per_second"
AXES = {"concurrency": "Requests at once", "request_rate": "Requests a second asked for"}
POINT_SIZE = 55
LOG_FROM = 30.0
"""Latencies that lie so many times apart are first shown on an axis of logarithms."""


def page() -> None:
    """Draws the page."""
    scope = _scope.current()
    if scope is None:
        _empty.nothing_measured(_data.failures())
        return
    axis, metric, log = _controls(scope.rows)
    rows = scope.rows.filter(pl.col(axis).is_not_null())
    points = _points(rows, axis, metric)
    if points.is_empty():
        st.info("Nothing was measured with this metric under these filters.")
        return
    scale = alt.Scale(type="log") if log else alt.Scale(zero=True)
    hover = alt.selection_point(fields=["setup"], on="pointerover", clear="pointerout", nearest=False)
    _legend.draw(points)
    known = _known(scope) if axis == "concurrency" else pl.DataFrame(schema={"quantity": pl.String})
    over = {m: _curve_models.bands(known, rows, m) for m in (THROUGHPUT, metric)}
    left, right = st.columns(2)
    with left:
        st.markdown("**Throughput against load**")
        zero = alt.Scale(zero=True)
        _draw(_curve_models.area(over[THROUGHPUT], points, hover, zero) + _lines(
            points, hover, "load", AXES[axis], "throughput", _style.title(THROUGHPUT), zero))
    with right:
        st.markdown(f"**{_style.title(metric)} against load**")
        _draw(_curve_models.area(over[metric], points, hover, scale) + _lines(
            points, hover, "load", AXES[axis], "latency", _style.title(metric), scale) + _limit(scope, metric))
    st.markdown(f"**{_style.title(metric)} against throughput**: down and to the right is better")
    _draw(_curve_models.front_line(points, scale) + _lines(
        points, hover, "throughput", _style.title(THROUGHPUT), "latency", _style.title(metric), scale,
        labels=True) + _limit(scope, metric), height=380)
    _foot(points.rename({"throughput": THROUGHPUT, "latency": metric, "load": axis}), over, metric)
    _cache(scope)


def _known(scope: Scope) -> pl.DataFrame:
    """The calibrations in use of these setups under this workload."""
    return _fits.calibrations().filter((pl.col("workload") == scope.workload) & (pl.col("model") == scope.model))


def _foot(points: pl.DataFrame, over: dict[str, pl.DataFrame], metric: str) -> None:
    text = ("Numbers at points: the load. Hollow: cannot be trusted. Dashed grey: the limit. Broad grey: the Pareto "
            "front, which no trusted point beats in both. Of several repeats the median one is drawn.")
    if over[THROUGHPUT].height:
        text += " Shaded: the calibrated model's 90 % interval; point at a curve to see its own."
        text += "" if over[metric].height else " Of latencies it is known for the means of TTFT and TPOT."
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(text)
        st.space("stretch")
        _frame.download(points, "curves")
        both = [frame.with_columns(pl.lit(name).alias("metric")) for name, frame in over.items() if frame.height]
        if both:
            _frame.download(pl.concat(both), "bands", label="CSV of the bands")


def _cache(scope: Scope) -> None:
    """Memory against input length."""
    shape = _fits.shape(scope.model)
    if shape is None:
        return
    found = _curve_models.of_cache(shape, _fits.launches(scope.model, scope.hardware))
    st.markdown("**Memory against length**: the KV cache of one request")
    st.altair_chart(_curve_models.cache(found).properties(height=320), key="cache")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Rough: the survey's formula. Architecture: by layers, heads and bytes a value. Points: what "
                   "engines told of their cache, at the context they were started with.")
        st.space("stretch")
        _frame.download(found.drop("shown"), "cache")


def _controls(rows: pl.DataFrame) -> tuple[str, str, bool]:
    """Axis, latency column and whether its scale is logarithmic."""
    axes = [a for a in AXES if rows[a].is_not_null().any()]
    with st.container(horizontal=True, vertical_alignment="top"):
        latency = _state.choose("Latency", list(_style.UNITS), "latency", text=_style.UNITS.__getitem__, width=210)
        statistic = _state.pick("Percentile", list(STATISTICS), "statistic", default="p95")
        axis = _state.pick("Load", axes, "axis", text=lambda a: "closed loop" if a == "concurrency" else "open loop")
        wide = _spread(rows, f"{latency}_{statistic}") > LOG_FROM
        log = _state.pick("Latency axis", ["linear", "log"], "scale", default="log" if wide else "linear")
    return axis, f"{latency}_{statistic}", log == "log"


def _spread(rows: pl.DataFrame, metric: str) -> float:
    """The largest over the smallest."""
    seen = rows[metric].drop_nulls().drop_nans()
    least, most = (float(v) if isinstance(v, int | float) else 0.0 for v in (seen.min(), seen.max()))
    return most / least if least > 0 else 1.0


def _points(rows: pl.DataFrame, axis: str, metric: str) -> pl.DataFrame:
    rows = _frame.typical(rows).filter(pl.col(metric).is_not_null() & pl.col(THROUGHPUT).is_not_null())
    slots = pl.col("max_sequences").cast(pl.String).fill_null("default")
    return rows.select(
        setup="setup_shown", engine="engine_shown", quantization="quantization", slots=slots, load=axis,
        throughput=THROUGHPUT, latency=metric, trusted=~pl.col("fatal"), trust="trust", trial_id="trial_id",
        throughput_shown=pl.Series([_style.shown(v) for v in rows[THROUGHPUT]]),
        latency_shown=pl.Series([_style.shown(v) for v in rows[metric]]),
    ).sort("setup", "load")


def _lines(points: pl.DataFrame, hover: alt.Parameter, x: str, x_title: str, y: str, y_title: str, scale: alt.Scale,
           labels: bool = False) -> alt.LayerChart:
    """One line a setup, in order of load."""
    loads = sorted(points["load"].unique())
    if x == "load":
        across = alt.X("load:Q", title=x_title, axis=alt.Axis(values=loads, format="~g"),
                       scale=alt.Scale(type="log", base=2, nice=False, padding=12))
    else:
        across = alt.X(f"{x}:Q", title=x_title, axis=_style.axis(), scale=alt.Scale(zero=True))
    base = alt.Chart(points).encode(
        x=across, y=alt.Y(f"{y}:Q", title=y_title, scale=scale, axis=_style.axis()), detail="setup:N",
        color=alt.Color("engine:N", scale=_style.colours(points["engine"]), legend=None),
        opacity=alt.condition(hover, alt.value(1.0), alt.value(0.15)))
    line = base.mark_line(strokeWidth=2).encode(order="load:Q", strokeDash=alt.StrokeDash(
        "quantization:N", scale=_legend.dashes(points), legend=None))
    dots = base.mark_point(size=POINT_SIZE, strokeWidth=1.5).encode(
        shape=alt.Shape("slots:N", scale=_legend.shapes(points), legend=None),
        fill=alt.condition("datum.trusted", alt.Color("engine:N", scale=_style.colours(points["engine"]), legend=None),
                           alt.value("transparent")),
        tooltip=[alt.Tooltip("setup", title="Setup"), alt.Tooltip("load", title="Load", format="~g"),
                 alt.Tooltip("throughput_shown", title="Output tok/s"),
                 alt.Tooltip("latency_shown", title="Latency ms"), alt.Tooltip("trust", title="Trust"),
                 alt.Tooltip("trial_id", title="Trial")]).add_params(hover)
    layers: alt.LayerChart = line + dots
    if labels:
        layers += base.mark_text(dx=9, dy=-7, fontSize=10).encode(text=alt.Text("load:Q", format="~g"))
    return layers


def _limit(scope: Scope, metric: str) -> alt.Chart:
    """The limit on this latency as a rule; nothing where there is none."""
    limit = scope.limit_ms.get(metric)
    data = pl.DataFrame({"limit": [] if limit is None else [limit]}, schema={"limit": pl.Float64})
    rule: alt.Chart = alt.Chart(data).mark_rule(strokeDash=[4, 3], color=_style.MUTED).encode(y="limit:Q")
    return rule


def _draw(chart: alt.LayerChart | alt.FacetChart, height: int = 320) -> None:
    st.altair_chart(chart.properties(height=height))
