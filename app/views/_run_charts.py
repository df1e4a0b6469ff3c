"""The charts and the table of one run."""

from __future__ import annotations

import altair as alt
import polars as pl

from app.views import _style
from models.summary import latencies, window_ns

SHOWN_MAX = 300
SECOND_NS = 1e9
SOURCES = {"engine": "#0072B2", "host": "#8c8c8c", "client": "#E69F00", "gauges": "#009E73"}
NAMES = {"cpu_percent": "CPU, % of one core", "rss_bytes": "resident memory, MiB",
         "memory_used_bytes": "memory used, MiB", "gpu_percent": "GPU busy, %", "power_watts": "power, W",
         "energy_joules": "energy since the start, J", "engine_processes": "the engine's processes on a GPU"}
FEW_SAMPLES = 40


def metrics(samples: pl.DataFrame) -> list[str]:
    """The metrics sampled, the machine's own before the engine's gauges."""
    return sorted(samples["metric"].unique(), key=lambda m: (m not in NAMES, m))


def name(metric: str) -> str:
    """`requests_running` → `requests running`; bytes are shown in MiB."""
    return NAMES.get(metric) or metric.replace("_bytes", ", MiB").replace("_", " ")


def bars(requests: pl.DataFrame) -> pl.DataFrame:
    """One row a request and stage, in seconds since the run's start; failed requests end where they failed."""
    sent = requests.filter(pl.col("sent_ns").is_not_null()).sort("request_index").head(SHOWN_MAX)
    first, done = pl.coalesce("first_token_ns", "done_ns"), pl.coalesce("done_ns", "last_token_ns")
    planned, begun = pl.col("planned_ns"), pl.col("sent_ns")
    spans = ((planned, begun), (begun, first), (first, done))
    frames = [sent.select("request_index", "phase", "outcome", "input_tokens", "output_tokens", stage=pl.lit(stage),
                          begin_s=_seconds(begin), end_s=_seconds(end))
              for stage, (begin, end) in zip(_style.PHASES, spans, strict=True)]
    both = pl.concat(frames).filter(pl.col("end_s") > pl.col("begin_s"))
    return both.with_columns(ms=(pl.col("end_s") - pl.col("begin_s")) * 1e3).sort("request_index", "begin_s")


def _seconds(stamp: pl.Expr) -> pl.Expr:
    return stamp / SECOND_NS


def timeline(spans: pl.DataFrame, requests: pl.DataFrame) -> alt.LayerChart:
    """A bar a request, coloured by stage; the window of the rates between two lines."""
    count = spans["request_index"].n_unique()
    data = spans.with_columns(shown=pl.Series([_style.shown(v) for v in spans["ms"]]))
    chart = alt.Chart(data).mark_bar(height=alt.RelativeBandSize(0.8)).encode(
        x=alt.X("begin_s:Q", title="Seconds since the run's start", axis=_style.axis(12)), x2="end_s:Q",
        y=alt.Y("request_index:O", title="Request", axis=alt.Axis(labelOverlap=True, ticks=False)),
        color=alt.Color("stage:N", title=None, legend=alt.Legend(orient="top"),
                        scale=alt.Scale(domain=list(_style.PHASES), range=list(_style.PHASES.values()))),
        opacity=alt.condition("datum.phase == 'measured'", alt.value(1), alt.value(0.35)),
        tooltip=[alt.Tooltip("request_index", title="Request"), alt.Tooltip("stage", title="Stage"),
                 alt.Tooltip("shown", title="ms"), "phase", "outcome", alt.Tooltip("input_tokens", title="tokens in"),
                 alt.Tooltip("output_tokens", title="tokens out")])
    failed = alt.Chart(data.filter(pl.col("outcome") != "ok").unique("request_index", keep="last")).mark_text(
        align="left", dx=4, color="#D55E00").encode(x="end_s:Q", y="request_index:O", text="outcome:N")
    window = window_ns(requests)
    edges = pl.DataFrame({"at": [w / SECOND_NS for w in window or ()]}, schema={"at": pl.Float64})
    rules = alt.Chart(edges).mark_rule(color=_style.MUTED, strokeDash=[4, 3]).encode(x="at:Q")
    layers: alt.LayerChart = (chart + failed + rules).properties(height=max(160, min(620, 9 * count)))
    return layers


def telemetry(samples: pl.DataFrame, metric: str) -> alt.Chart:
    """One small chart of one metric, a line a source."""
    divisor = 2.0**20 if metric.endswith("_bytes") else 1.0
    data = samples.select("source", at_s=_seconds(pl.col("at_ns")), value=pl.col("value") / divisor)
    sources = data["source"].unique().sort().to_list()
    colours = [SOURCES.get(s) or _style.colour(s) for s in sources]
    base = alt.Chart(data).mark_line(strokeWidth=1.5, point={"size": 18} if data.height < FEW_SAMPLES else False)
    chart: alt.Chart = base.encode(
        x=alt.X("at_s:Q", title="s", axis=_style.axis()), y=alt.Y("value:Q", title=None, axis=_style.axis(4)),
        color=alt.Color("source:N", title=None, scale=alt.Scale(domain=sources, range=colours),
                        legend=alt.Legend(orient="top", offset=4) if len(sources) > 1 else None),
        tooltip=["source", alt.Tooltip("at_s", format=".2f"), alt.Tooltip("value", format=".3~s")],
    ).properties(height=210 if len(sources) > 1 else 175)
    return chart


def table(requests: pl.DataFrame) -> pl.DataFrame:
    """What a person looks for in a request; the download has every column."""
    each = requests.select("request_index", "phase", "outcome", "input_tokens", "output_tokens", "planned_ns", "error",
                           "finish_reason").join(latencies(requests), on="request_index", how="left",
                                                 maintain_order="left")
    return each.select(
        pl.col("request_index").alias("Request"), pl.col("phase").alias("Phase"),
        pl.col("outcome").alias("Outcome"), pl.col("input_tokens").alias("Tokens in"),
        pl.col("output_tokens").alias("Tokens out"), (pl.col("planned_ns") / SECOND_NS).alias("Planned s"),
        pl.col("send_delay_ms").alias("Send delay ms"), pl.col("ttft_from_schedule_ms").alias("TTFT ms"),
        pl.col("tpot_ms").alias("TPOT ms"), pl.col("e2e_from_schedule_ms").alias("E2E ms"),
        pl.col("finish_reason").fill_null("—").alias("Finish"), pl.col("error").fill_null("").alias("Error"))
