"""What the pages read: cached by snapshot, so that a page is instant and a new snapshot is seen at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import streamlit as st

from models import paths
from models.choosing.answer import Answer, needed
from models.choosing.choose import choose
from models.choosing.evidence import Evidence
from models.choosing.question import Question
from models.choosing.traffic import labelled
from models.errors import DynoError
from warehouse import evidence as warehouse_evidence
from warehouse import published, reader
from warehouse.bundles import Bundle

Stamp = tuple[int, int] | None
WATCH_S = 5
RUNS_SHOWN = 500
ROWS_MAX, MEMORY_MB = 100_000, 400
"""Of a person's SQL: what a browser, and the memory of the explorer, can take."""

EXTRAS = ("engine_version", "kv_type", "max_batched_tokens", "prefill_chunk_tokens", "prefix_caching", "context_tokens",
          "threads", "tensor_parallel", "memory_fraction", "scheduling_policy", "runtime", "image")
"""Settings of a setup that are shown only where they differ between setups."""


class Answered(NamedTuple):
    """An answer, and how many measured points of how many curves it was taken from."""

    answer: Answer
    points: int
    curves: int


def key() -> tuple[str, Stamp]:
    """What the shown snapshot is kept under."""
    return str(home()), published.stamp(home())


def stamp() -> Stamp:
    """Of the shown snapshot; None where there is none, or it is served and does not answer: the page says which."""
    try:
        return published.stamp(home())
    except DynoError:
        return None


def query(sql: str, *params: str) -> pl.DataFrame:
    """The explorer's own SQL, kept until the next snapshot."""
    return _query(*key(), sql, params)


def home() -> Path:
    """The home, or served warehouse, that this explorer shows."""
    return paths.warehouse()


def scopes() -> pl.DataFrame:
    """What can be compared: `model`, `hardware`, `workload` and how many `trials` each has."""
    return query(_SCOPES)


def measured(model: str, hardware: str) -> pl.DataFrame:
    """The `measurements` of a model on a machine, newest first, with `engine_shown` (the server) and `setup_shown` (a
    name no two of these setups share)."""
    return measured_at(*key(), model, hardware)


def runs(find: str = "") -> pl.DataFrame:
    """The newest RUNS_SHOWN `measurements` that hold the words `find`, with the names that people read."""
    return _runs(*key(), find)


def run(start: str) -> dict[str, Any] | None:
    """The newest trial whose id begins so; None where there is none."""
    found = query("select model, hardware, trial_id from measurements where starts_with(trial_id, ?) "
                  "order by started_at desc limit 1", start.lower())
    if found.is_empty():
        return None
    model, hardware, trial_id = found.row(0)
    return measured(model, hardware).row(by_predicate=pl.col("trial_id") == trial_id, named=True)


def held() -> dict[str, Any]:
    """What the warehouse holds, counted: trials, setups, models, servers, formats, workloads, machines, days."""
    return query(_HELD).row(0, named=True)


def prices(hardware_id: str) -> pl.DataFrame:
    """Every price of a machine, the one in use first."""
    return query("from hardware_prices where hardware_id = ? order by choice", hardware_id)


def intervals(trial_ids: list[str]) -> pl.DataFrame:
    """The 95 % intervals of trials' figures as JSON, by trial: metric → [low, high]."""
    return query("select trial_id, json_extract(measurement, '$.summary.intervals')::varchar as intervals from trials "
                 "where list_contains(string_split(?, ' '), trial_id)", " ".join(trial_ids))


def failures() -> pl.DataFrame:
    """Launches that failed, newest first."""
    return query("from failures order by failed_at desc")


def capabilities() -> pl.DataFrame:
    """What each engine can do, in the adapters' order, with `label` (the server); empty in an older snapshot."""
    if "capabilities" not in schema()["name"]:
        return pl.DataFrame()
    return query("select *, coalesce(variant, engine) as label from capabilities "
                 "order by engine, variant nulls first, position")


def measured_versions() -> pl.DataFrame:
    """Servers by engine version, with how often each was measured; the newest measured first."""
    return query("select coalesce(variant, engine) as label, engine_version, count(*) as trials from measurements "
                 "group by all order by max(started_at) desc")


def models() -> dict[str, int]:
    """Every model, with how often it was measured; the most measured first."""
    frame = query("select m.name, count(t.trial_id) as trials from models m left join setups using (model_id) "
                  "left join trials t using (setup_id) group by 1 order by trials desc, m.name")
    return dict(frame.iter_rows())


