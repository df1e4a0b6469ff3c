"""What the pages read: cached by snapshot, so that a page is instant and a new snapshot is seen at once."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import streamlit as st

from models import paths
from warehouse import reader
from warehouse.bundles import Bundle

Stamp = tuple[int, int] | None
WATCH_S = 5

EXTRAS = ("engine_version", "kv_type", "max_batched_tokens", "prefill_chunk_tokens", "prefix_caching", "context_tokens",
          "threads", "tensor_parallel", "memory_fraction", "scheduling_policy", "runtime", "image")
"""Settings of a setup that are shown only where they differ between setups."""


def home() -> Path:
    """The home this explorer shows."""
    return paths.home()


def measurements() -> pl.DataFrame:
    """The `measurements` view, with `engine_shown` (the server) and `setup_shown` (a name no two setups share)."""
    return _measurements(str(home()), reader.stamp(home()))


def failures() -> pl.DataFrame:
    """Launches that failed, newest first."""
    return _query(str(home()), reader.stamp(home()), "from failures order by failed_at desc")


def capabilities() -> pl.DataFrame:
    """What each engine can do, in the adapters' order, with `label` (the server); empty in an older snapshot."""
    if "capabilities" not in schema()["name"]:
        return pl.DataFrame()
    return _query(str(home()), reader.stamp(home()), "select *, coalesce(variant, engine) as label from capabilities "
                  "order by engine, variant nulls first, position")


def measured_versions() -> pl.DataFrame:
    """Servers by engine version, with how often each was measured; the newest measured first."""
    return _query(str(home()), reader.stamp(home()),
                  "select coalesce(variant, engine) as label, engine_version, count(*) as trials from measurements "
                  "group by all order by max(started_at) desc")


def requests(trial_id: str) -> pl.DataFrame:
    """The requests of one trial."""
    return _requests(str(home()), reader.stamp(home()), trial_id)


def telemetry(trial_id: str) -> pl.DataFrame:
    """The telemetry of one trial."""
    return _telemetry(str(home()), reader.stamp(home()), trial_id)


def verdicts(trial_id: str) -> pl.DataFrame:
    """The verdicts on one trial, worst first."""
    order = "case severity when 'fatal' then 0 when 'warning' then 1 else 2 end, position"
    frame = _query(str(home()), reader.stamp(home()), f"from verdicts order by {order}")
    return frame.filter(pl.col("trial_id") == trial_id)


def schema() -> pl.DataFrame:
    """Tables, views and columns that SQL can ask for."""
    return _schema(str(home()), reader.stamp(home()))


def answer(sql: str) -> pl.DataFrame:
    """A person's SQL. Raises QueryError."""
    return _answer(str(home()), reader.stamp(home()), sql)


def bundle(trial_id: str) -> Bundle:
    """One trial's bundle from disk. Raises UserError or BundleError."""
    return reader.bundle_of(home(), trial_id)


@st.fragment(run_every=WATCH_S)
def watch() -> None:
    """Draws the page again as soon as a newer snapshot is published."""
    now = reader.stamp(home())
    if st.session_state.setdefault("stamp", now) != now:
        st.session_state["stamp"] = now
        st.rerun()


@st.cache_data(max_entries=4, show_spinner=False)
def _measurements(where: str, stamp: Stamp) -> pl.DataFrame:
    frame = reader.query(Path(where), "from measurements order by started_at desc")
    frame = frame.with_columns(engine_shown=pl.coalesce("variant", "engine"))
    return frame.with_columns(setup_shown=_names(frame))


def _names(frame: pl.DataFrame) -> pl.Series:
    """`llama-server Q8_0, 4 slots`, plus whatever else tells two setups of one model apart."""
    slots = pl.col("max_sequences")
    name = pl.col("engine_shown") + " " + pl.col("quantization") + pl.when(slots.is_null()).then(pl.lit("")).otherwise(
        pl.format(", {} slot", slots) + pl.when(slots == 1).then(pl.lit("")).otherwise(pl.lit("s")))
    frame = frame.with_columns(name=name)
    for extra in EXTRAS:
        same = ["model", "hardware", "name"]
        differs = pl.col(extra).cast(pl.String).n_unique().over(same) > 1
        text = pl.format("{}, {} {}", "name", pl.lit(extra.removesuffix("_tokens").replace("_", " ")),
                         pl.col(extra).cast(pl.String).fill_null("default"))
        frame = frame.with_columns(name=pl.when(differs).then(text).otherwise("name"))
    twins = pl.col("setup_id").n_unique().over("model", "hardware", "name") > 1
    shown = pl.when(twins).then(pl.format("{} ({})", "name", pl.col("setup_id").str.slice(0, 4))).otherwise("name")
    return frame.select(shown.alias("name"))["name"]


@st.cache_data(max_entries=16, show_spinner=False)
def _query(where: str, stamp: Stamp, sql: str) -> pl.DataFrame:
    return reader.query(Path(where), sql)


@st.cache_data(max_entries=16, show_spinner=False)
def _requests(where: str, stamp: Stamp, trial_id: str) -> pl.DataFrame:
    return reader.requests(Path(where), trial_id)


@st.cache_data(max_entries=16, show_spinner=False)
def _telemetry(where: str, stamp: Stamp, trial_id: str) -> pl.DataFrame:
    return reader.telemetry(Path(where), trial_id)


@st.cache_data(max_entries=4, show_spinner=False)
def _schema(where: str, stamp: Stamp) -> pl.DataFrame:
    return reader.schema(Path(where))


@st.cache_data(max_entries=16, show_spinner="asking the warehouse")
def _answer(where: str, stamp: Stamp, sql: str) -> pl.DataFrame:
    return reader.user_sql(Path(where), sql)
