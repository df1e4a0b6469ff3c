"""What newer versions of an engine and reruns changed: the same setup and load, measured several times."""

from __future__ import annotations

import altair as alt
import polars as pl
import streamlit as st

from app.views import _data, _engine_changes, _frame, _nav, _state, _style

METRICS = ("output_tokens_per_second", "ttft_from_schedule_ms_p95", "tpot_ms_p95")
LINES = 40
BY_VERSION = """
with every as (
    select coalesce(m.variant, m.engine) as label, h.*,
           concat_ws(' · ', model, hardware, setup, workload, load) as series,
           row_number() over (partition by trial_id, h.engine_version order by h.started_at) as run
    from history h join measurements m using (trial_id) where not h.fatal
), each as (
    select label, engine_version, run, min(started_at) as measured, count(*) as trials, series,
           median(output_tokens_per_second) as output_tokens_per_second,
           median(ttft_from_schedule_ms_p95) as ttft_from_schedule_ms_p95, median(tpot_ms_p95) as tpot_ms_p95
    from every group by all
)
select *, count(distinct engine_version) over (partition by label, series) as versions,
       count(*) over (partition by label, series) as times
from each order by versions desc, times desc, trials desc, series, measured"""
"""Medians by setup (but for its engine's version), workload, load, version and rerun; `versions`: how many of these,
`times`: how often it was measured."""


def draw() -> None:
    """Draws what changed, a chart over time and the versions measured."""
    _engine_changes.draw()
    found = _data.query(BY_VERSION)
    several = found.filter(pl.col("times") > 1)
    if several.is_empty():
        st.info("No setup was measured with two versions of its engine yet, nor twice with one: an experiment may name "
                "an engine twice, each with its `version`; `dyno evaluate FILE --fresh` measures again.")
    else:
        _chart(several)
    table = found.group_by("label", "engine_version").agg(
        pl.col("trials").sum(), pl.col("series").n_unique().alias("setups and loads"), pl.col("measured").min().alias(
            "first"), pl.col("measured").max().alias("last")).sort("label", "first")
    _frame.table(table.with_columns(pl.col("first", "last").dt.strftime("%Y-%m-%d")).rename(
        {"label": "Engine", "engine_version": "Version", "trials": "Trials"}), key="versions", select=False)


def _chart(several: pl.DataFrame) -> None:
    metric = _state.pick("Figure", list(METRICS), "figure", text=_style.title)
    shown = several.filter(pl.col(metric).is_not_null())
    kept = shown["series"].unique(maintain_order=True).head(LINES)
    data = shown.filter(pl.col("series").is_in(kept.to_list()))
    data = data.with_columns(value=metric, shown=pl.Series([_style.shown(v) for v in data[metric]], dtype=pl.String))
    base = alt.Chart(data).encode(
        x=alt.X("measured:T", title="Measured (UTC)"),
        y=alt.Y("value:Q", title=_style.title(metric), axis=_style.axis(), scale=alt.Scale(zero=True)),
        color=alt.Color("label:N", title=None, scale=_style.colours(data["label"]), legend=alt.Legend(orient="top")),
        detail="series:N", tooltip=[
            alt.Tooltip("series", title="Setup"), alt.Tooltip("engine_version", title="Version"),
            alt.Tooltip("measured:T", title="Measured", format="%Y-%m-%d %H:%M"),
            alt.Tooltip("shown", title=_style.title(metric)), alt.Tooltip("trials", title="Trials")])
    points = base.mark_point(filled=True, size=60, opacity=1).encode(
        shape=alt.Shape("engine_version:N", title="Version",
                        legend=alt.Legend(orient="top", symbolFillColor=_style.MUTED, symbolStrokeColor=_style.MUTED)))
    chart = base.mark_line(strokeWidth=1.5, opacity=0.6) + points
    st.altair_chart(chart.properties(height=340), key="versions")
    every = shown["series"].n_unique()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("A line joins one setup, workload and load over the versions of its engine and over reruns; "
                   "medians of repeats."
                   + (f" The first {LINES} of {every}." if every > LINES else ""))
        st.space("stretch")
        _nav.link_to_sql(BY_VERSION.strip(), "Ask in SQL")
        _frame.download(several, "versions")