def evidence(model: str | None) -> Evidence:
    """What a question about a model (or a size) can be about, without points; None: every model. Raises UserError."""
    return _evidence(*key(), model)


def answered(question: Question) -> Answered:
    """The answer to a question. Raises UserError."""
    return _answered(*key(), question.model_dump_json())


def requests(trial_id: str) -> pl.DataFrame:
    """The requests of one trial."""
    return _requests(*key(), trial_id)


def telemetry(trial_id: str) -> pl.DataFrame:
    """The telemetry of one trial."""
    return _telemetry(*key(), trial_id)


def verdicts(trial_id: str) -> pl.DataFrame:
    """The verdicts on one trial, worst first."""
    return query("from verdicts where trial_id = ? order by case severity when 'fatal' then 0 when 'warning' then 1 "
                 "else 2 end, position", trial_id)


def schema() -> pl.DataFrame:
    """Tables, views and columns that SQL can ask for."""
    return _schema(*key())


def answer(sql: str) -> pl.DataFrame:
    """A person's SQL. Raises QueryError."""
    return _answer(*key(), sql)


def bundle(trial_id: str) -> Bundle:
    """One trial's bundle from disk. Raises UserError or BundleError."""
    return reader.bundle_of(home(), trial_id)


def quality() -> pl.DataFrame:
    """The `quality` view; setups that were measured only."""
    return query("from quality order by kl_nats, quantization")


def scores(model: str) -> pl.DataFrame:
    """Scores of tasks with a model."""
    return query("select coalesce(variant, engine) as engine, quantization, kv_type, task, metric, filter, value, "
                 "stderr, samples from scores where model = ? order by all", model)


@st.fragment(run_every=WATCH_S)
def watch() -> None:
    """Draws the page again as soon as a newer snapshot is published, or a served one answers again."""
    now = stamp()
    if st.session_state.setdefault("stamp", now) != now:
        st.session_state["stamp"] = now
        st.rerun()


@st.cache_data(max_entries=8, show_spinner="reading what was measured")
def measured_at(where: str, stamp: Stamp, model: str, hardware: str) -> pl.DataFrame:
    """`measured` in a snapshot: for what is itself cached by it."""
    frame = reader.query(Path(where), "from measurements where model = ? and hardware = ? order by started_at desc",
                         [model, hardware])
    return named(frame)


@st.cache_data(max_entries=16, show_spinner=False)
def _runs(where: str, stamp: Stamp, find: str) -> pl.DataFrame:
    return named(reader.newest(Path(where), RUNS_SHOWN, find.split()))


def named(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows of `measurements` with the names that people read."""
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


@st.cache_data(max_entries=32, show_spinner=False)
def _query(where: str, stamp: Stamp, sql: str, params: tuple[str, ...]) -> pl.DataFrame:
    return reader.query(Path(where), sql, list(params))


@st.cache_resource(max_entries=4, show_spinner="reading what was measured")
def _evidence(where: str, stamp: Stamp, model: str | None) -> Evidence:
    return warehouse_evidence.read(Path(where), model, points=False)


@st.cache_resource(max_entries=64, show_spinner="choosing")
def _answered(where: str, stamp: Stamp, question: str) -> Answered:
    asked = Question.model_validate_json(question)
    workload = asked.workload and labelled(asked.workload) if asked.input_tokens is None else None
    found = warehouse_evidence.read(Path(where), asked.model, workload, needed(asked.bounds))
    with_points = [curve for curve in found.curves if curve.points]
    return Answered(choose(asked, found), sum(len(curve.points) for curve in with_points), len(with_points))


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
    return reader.user_sql(Path(where), sql, ROWS_MAX, MEMORY_MB)


_SCOPES = """
    select m.name as model, h.name as hardware, w.workload, count(*) as trials
    from trials t join setups s using (setup_id) join models m using (model_id) join hardware h using (hardware_id)
    join workloads w using (workload_id) group by all"""
_HELD = """
    select count(*) as trials, count(distinct t.setup_id) as setups, count(distinct m.name) as models,
           count(distinct coalesce(e.variant, e.engine)) as servers, count(distinct s.quantization) as formats,
           count(distinct w.workload) as workloads, count(distinct h.name) as machines,
           min(t.started_at)::date as first, max(t.started_at)::date as last,
           (select count(distinct trial_id) from verdicts where severity = 'fatal') as distrusted,
           (select count(*) from failures) as failures
    from trials t join setups s using (setup_id) join models m using (model_id) join hardware h using (hardware_id)
    join workloads w using (workload_id) join engines e using (engine_id)"""
