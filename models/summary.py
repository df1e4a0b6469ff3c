"""The only percentile code: from request columns to one `Summary`.

Definitions (the warehouse's `recomputed` view states the same in SQL, and a test holds the two together):
latencies are over measured requests whose outcome is `ok`; percentiles interpolate linearly between order statistics
(Hyndman and Fan 1996, type 7, as `quantile_cont` does); rates are over the window from the first measured request
sent to the last measured one ended, and count the tokens of every request that arrived in it.
"""

from __future__ import annotations

import polars as pl

from models.intervals import intervals
from models.latencies import LATENCIES, QUANTILES, STATISTICS, inter_token, latencies, window_ns
from models.records import Summary

__all__ = ("LATENCIES", "QUANTILES", "RATES", "STATISTICS", "TOTALS", "inter_token", "latencies", "rates", "statistics",
           "summarise", "totals", "window_ns")

RATES = ("requests_per_second", "output_tokens_per_second", "input_tokens_per_second")
TOTALS = ("input_tokens", "output_tokens", "cached_tokens", "input_tokens_mean", "output_tokens_mean",
          "input_tokens_planned_mean", "output_tokens_planned_mean", "chunks_per_output_token",
          "output_valid_share")


def statistics(name: str, values: pl.Series) -> dict[str, float]:
    """Returns `{name}_mean`, `{name}_p50`…; nothing when there are no values."""
    values = values.drop_nulls()
    if values.is_empty():
        return {}
    out = {f"{name}_mean": float(values.mean())}  # type: ignore[arg-type]
    for label, q in QUANTILES.items():
        out[f"{name}_{label}"] = float(values.quantile(q, "linear"))  # type: ignore[arg-type]
    return out


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
    valid = ok["output_valid"].drop_nulls()
    if len(valid):
        out["output_valid_share"] = float(valid.sum()) / len(valid)
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
                   window_s=seconds, metrics=metrics, intervals=intervals(requests, metrics))
