"""The charts of the Plan page: levels of formula as shapes and colours, measurement in black or white."""

from __future__ import annotations

import altair as alt
import polars as pl
import streamlit as st

from app.views import _style

COLOURS = {"rough": "#E69F00", "architecture": "#56B4E9", "calibrated": "#0072B2", "measured": "#8c8c8c"}
SHAPES = {"rough": "triangle-up", "architecture": "square", "calibrated": "circle", "measured": "diamond"}


def capacity(found: pl.DataFrame) -> None:
    """A row a setup, a point a level."""
    data = found.with_columns(shown=pl.Series([_style.shown(v) for v in found["requests_per_second"]]))
    _rows(data, "requests_per_second", "Requests/s an instance", ["setup", "level", "shown", "concurrency", "how"],
          "capacity", log=True)


def memory(found: pl.DataFrame, title: str) -> None:
    """A row a launch, a point a level."""
    data = found.unpivot(["rough", "architecture", "measured"], index="setup", variable_name="level",
                         value_name="value").drop_nulls("value")
    data = data.with_columns(shown=pl.Series([_style.shown(v) for v in data["value"]]),
                             low=pl.lit(None, pl.Float64), high=pl.lit(None, pl.Float64))
    _rows(data, "value", title, ["setup", "level", "shown"], "memory")


def _rows(data: pl.DataFrame, value: str, title: str, tips: list[str], key: str, log: bool = False) -> None:
    scale = alt.Scale(type="log", nice=False, padding=20) if log else alt.Scale(zero=True)
    base = alt.Chart(data).encode(y=alt.Y("setup:N", title=None, axis=_style.names(), sort=data["setup"].unique(
        maintain_order=True).to_list()))
    spans = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=3, opacity=0.4).encode(
        x=alt.X("low:Q", scale=scale), x2="high:Q", color=_colour(data))
    dots = base.mark_point(filled=True, size=90, opacity=0.95).encode(
        x=alt.X(f"{value}:Q", title=title, axis=_style.axis(), scale=scale), color=_colour(data),
        shape=_shape(data), tooltip=tips)
    st.altair_chart((spans + dots).properties(height=alt.Step(28)), key=key)


def against(found: pl.DataFrame, title: str) -> None:
    """Predicted over measured on logarithmic axes, with the line on which they are equal."""
    data = found.with_columns(predicted_shown=pl.Series([_style.shown(v) for v in found["predicted"]]),
                              measured_shown=pl.Series([_style.shown(v) for v in found["measured"]]))
    both = pl.concat([data["predicted"], data["measured"]])
    low, high = float(both.min()) * 0.8, float(both.max()) * 1.25  # type: ignore[arg-type]
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    line = alt.Chart(pl.DataFrame({"at": [low, high]})).mark_line(color=_style.MUTED, strokeDash=[4, 3]).encode(
        x=alt.X("at:Q", scale=scale, title=f"{title}, measured", axis=_style.axis(5)),
        y=alt.Y("at:Q", scale=scale, title=f"{title}, predicted", axis=_style.axis(5)))
    base = alt.Chart(data).encode(x=alt.X("measured:Q", scale=scale))
    spans = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2, opacity=0.35, clip=True).encode(
        y=alt.Y("low:Q", scale=scale), y2="high:Q", color=_colour(data))
    dots = base.mark_point(filled=True, size=70, opacity=0.85).encode(
        y=alt.Y("predicted:Q", scale=scale), color=_colour(data), shape=_shape(data),
        tooltip=["setup", alt.Tooltip("concurrency", title="at once"), "level",
                 alt.Tooltip("predicted_shown", title="predicted"), alt.Tooltip("measured_shown", title="measured"),
                 alt.Tooltip("trial_id", title="trial")])
    st.altair_chart((line + spans + dots).properties(height=380), key="against")


def _levels(data: pl.DataFrame) -> list[str]:
    present = set(data["level"])
    return [level for level in COLOURS if level in present]


def _colour(data: pl.DataFrame) -> alt.Color:
    levels = _levels(data)
    return alt.Color("level:N", title=None, legend=alt.Legend(orient="top", symbolOpacity=1), scale=alt.Scale(
        domain=levels, range=[COLOURS[level] for level in levels]))


def _shape(data: pl.DataFrame) -> alt.Shape:
    levels = _levels(data)
    return alt.Shape("level:N", title=None, legend=alt.Legend(orient="top", symbolOpacity=1), scale=alt.Scale(
        domain=levels, range=[SHAPES[level] for level in levels]))
