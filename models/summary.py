"""The only percentile code: from request columns to one `Summary`.

Definitions (the warehouse's `recomputed` view states the same in SQL, and a test holds the two together):
latencies are over measured requests whose outcome is `ok`; percentiles interpolate linearly between order statistics
(Hyndman and Fan 1996, type 7, as `quantile_cont` does); rates are over the window from the first measured request
sent to the last measured one ended, and count the tokens of every request that arrived in it.
"""

from __future__ import annotations

import polars as pl

from models.records import Summary

LATENCIES = (
    "ttft_ms",                  # sent → first token of any kind
    "ttft_from_schedule_ms",    # meant to be sent → first token: shows what queued in the client
    "first_content_ms",         # sent → first token of the answer proper (after any reasoning)
    "tpot_ms",                  # mean time per output token after the first, a request at a time
    "itl_ms",                   # gaps between consecutive chunks, pooled over requests
    "e2e_ms",                   # sent → stream ended
    "e2e_from_schedule_ms",
    "send_delay_ms",            # meant to be sent → sent
)
STATISTICS = ("mean", "p50", "p90", "p95", "p99")
QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
RATES = ("requests_per_second", "output_tokens_per_second", "input_tokens_per_second")
TOTALS = ("input_tokens", "output_tokens", "cached_tokens", "input_tokens_mean", "output_tokens_mean",
          "input_tokens_planned_mean", "output_tokens_planned_mean", "chunks_per_output_token")

MS = 1e6
"""nanoseconds in a millisecond"""


def latencies(requests: pl.DataFrame) -> pl.DataFrame:
    """Returns one row a request with the columns of LATENCIES except `itl_ms`; null where a stamp is missing."""
    first, sent, planned, done = (pl.col(c) for c in ("first_token_ns", "sent_ns", "planned_ns", "done_ns"))
    many = pl.col("output_tokens") >= 2
    return requests.select(
        "request_index",
        ttft_ms=(first - sent) / MS,
        ttft_from_schedule_ms=(first - planned) / MS,
        first_content_ms=(pl.col("first_content_ns") - sent) / MS,
        tpot_ms=pl.when(many).then((pl.col("last_token_ns") - first) / MS / (pl.col("output_tokens") - 1)),
        e2e_ms=(done - sent) / MS,
        e2e_from_schedule_ms=(done - planned) / MS,
        send_delay_ms=(sent - planned) / MS,
    )


def inter_token(requests: pl.DataFrame) -> pl.Series:
    """Returns the gaps between consecutive chunks of each request in ms, pooled."""
    gaps = requests.select(pl.col("chunk_ns").list.diff(null_behavior="drop").alias("gap"))
    gaps = gaps.filter(pl.col("gap").list.len() > 0)
    return (gaps.explode("gap")["gap"] / MS).alias("itl_ms")


def statistics(name: str, values: pl.Series) -> dict[str, float]:
    """Returns `{name}_mean`, `{name}_p50`…; nothing when there are no values."""
    values = values.drop_nulls()
    if values.is_empty():
        return {}
    out = {f"{name}_mean": float(values.mean())}  # type: ignore[arg-type]
    for label, q in QUANTILES.items():
        out[f"{name}_{label}"] = float(values.quantile(q, "linear"))  # type: ignore[arg-type]
    return out


def window_ns(requests: pl.DataFrame) -> tuple[int, int] | None:
    """Returns first sent and last ended instant of the measured requests, or None when none was answered."""
    ran = requests.filter((pl.col("phase") == "measured") & pl.col("sent_ns").is_not_null())
    start, end = ran["sent_ns"].min(), ran["done_ns"].max()
    if not isinstance(start, int) or not isinstance(end, int) or end <= start:
        return None
    return start, end


def rates(requests: pl.DataFrame, start: int, end: int) -> dict[str, float]:
    """Returns the RATES over a window. A request's tokens are spread evenly over its chunks."""
    seconds = (end - start) / 1e9
    chunked = requests.filter((pl.col("chunk_ns").list.len() > 0) & pl.col("output_tokens").is_not_null())
    arrivals = chunked.select(
        tokens=pl.col("output_tokens") / pl.col("chunk_ns").list.len(), sent="sent_ns", chunk="chunk_ns",
    ).explode("chunk").filter((pl.col("sent") + pl.col("chunk")).is_between(start, end))
    ended = requests.filter((pl.col("outcome") == "ok") & (pl.col("done_ns") > start) & (pl.col("done_ns") <= end))
    per_second = ended.height / seconds
    measured = requests.filter((pl.col("phase") == "measured") & (pl.col("outcome") == "ok"))
    inputs = measured["input_tokens"].mean()
    out = {"requests_per_second": per_second, "output_tokens_per_second": float(arrivals["tokens"].sum()) / seconds}
    if isinstance(inputs, int | float):
        out["input_tokens_per_second"] = per_second * float(inputs)
    return out


def totals(ok: pl.DataFrame) -> dict[str, float]:
    """Returns token sums and means over the measured requests that succeeded."""
    out: dict[str, float] = {}
    for column in ("input_tokens", "output_tokens", "cached_tokens"):
        if ok[column].null_count() < ok.height:
            out[column] = float(ok[column].sum())
    for column in ("input_tokens", "output_tokens", "input_tokens_planned", "output_tokens_planned"):
        mean = ok[column].mean()
        if isinstance(mean, int | float):
            out[f"{column}_mean"] = float(mean)
    if out.get("output_tokens"):
        out["chunks_per_output_token"] = float(ok["chunk_ns"].list.len().sum()) / out["output_tokens"]
    return out


def summarise(requests: pl.DataFrame) -> Summary:
    """Summarises a frame with the columns of `models.frames.REQUESTS`. Failed requests count, but give no latency."""
    measured = requests.filter(pl.col("phase") == "measured")
    ok = measured.filter(pl.col("outcome") == "ok")
    metrics = totals(ok)
    each = latencies(ok)
    for name in LATENCIES:
        metrics |= statistics(name, inter_token(ok) if name == "itl_ms" else each[name])
    window = window_ns(requests)
    if window and ok.height:
        metrics |= rates(requests, *window)
    outcomes = {str(k): int(v) for k, v in measured.group_by("outcome").len().sort("outcome").iter_rows()}
    seconds = (window[1] - window[0]) / 1e9 if window else 0.0
    return Summary(requests_ok=ok.height, requests_failed=measured.height - ok.height, outcomes=outcomes,
                   window_s=seconds, metrics=metrics)
