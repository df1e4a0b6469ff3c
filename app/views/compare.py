"""Compare: setups side by side at one load, and which is the cheapest that keeps the limits."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl
import streamlit as st

from app.views import _data, _differences, _empty, _frame, _nav, _scope, _state, _style
from app.views._scope import Scope
from models import planner, slo
from models.planner import COST, Answer

BEST_LOAD = "each at its cheapest"
COLUMNS = {
    "engine_shown": "Engine", "quantization": "Quantisation", "max_sequences": "Slots", "load": "Load",
    "ttft_from_schedule_ms_p50": "TTFT p50 ms", "ttft_from_schedule_ms_p95": "TTFT p95 ms",
    "tpot_ms_p50": "TPOT p50 ms", "tpot_ms_p95": "TPOT p95 ms",
    "output_tokens_per_second": "Output tok/s", COST: "USD per M out",
    "keeps": "Limits", "trust": "Trust", "trial": "Trial",
}
QUALITY = {"kl_nats": "KL nats", "top1_agreement": "Same token"}
"""Beside speed, where setups were asked for it: how far the answers are from the unquantised model's."""
QUALITY_NOTE = (" KL and Same token compare next-token distributions with the unquantised model's (view `quality`, "
                "`dyno quality`); of random weights they rank quantisations and say nothing else.")
LOWER, HIGHER = (*tuple(COLUMNS)[4:8], COST), ("output_tokens_per_second",)
BARS = {COST: "USD per M output tokens", "output_tokens_per_second": "Output tok/s",
        "ttft_from_schedule_ms_p95": "TTFT p95 ms", "tpot_ms_p95": "TPOT p95 ms",
        "kl_nats": "KL divergence from the unquantised model, nats"}


def page() -> None:
    """Draws the page."""
    scope = _scope.current()
    if scope is None:
        _empty.nothing_measured(_data.failures())
        return
    st.markdown(_holds(_data.held()))
    answer = planner.cheapest(scope.rows.to_dicts(), scope.limits)
    _say(scope, answer)
    load = _load(scope.rows)
    points = _only(_points(scope, load))
    if points.is_empty():
        st.info("No setup was measured at this load under these filters.")
        return
    _table(points, load)
    _bars(points, scope)
    _differences.draw(points)


def _holds(held: dict[str, Any]) -> str:
    """What the warehouse holds, in one sentence."""
    many = _style.count
    when = f"on {held['first']}" if held["first"] == held["last"] else f"between {held['first']} and {held['last']}"
    text = (f"{many(held['trials'], 'measurement')} of {many(held['setups'], 'setup')}: "
            f"{many(held['models'], 'model')}, {many(held['servers'], 'engine server')}, "
            f"{many(held['formats'], 'quantisation')}, {many(held['workloads'], 'workload')}, "
            f"{many(held['machines'], 'machine')}; taken {when}.")
    if held["distrusted"]:
        text += f" {held['distrusted']} cannot be trusted and feed no answer."
    return text + (f" {many(held['failures'], 'launch', 'launches')} failed." if held["failures"] else "")


def _say(scope: Scope, answer: Answer) -> None:
    """The answer, with the trials it rests on."""
    limits = " and ".join(f"{m} p95 ≤ {v:g} ms" for m, v in
                          zip(("TTFT", "TPOT"), scope.limit_ms.values(), strict=True))
    if answer.best is None:
        _say_none(scope, limits, answer)
        return
    best = scope.rows.row(by_predicate=pl.col("trial_id") == answer.best, named=True)
    text = (f"**{best['setup_shown']}** is the cheapest that keeps {limits}: "
            f"**{_style.shown(best[COST])} USD per million output tokens** at {best['load']}, with TTFT p95 "
            f"{_style.shown(best['ttft_from_schedule_ms_p95'])} ms, TPOT p95 {_style.shown(best['tpot_ms_p95'])} ms, "
            f"{_style.shown(best['output_tokens_per_second'])} output tok/s.")
    if answer.runner_up:
        other = scope.rows.row(by_predicate=pl.col("trial_id") == answer.runner_up, named=True)
        text += f" Next: {other['setup_shown']}, {_style.shown(other[COST])} USD at {other['load']}."
    text += f" {answer.within_limits} of {scope.rows.height} points keep the limits."
    with st.container(border=True):
        st.markdown(text)
        with st.container(horizontal=True):
            for name, trial in zip(("From trial", "Next: trial"), answer.trial_ids, strict=False):
                _nav.link_to_run(trial, f"{name} {trial}")
        st.caption(f"At {best['price_usd_per_hour']:g} USD an hour for {best['hardware']} "
                   f"({best['price_tier']}, {best['price_date']}: {best['price_source']})."
                   + (" Random weights: speed and memory are real, quality is not." if "synthetic" in scope.model
                      else ""))


