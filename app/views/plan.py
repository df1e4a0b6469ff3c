"""Plan: what formulas of three levels say, beside what was measured, and how wrong each is."""

from __future__ import annotations

import polars as pl
import streamlit as st

from app.views import _data, _empty, _fits, _frame, _levels, _plan_charts, _scope, _state, _style
from app.views._scope import Scope

WHAT = {"capacity": "Capacity within the limits", "throughput": "Throughput", "tpot": "TPOT", "ttft": "TTFT",
        "memory": "Memory"}
CURVES = {"throughput": "throughput", "tpot": "TPOT", "ttft": "TTFT"}
NOTES = {
    "capacity": "Requests a second of one instance within the limits. Rough: users ÷ the mean response time. "
                "Architecture: what memory bandwidth allows, an upper bound. Calibrated: the curve over the measured "
                "levels, with its 90 % interval. Measured: the largest measured level that keeps the limits.",
    "throughput": "Rough: concurrency × output tokens ÷ mean response time (the survey's). Architecture: what memory "
                  "bandwidth allows, an upper bound. Calibrated: the curve over the setup's other points, the point "
                  "itself left out.",
    "tpot": "Architecture: reading weights and caches at the machine's bandwidth, a lower bound. Calibrated: the curve "
            "over the setup's other points, the point itself left out.",
    "ttft": "Calibrated: the curve over the setup's other points, the point itself left out.",
    "memory": "Rough: 16-bit weights and the survey's KV formula. Architecture: real bits a weight, cache by layer and "
              "block, the engine's overheads. Measured: what the engine told when it started."}


def page() -> None:
    """Draws the page."""
    scope = _scope.current()
    if scope is None:
        _empty.nothing_measured(_data.failures())
        return
    what = _state.pick("What is planned", list(WHAT), "what", text=WHAT.__getitem__)
    if what == "capacity":
        _capacity(scope)
    elif what == "memory":
        _memory(scope)
    else:
        _predicted(scope, what)
    _calibrations(scope)


def _capacity(scope: Scope) -> None:
    found, refused = _levels.served(scope.rows, scope.limits, _fits.shape(scope.model))
    if found.is_empty():
        st.warning("Nothing measured in a closed loop keeps the limits: raise them in the side bar."
                   + "".join(f"  \n{line}" for line in refused[:3]))
        return
    _plan_charts.capacity(found)
    st.caption(NOTES["capacity"])
    wide = found.pivot("level", index="setup", values="requests_per_second")
    order = [level for level in _levels.LEVELS if level in wide.columns]
    spans = found.filter(pl.col("level") == "calibrated").select("setup", "low", "high", "error", "how")
    frame = wide.select("setup", *order).join(spans, on="setup", how="left", maintain_order="left") \
        .with_columns(pl.col("error") * 100)
    names = {"setup": "Setup", **{v: f"{v.capitalize()}, req/s" for v in order}, "low": "Low", "high": "High",
             "error": "Error %", "how": "Calibrated on"}
    _frame.table(frame.rename(names), key="capacity", select=False)
    _foot(found, "capacity", "Error: of the calibrated throughput, inner points left out in turn.")
    if refused:
        with st.expander(f"What keeps the limits at no load: {_style.count(len(refused), 'setup')}"):
            st.markdown("\n".join(f"- {line}" for line in refused))


def _predicted(scope: Scope, quantity: str) -> None:
    found = _fits.predictions((scope.model, scope.hardware, scope.workload))
    kept = scope.rows["setup_shown"].unique().to_list()
    found = found.filter((pl.col("quantity") == quantity) & pl.col("setup").is_in(kept))
    if found.is_empty():
        st.info("Nothing can be predicted here: it takes closed loops at three concurrencies, or a machine whose "
                "bandwidth and a model whose weights are known.")
        return
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.markdown(f"**{_levels.SHOWN[quantity]}**: predicted against measured")
        _plan_charts.against(found, _levels.SHOWN[quantity])
    with right:
        st.markdown("**How wrong**")
        errors = _levels.errors(found)
        shown = errors.select(
            pl.col("level").alias("Level"), (100 * pl.col("mean")).alias("Mean error %"),
            (100 * pl.col("median")).alias("Median %"), (100 * pl.col("inside")).alias("In the 90 % interval %"),
            pl.col("points").alias("Points"))
        _frame.table(shown, key="errors", select=False, lower=["Mean error %"])
        st.caption(NOTES[quantity])
    _foot(found, f"predicted-{quantity}", "On the line a prediction is right. Bars: 90 % intervals.")


def _memory(scope: Scope) -> None:
    found = _levels.of_memory(_fits.launches(scope.model, scope.hardware))
    if found.is_empty():
        st.info("No engine told of its memory here, or the model's shape is not known. `dyno plan memory MODEL` plans "
                "without a measurement.")
        return
    quantity = _state.pick("Of", found["quantity"].unique(maintain_order=True).to_list(), "of")
    data = found.filter(pl.col("quantity") == quantity)
    _plan_charts.memory(data, quantity)
    names = {"setup": "Launch", "quantity": "Quantity", "rough": "Rough", "architecture": "Architecture",
             "measured": "Measured", "rough_off": "Rough off by %", "architecture_off": "Architecture off by %"}
    _frame.table(data.rename(names), key="memory", select=False)
    _foot(found, "memory", NOTES["memory"])


def _calibrations(scope: Scope) -> None:
    """The error table of the fits in use, and what surprised them."""
    known = _fits.calibrations().filter((pl.col("model") == scope.model) & (pl.col("hardware") == scope.hardware)
                                        & (pl.col("workload") == scope.workload))
    st.markdown("**Calibrated curves in use**")
    if known.is_empty():
        st.info("Nothing is calibrated here yet: `dyno evaluate` does it after each run, for setups measured at two "
                "concurrencies at least.")
        return
    frame = known.select(
        pl.col("setup").alias("Setup"), pl.col("quantity").replace(CURVES).alias("Quantity"),
        (100 * pl.col("error")).alias("Error %"), pl.col("error_points").alias("of points"),
        pl.col("knee").alias("Knee, at once"), pl.col("concurrency_low").alias("From, at once"),
        pl.col("concurrency_high").alias("To"), pl.col("trial_ids").list.len().alias("Points"),
        pl.col("calibrated_at").dt.strftime("%Y-%m-%d %H:%M").alias("Calibrated (UTC)"))
    _frame.table(frame, key="calibrations", select=False, height="auto" if frame.height > 10 else "content")
    _foot(known, "calibrations", "Error: mean absolute percentage error, inner points left out one at a time; none "
          "with fewer than three concurrencies. Knee: requests served at once at most.")
    surprises = _fits.surprises().filter(pl.col("workload") == scope.workload)
    if surprises.is_empty():
        return
    with st.expander(f"What the curves had not foreseen: {_style.count(surprises.height, 'figure')}"):
        shown = surprises.select("setup", "quantity", "concurrency", "measured", "predicted", "low", "high", "trial_id")
        _frame.table(shown, key="surprises", select=False, height="auto" if shown.height > 10 else "content")
        _frame.download(surprises, "surprises")


def _foot(frame: pl.DataFrame, name: str, text: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(text)
        st.space("stretch")
        _frame.download(frame, name)
