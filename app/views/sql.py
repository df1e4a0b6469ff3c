"""SQL: any question, read-only, beside a list of what can be asked."""

from __future__ import annotations

import html

import altair as alt
import polars as pl
import streamlit as st

from app.views import _data, _frame, _state, _style
from models.errors import QueryError

ROWS_SHOWN = 10_000
EXAMPLES = {
    "The cheapest within limits": """from measurements
select setup, workload, load, ttft_from_schedule_ms_p95, tpot_ms_p95, output_tokens_per_second,
       usd_per_million_output_tokens, trial_id
where not fatal and ttft_from_schedule_ms_p95 <= 500 and tpot_ms_p95 <= 50
order by usd_per_million_output_tokens
limit 10""",
    "What batching gains": """select quantization, workload, concurrency,
       max(output_tokens_per_second) filter (max_sequences = 4) as four_slots,
       max(output_tokens_per_second) filter (max_sequences = 1) as one_slot,
       four_slots / one_slot as gain
from measurements where variant = 'llama-server' and concurrency is not null
group by all having gain is not null order by workload, concurrency, quantization""",
    "Bandwidth that decoding draws": """select quantization, model_bytes / 1e6 as model_mb, tpot_ms_p50,
       model_bytes / tpot_ms_p50 / 1e6 as gb_per_second, memory_bandwidth_gb_s as machine_gb_per_second, workload
from measurements where concurrency = 1 and max_sequences = 1
order by workload, model_mb desc""",
    "The slowest requests": """select m.setup, m.load, l.*
from latencies l join measurements m using (trial_id)
where phase = 'measured' and outcome = 'ok'
order by ttft_from_schedule_ms desc limit 20""",
    "Gaps between chunks, one run": """select (at_ms / 1000)::int as second, count(*) as chunks,
       avg(itl_ms) as itl_ms_mean, quantile_cont(itl_ms, 0.95) as itl_ms_p95
from chunks where trial_id = (select trial_id from measurements order by started_at desc limit 1)
group by all order by second""",
    "Every price of every point": """from costs
select setup, workload, load, tier, date, price_usd_per_hour, usd_per_million_output_tokens, usd_per_qps_hour, applied
order by usd_per_million_output_tokens limit 50""",
    "Numbers recomputed from requests": """select metric, m.value as stored, r.value as recomputed,
       m.value - r.value as difference
from metrics m join recomputed r using (trial_id, metric)
order by abs(difference) desc limit 20""",
    "Verdicts, and how often": """select name, severity, count(*) as trials, any_value(detail) as for_example
from verdicts group by all order by trials desc""",
    "Launches that failed": "from failures select failed_at, setup_label, stage, error, command",
}
ROW, NO_COLOUR = "row", "none"
COLUMN_STYLE = """
dl.columns {font-size: .82rem; margin: 0; padding: 0; line-height: 1.35}
dl.columns dt {font-weight: 400; margin-top: .35rem}
dl.columns dd {margin: 0; opacity: .7} dl.columns small {opacity: .6}"""
KINDS = ("bars", "lines", "points")


def page() -> None:
    """Draws the page."""
    with st.sidebar:
        _browser()
    sql = _editor()
    try:
        frame = _data.answer(sql)
    except QueryError as error:
        st.error(str(error).replace("\n", "  \n"))
        return
    _result(frame)
    _chart(frame)


def _editor() -> str:
    if "sql" not in st.session_state:
        st.session_state["sql"] = _state.wanted("q") or next(iter(EXAMPLES.values()))
    st.selectbox("Examples", list(EXAMPLES), index=None, key="example", placeholder="worked examples",
                 on_change=_take_example, label_visibility="collapsed")
    sql = st.text_area("SQL", key="sql", height=190, label_visibility="collapsed",
                       help="DuckDB's SQL, read-only. Ctrl+Enter runs it.")
    _state.keep("q", sql)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Run", type="primary", shortcut="Ctrl+Enter")
        st.caption("DuckDB's SQL, read-only. The address of this page holds the question.")
    return sql


def _take_example() -> None:
    if st.session_state["example"]:
        st.session_state["sql"] = EXAMPLES[st.session_state["example"]]