def _say_none(scope: Scope, limits: str, answer: Answer) -> None:
    """No answer: because of the limits, or only because nobody knows what the machine costs."""
    keeping = _judged(scope).filter(~pl.col("out"))
    if keeping.is_empty():
        text = (f"Nothing measured keeps {limits}: all {_style.count(scope.rows.height, 'point')} miss them or "
                "cannot be trusted. Raise the limits in the side bar, or measure lower loads and other formats.")
        if answer.nearest:
            near = scope.rows.row(by_predicate=pl.col("trial_id") == answer.nearest, named=True)
            text += (f" The nearest is **{near['setup_shown']}** at {near['load']}: it "
                     f"{answer.nearest_keeps}.")
        st.warning(text)
        return
    fastest = keeping.sort("output_tokens_per_second", descending=True, nulls_last=True).row(0, named=True)
    st.warning(f"No price is known for {scope.hardware}, so nothing can be called the cheapest: "
               "`dyno prices --usd-per-hour 0.12` stores one. The fastest that keeps "
               f"{limits} is **{fastest['setup_shown']}** at {fastest['load']} with "
               f"{_style.shown(fastest['output_tokens_per_second'])} output tok/s (trial {fastest['trial_id']}).")


def _load(rows: pl.DataFrame) -> str:
    levels = rows.select("load", "concurrency", "request_rate").unique().sort("concurrency", "request_rate",
                                                                              nulls_last=True)
    options = [BEST_LOAD, *dict.fromkeys(levels["load"])]
    return _state.pick("Load", options, "load")


def _judged(scope: Scope) -> pl.DataFrame:
    """The rows with `keeps`, what a person reads about limits and trust, and `out`: greyed."""
    missed = [", ".join(m.split("_")[0].upper() for m in slo.misses(r, scope.limits)) for r in scope.rows.to_dicts()]
    rows = scope.rows.with_columns(trial=pl.col("trial_id").str.slice(0, 8), missed=pl.Series(missed, dtype=pl.String),
                                   max_sequences=pl.col("max_sequences").cast(pl.String).fill_null("default"))
    keeps = pl.when("fatal").then(pl.lit("not trusted")).when(pl.col("missed") != "").then(
        pl.format("misses {}", "missed")).otherwise(pl.lit("kept"))
    return rows.with_columns(keeps=keeps).with_columns(out=pl.col("keeps") != "kept")


def _points(scope: Scope, load: str) -> pl.DataFrame:
    """One row a setup: at a load its median repeat; or the load at which it is cheapest, within limits if it can be."""
    rows = _judged(scope)
    if load != BEST_LOAD:
        rows = _frame.typical(rows.filter(pl.col("load") == load))
    rows = rows.sort("out", COST, "output_tokens_per_second", descending=[False, False, True], nulls_last=True)
    return rows.unique("setup_id", keep="first", maintain_order=True)


def _only(points: pl.DataFrame) -> pl.DataFrame:
    """The setups chosen; all where none is."""
    names = dict(points.select("setup_id", "setup_shown").iter_rows())
    chosen = _state.listed("Setups side by side", list(names), "setups", text=names.__getitem__)
    return points.filter(pl.col("setup_id").is_in(chosen)) if chosen else points


