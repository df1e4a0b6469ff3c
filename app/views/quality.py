"""Quality: what fewer bits gain in speed, and how far they move the answers from the unquantised model's."""

from __future__ import annotations

import altair as alt
import polars as pl
import streamlit as st

from app.views import _data, _empty, _frame, _scope, _state, _style
from app.views._scope import Scope

MEASURES = {"kl_nats": "KL divergence, nats", "top1_agreement": "Same likeliest token, share",
            "next_logprob_difference": "Difference of the text's next token, |Δ ln p|"}
SPEEDS = ("output_tokens_per_second", "tpot_ms_p50", "ttft_from_schedule_ms_p95", "usd_per_million_output_tokens")
LEAST_NATS = 1e-6
"""Divergences below are drawn here: an axis of logarithms has no zero."""


def page() -> None:
    """Draws the page."""
    scope = _scope.current(limits=False)
    if scope is None:
        _empty.nothing_measured(_data.failures())
        return
    known = _data.quality().filter((pl.col("model") == scope.model) & (pl.col("hardware") == scope.hardware))
    if known.is_empty():
        st.header("No setup of this model was asked for its quality yet")
        st.markdown("An experiment with `quality: true` asks each quantisation for its next-token distributions on a "
                    "fixed text, and compares them with the unquantised model's; `dyno quality` lists them.")
        return
    if known["synthetic"].any():
        st.warning("Random weights: divergences rank quantisations, and say nothing of a trained model's answers.")
    left, right, at = st.columns(3)
    with left:
        measure = _state.choose("Quality", list(MEASURES), "measure", text=MEASURES.__getitem__)
    with right:
        speed = _state.choose("Speed", list(SPEEDS), "speed", text=_style.title)
    with at:
        load = _state.choose("Load", _loads(scope.rows), "at")
    points = _points(known, scope.rows.filter(pl.col("load") == load), measure, speed)
    if points.is_empty():
        st.info("No setup whose quality is known was measured at this load.")
    else:
        _say(points, measure, speed, load)
        _draw(points, measure, speed)
    _table(known, scope)


def _loads(rows: pl.DataFrame) -> list[str]:
    """Those that most setups were measured at, first."""
    counted = rows.group_by("load").agg(pl.col("setup_id").n_unique().alias("setups"), pl.col("concurrency").max())
    return counted.sort("setups", "concurrency", descending=True, nulls_last=True)["load"].to_list()


def _points(known: pl.DataFrame, rows: pl.DataFrame, measure: str, speed: str) -> pl.DataFrame:
    mine = _frame.typical(rows).filter(~pl.col("fatal") & pl.col(speed).is_not_null())
    told = known.select("setup_id", "is_reference", "reference", value=measure, low=f"{measure}_low",
                        high=f"{measure}_high")
    points = mine.select("setup_id", "setup_shown", "engine_shown", "quantization", "trial_id", speed=speed).join(
        told, on="setup_id")
    return points.with_columns(shown=pl.Series([_style.shown(v) for v in points["speed"]], dtype=pl.String),
                               value_shown=pl.Series([_style.shown(v) for v in points["value"]], dtype=pl.String))


def _say(points: pl.DataFrame, measure: str, speed: str, load: str) -> None:
    """The fastest against the unquantised of its engine."""
    lower = not speed.endswith("per_second")
    best = points.sort("speed", descending=not lower).row(0, named=True)
    base = points.filter(pl.col("is_reference") & (pl.col("engine_shown") == best["engine_shown"]))
    if base.is_empty() or best["is_reference"]:
        return
    reference = base.sort("speed", descending=not lower).row(0, named=True)
    times = reference["speed"] / best["speed"] if lower else best["speed"] / reference["speed"]
    st.markdown(f"**{best['setup_shown']}** has the best {_style.title(speed)} at {load}: "
                f"{_style.shown(best['speed'])} against {_style.shown(reference['speed'])} of "
                f"{reference['setup_shown']} ({_style.shown(times)} times as good). "
                f"Its {MEASURES[measure]}: {best['value_shown']}.")


def _draw(points: pl.DataFrame, measure: str, speed: str) -> None:
    log = measure == "kl_nats"
    floor = LEAST_NATS if log else None
    columns = [pl.col(c).clip(lower_bound=floor) if log else pl.col(c) for c in ("value", "low", "high")]
    data = points.with_columns(columns)
    scale = alt.Scale(type="log") if log else alt.Scale(zero=False)
    decades = alt.Axis(values=[10.0**i for i in range(-6, 3)], format="~g") if log else _style.axis(5)
    y = alt.Y("value:Q", title=MEASURES[measure], scale=scale, axis=decades)
    x = alt.X("speed:Q", title=_style.title(speed), scale=alt.Scale(zero=False, padding=20), axis=_style.axis())
    colour = alt.Color("engine_shown:N", title=None, scale=_style.colours(data["engine_shown"]),
                       legend=alt.Legend(orient="top"))
    base = alt.Chart(data).encode(x=x)
    spans = base.mark_rule(strokeWidth=2, opacity=0.4).encode(y=alt.Y("low:Q", scale=scale), y2="high:Q", color=colour)
    dots = base.mark_point(filled=True, size=80, opacity=1).encode(y=y, color=colour, tooltip=[
        alt.Tooltip("setup_shown", title="Setup"), alt.Tooltip("value_shown", title=MEASURES[measure]),
        alt.Tooltip("shown", title=_style.title(speed)), alt.Tooltip("reference", title="Compared with"),
        alt.Tooltip("trial_id", title="Trial")])
    names = base.mark_text(align="left", dx=8, dy=-8, fontSize=11, color=_style.MUTED).encode(
        y=y, text="quantization:N")
    st.altair_chart((spans + dots + names).properties(height=380), key="quality")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(("Lower is nearer to the unquantised model. " if measure != "top1_agreement" else
                    "Higher is nearer to the unquantised model. ")
                   + "Bars: 95 % intervals." + (f" Divergences below {LEAST_NATS:g} are drawn there." if log else ""))
        st.space("stretch")
        _frame.download(points.rename({"speed": speed, "value": measure}).drop("shown", "value_shown"),
                        "speed-and-quality")


def _table(known: pl.DataFrame, scope: Scope) -> None:
    st.markdown("**Every comparison**")
    names = {"quantization": "Quantisation", "kv_type": "KV cache", "kl_nats": "KL nats", "kl_nats_low": "Low",
             "kl_nats_high": "High", "top1_agreement": "Same token", "top1_agreement_low": "Low ",
             "top1_agreement_high": "High ", "next_logprob_difference": "|Δ ln p|", "positions": "Positions",
             "mass_seen": "Mass seen",
             "reference": "Compared with"}
    each = known.unique("numerics_id", maintain_order=True).with_columns(label=pl.coalesce("variant", "engine"))
    _frame.table(each.select("label", *names).rename({"label": "Engine"} | names), key="comparisons", select=False)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("KL divergence is a lower bound over the tokens that both told; mass seen: their mean probability, "
                   "the nearer to 1 the tighter. Setups that differ only in batching share a comparison.")
        st.space("stretch")
        _frame.download(known, "quality")
    scores = _data.scores(scope.model)
    if not scores.is_empty():
        st.markdown("**Scores of tasks** (lm-evaluation-harness)")
        _frame.table(scores, key="scores", select=False)
        _frame.download(scores, "scores")
