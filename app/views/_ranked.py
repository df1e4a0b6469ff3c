"""The ranked stacks of an answer: their costs, what their requests are expected to see, and the trials behind each."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl
import streamlit as st

from app.views import _frame, _nav, _state, _style
from models.choosing.answer import Answer, Choice, Figure

CHARTED = 12
"""Stacks in the charts; the table holds all."""
WHOLE = {"measured": 1.0, "interpolated": 0.7, "extrapolated": 0.4, "formula": 0.25}


def draw(answer: Answer) -> None:
    """Draws the table, the charts and the stack selected in the table (at first the best)."""
    shown = names(answer)
    frame = _table(answer, shown)
    st.markdown("**Stacks that keep the limits**, the cheapest first. Select one to see what it rests on.")
    expected = [c for c in frame.columns if c.endswith("ms")]
    picked = _frame.table(frame, key="ranked", selected=0, lower=[c for c in ("USD a month", "USD per M out", *expected)
                                                                 if c in frame.columns],
                          height="auto" if frame.height > 10 else "content")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Latencies are of the load asked for, spread over the instances; TTFT and E2E count from the "
                   "instant a request was meant to be sent. Cheaper: how likely it really is cheaper than the "
                   "next row.")
        st.space("stretch")
        _frame.download(lambda: _flat(answer, shown), "choose")
    one = answer.ranked[picked or 0]
    left, right = st.columns(2, gap="medium")
    with left:
        _costs(answer, shown)
    with right:
        _latencies(answer, shown)
    _one(one, answer)


def names(answer: Answer) -> list[str]:
    """A name for each ranked stack, no longer than tells them apart."""
    several = len({c.machine.label for c in answer.ranked}) > 1
    models = len({c.stack.model for c in answer.ranked}) > 1
    found = []
    for choice in answer.ranked:
        text = choice.stack.setup + (f" on {choice.machine.label}" if several else "")
        found.append(f"{choice.stack.model}: {text}" if models else text)
    return [f"{n} ({c.stack.setup_id[:4]})" if found.count(n) > 1 else n
            for n, c in zip(found, answer.ranked, strict=True)]


def _table(answer: Answer, shown: list[str]) -> pl.DataFrame:
    metrics = [x.column for x in answer.question.bounds]
    rows = []
    for name, one in zip(shown, answer.ranked, strict=True):
        row: dict[str, Any] = {"Stack": name, "Instances": one.instances}
        if one.load:
            row["USD a month"] = one.usd_per_month
        row["USD per M out"] = one.usd_per_million_output_tokens
        row |= {_style.title(m): one.expected[m].value if m in one.expected else None for m in metrics}
        if one.headroom is not None:
            row["Headroom %"] = 100 * one.headroom
        row["Cheaper %"] = None if one.probability_cheaper is None else 100 * one.probability_cheaper
        row |= {"KL nats": one.stack.kl_nats, "Basis": one.basis}
        rows.append(row)
    frame = pl.DataFrame(rows, infer_schema_length=None)
    return frame.drop([c for c in ("KL nats", "Cheaper %") if frame[c].is_null().all()])


def _flat(answer: Answer, shown: list[str]) -> pl.DataFrame:
    """Everything of the ranked, a column a figure."""
    rows = []
    for name, one in zip(shown, answer.ranked, strict=True):
        row = one.model_dump(include={"instances", "usd_per_month", "usd_per_million_output_tokens",
                                      "usd_per_million_output_tokens_full", "users", "carries", "carries_low",
                                      "carries_high", "load", "headroom", "with_one_down", "basis",
                                      "probability_cheaper"})
        row = {"stack": name, "model": one.stack.model, "engine": one.stack.server, "version": one.stack.engine_version,
               "quantization": one.stack.quantization, "hardware": one.machine.label, **row,
               "price_usd_per_hour": one.price.price_usd_per_hour, "price_tier": one.price.tier,
               "kl_nats": one.stack.kl_nats, "setup_id": one.stack.setup_id, "trial_ids": " ".join(one.trial_ids)}
        for metric, figure in one.expected.items():
            row |= {metric: figure.value, f"{metric}_low": figure.low, f"{metric}_high": figure.high}
        rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)


def _costs(answer: Answer, shown: list[str]) -> None:
    month = answer.ranked[0].load is not None
    title = "USD a month" if month else "USD per million output tokens"
    rows = [{"stack": n, "engine": c.stack.server, "basis": c.basis, "instances": c.instances,
             "value": c.usd_per_month if month else c.usd_per_million_output_tokens}
            for n, c in zip(shown[:CHARTED], answer.ranked, strict=False)]
    data = pl.DataFrame(rows)
    data = data.with_columns(text=pl.Series([_style.shown(v) for v in data["value"]]),
                             whole=pl.Series([WHOLE[b] for b in data["basis"]]))
    st.markdown(f"**{title}**" + (f", the first {CHARTED}" if len(shown) > CHARTED else ""))
    base = alt.Chart(data).encode(y=alt.Y("stack:N", sort=data["stack"].to_list(), title=None, axis=_style.names()))
    bars = base.mark_bar(cornerRadiusEnd=2).encode(
        x=alt.X("value:Q", title=title, axis=_style.axis(4)), opacity=alt.Opacity("whole:Q", scale=None, legend=None),
        color=alt.Color("engine:N", title=None, scale=_style.colours(data["engine"]), legend=alt.Legend(orient="top")),
        tooltip=[alt.Tooltip("stack", title="Stack"), alt.Tooltip("text", title=title),
                 alt.Tooltip("instances", title="Instances"), alt.Tooltip("basis", title="Basis")])
    text = base.mark_text(align="left", dx=4, color=_style.MUTED).encode(x="value:Q", text="text:N")
    st.altair_chart((bars + text).properties(height=alt.Step(26)), key="costs")


def _latencies(answer: Answer, shown: list[str]) -> None:
    """One latency of each stack with its interval, beside the limit."""
    limits = {x.column: x.at_most for x in answer.question.bounds}
    known = [m for m in dict.fromkeys((*limits, *answer.ranked[0].expected)) if m in answer.ranked[0].expected]
    if not known:
        return
    metric = _state.choose("Expected", known, "expected", text=_style.title)
    rows = [{"stack": n, "engine": c.stack.server, "value": f.value, "low": f.low, "high": f.high, "basis": f.basis,
             "how": f.how} for n, c in zip(shown[:CHARTED], answer.ranked, strict=False)
            if (f := c.expected.get(metric))]
    data = pl.DataFrame(rows, schema_overrides={"low": pl.Float64, "high": pl.Float64})
    data = data.with_columns(text=pl.Series([_style.shown(v) for v in data["value"]]), low=pl.coalesce("low", "value"),
                             high=pl.coalesce("high", "value"))
    colour = alt.Color("engine:N", scale=_style.colours(data["engine"]), legend=None)
    base = alt.Chart(data).encode(y=alt.Y("stack:N", sort=data["stack"].to_list(), title=None, axis=_style.names()))
    spans = base.mark_rule(strokeWidth=2.5, opacity=0.5).encode(
        x=alt.X("low:Q", title=_style.title(metric), axis=_style.axis(4), scale=alt.Scale(zero=True)), x2="high:Q",
        color=colour)
    dots = base.mark_point(filled=True, size=70, opacity=1).encode(
        x="value:Q", color=colour, tooltip=[alt.Tooltip("stack", title="Stack"), alt.Tooltip(
            "text", title=_style.title(metric)), alt.Tooltip("basis", title="Basis"), alt.Tooltip("how", title="From")])
    layers = spans + dots
    if metric in limits:
        layers += alt.Chart(pl.DataFrame({"limit": [limits[metric]]})).mark_rule(
            strokeDash=[4, 3], color=_style.MUTED, strokeWidth=1.5).encode(x="limit:Q")
    st.altair_chart(layers.properties(height=alt.Step(26)), key="latencies")
    st.caption("A dot is what is expected, the bar its interval (ending at the dot where there is no bound)"
               + (", dashed the limit." if metric in limits else "."))


def _one(one: Choice, answer: Answer) -> None:
    """What the selected stack rests on."""
    limits = {x.column: x.at_most for x in answer.question.bounds}
    st.markdown(f"**{one.label}**: what it rests on")
    rows = [{"Figure": "requests/s of an instance", **_figure(one.capacity), "Limit": None}]
    rows += [{"Figure": _style.title(m), **_figure(f), "Limit": limits.get(m)} for m, f in one.expected.items()]
    frame = pl.DataFrame(rows, schema_overrides=dict.fromkeys(("Low", "High", "Limit"), pl.Float64),
                         infer_schema_length=None)
    _frame.table(frame, key="rests", select=False)
    load = one.load / one.instances if one.load else one.capacity.value
    text = (f"{_style.shown(load)} requests a second an instance; together they carry {_style.shown(one.carries)}, "
            f"with one down {_style.shown(one.with_one_down)}. {one.stack.engine} {one.stack.engine_version}, "
            f"{_style.count(one.levels, 'load level')} measured.")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(" ".join((text, *one.notes)))
        st.space("stretch")
        _frame.download(frame, "expected")
    with st.container(horizontal=True):
        for trial in one.trial_ids[:6]:
            _nav.link_to_run(trial, f"Trial {trial[:8]}")


def _figure(figure: Figure) -> dict[str, Any]:
    return {"Expected": figure.value, "Low": figure.low, "High": figure.high,
            "Interval": f"{figure.confidence:.0%}".replace("%", " %"), "Basis": figure.basis, "How": figure.how}