def _table(points: pl.DataFrame, load: str) -> None:
    columns = {c: t for c, t in COLUMNS.items() if load == BEST_LOAD or c != "load"}
    lead = 3 if load != BEST_LOAD else 4
    names = list(columns)
    extras = {c: c.replace("_", " ") for c in _data.EXTRAS if points[c].n_unique() > 1}
    extras |= {c: t for c, t in QUALITY.items() if points[c].is_not_null().any()}
    if "repeats" in points.columns and points["repeats"].max() != 1:
        extras["repeats"] = "Repeats"
    order = [*names[:lead], *extras, *names[lead:]]
    labels = columns | extras
    good = ~points["out"]
    picked = _frame.table(points.select(order).rename({c: labels[c] for c in order}), key="compare",
                          muted=points["out"].to_list(),
                          lower=[labels[c] for c in LOWER], higher=[labels[c] for c in HIGHER], among=good.to_list())
    with st.container(horizontal=True, vertical_alignment="center"):
        if picked is None:
            st.caption("Bold: best of those within the limits. Grey: misses a limit, or cannot be trusted. "
                       "TTFT counts from the instant a request was meant to be sent. Select a row to open its run."
                       + (QUALITY_NOTE if "kl_nats" in extras else ""))
        else:
            row = points.row(picked, named=True)
            _nav.link_to_run(row["trial_id"], f"Open the run: {row['setup_shown']}, {row['load']}")
            st.caption(row["verdicts"] or "no verdict against it")
        st.space("stretch")
        _frame.download(points, "compare")


def _bars(points: pl.DataFrame, scope: Scope) -> None:
    bars = [b for b in BARS if b not in QUALITY or points[b].is_not_null().any()]
    metric = _state.pick("Chart", bars, "bar", text=BARS.__getitem__)
    known = _differences.intervals(points["trial_id"].to_list())
    spans = [_differences.interval(row, metric, known) for row in points.to_dicts()]
    data = points.select("setup_shown", "engine_shown", "load", "keeps", "trust", "trial", "out", value=metric,
                         text=pl.Series([_style.shown(v) for v in points[metric]]),
                         low=pl.Series([s[0] for s in spans], dtype=pl.Float64),
                         high=pl.Series([s[1] for s in spans], dtype=pl.Float64))
    data = data.with_columns(end=pl.max_horizontal("value", "high"))
    name = alt.Y("setup_shown:N", sort=data["setup_shown"].to_list(), title=None, axis=_style.names())
    base = alt.Chart(data).encode(y=name)
    bars = base.mark_bar(cornerRadiusEnd=2).encode(
        x=alt.X("value:Q", title=BARS[metric], axis=_style.axis()),
        color=alt.Color("engine_shown:N", title=None, scale=_style.colours(data["engine_shown"]),
                        legend=alt.Legend(orient="top")),
        opacity=alt.condition("datum.out", alt.value(0.28), alt.value(1)),
        tooltip=[alt.Tooltip("setup_shown", title="Setup"), alt.Tooltip("load", title="Load"),
                 alt.Tooltip("text", title=BARS[metric]), alt.Tooltip("keeps", title="Limits"),
                 alt.Tooltip("trust", title="Trust"), alt.Tooltip("trial", title="Trial")])
    whiskers = base.transform_filter("isValid(datum.low) && isValid(datum.high)").mark_rule(
        color=_style.MUTED, strokeWidth=2).encode(x="low:Q", x2="high:Q")
    text = base.mark_text(align="left", dx=4, color=_style.MUTED).encode(x="end:Q", text="text:N")
    layers = bars + whiskers + text
    limit = scope.limit_ms.get(metric)
    if limit:
        layers += alt.Chart(pl.DataFrame({"limit": [limit]})).mark_rule(strokeDash=[4, 3], color=_style.MUTED).encode(
            x="limit:Q")
    st.altair_chart(layers.properties(height=alt.Step(22)), key="bars")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Lines over the bars: 95 % intervals, where both ends are known.")
        st.space("stretch")
        _frame.download(data.rename({"value": metric}).drop("text", "out", "end"), f"chart-{metric}")