def _result(frame: pl.DataFrame) -> None:
    _frame.table(frame.head(ROWS_SHOWN), key="sql", select=False, height="auto" if frame.height > 10 else "content")
    with st.container(horizontal=True, vertical_alignment="center"):
        text = f"{_style.count(frame.height, 'row')}, {_style.count(frame.width, 'column')}"
        text += f"; the first {_style.shown(ROWS_SHOWN)} are shown" if frame.height > ROWS_SHOWN else ""
        st.caption(text + ("; `dyno sql` gives all that may be beyond" if frame.height == _data.ROWS_MAX else ""))
        st.space("stretch")
        _frame.download(frame, "sql", parquet=True)


def _chart(frame: pl.DataFrame) -> None:
    """A simple chart of the result: any two columns, coloured by a third."""
    numbers = [c for c in frame.columns if frame.schema[c].is_numeric()]
    others = [c for c in frame.columns if c not in numbers and not frame.schema[c].is_nested()]
    if frame.height < 2 or not numbers:
        return
    unique = next((c for c in others if frame[c].n_unique() == frame.height), ROW)
    options = [ROW, *others, *numbers]
    kind, across, up, by = st.columns(4)
    with kind:
        mark = _state.choose("Chart", KINDS, "chart")
    with across:
        x = _state.choose("Of each", options, "x", default=unique)
    with up:
        y = _state.choose("Value", numbers, "y", default=numbers[-1])
    with by:
        colour = _state.choose("Colour", [NO_COLOUR, *others], "colour")
    group = None if colour == NO_COLOUR else colour
    chosen = {"x": pl.int_range(1, pl.len() + 1).alias("x") if x == ROW else pl.col(x).alias("x"),
              "y": pl.col(y).alias("y")} | ({"colour": pl.col(group).cast(pl.String).alias("colour")} if group else {})
    data = frame.head(ROWS_SHOWN).select(chosen.values())
    titles = {"x": x, "y": y} | ({"colour": group} if group else {})
    st.altair_chart(_drawn(data, titles, mark), key="chart")


def _drawn(data: pl.DataFrame, titles: dict[str, str], mark: str) -> alt.Chart:
    """Bars lie on their side, so that names can be read."""
    x_type = "N" if mark == "bars" else "Q" if data.schema["x"].is_numeric() else (
        "T" if data.schema["x"].is_temporal() else "N")
    tooltip = [alt.Tooltip(name, title=title) for name, title in titles.items()]
    colour = alt.Color("colour:N", title=titles["colour"], scale=_style.colours(
        data["colour"].drop_nulls())) if "colour" in titles else alt.value(_style.COLOURS["llama-server"])
    base = alt.Chart(data)
    chart: alt.Chart
    if mark == "bars":
        chart = base.mark_bar().encode(x=alt.X("y:Q", title=titles["y"], axis=_style.axis()), y=alt.Y(
            "x:N", title=titles["x"], sort=None, axis=alt.Axis(labelLimit=260)), color=colour, tooltip=tooltip)
        return chart.properties(height=alt.Step(20))
    shapes = base.mark_line(point=True) if mark == "lines" else base.mark_point(filled=True)
    chart = shapes.encode(x=alt.X(f"x:{x_type}", title=titles["x"], sort=None), color=colour, tooltip=tooltip,
                          y=alt.Y("y:Q", title=titles["y"], axis=_style.axis()))
    return chart.properties(height=340)


def _browser() -> None:
    """Tables and views with their columns and what they mean."""
    schema = _data.schema()
    names = schema["name"].unique(maintain_order=True).to_list()
    counts = dict(schema.group_by("name").len().iter_rows())
    name = st.selectbox("What can be asked", names, format_func=lambda n: f"{n} ({counts[n]} columns)", key="relation")
    rows = schema.filter(pl.col("name") == name)
    st.caption(rows["about"][0] or "")
    items = "".join(
        f"<dt><code>{html.escape(r['column'])}</code> <small>{html.escape(r['type'].lower())}</small></dt>"
        f"<dd>{html.escape(r['comment'] or '')}</dd>" for r in rows.to_dicts())
    st.html(f"<style>{COLUMN_STYLE}</style><dl class='columns'>{items}</dl>")
