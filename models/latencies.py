"""What a request's stamps say: its latencies, the gaps between its chunks, the window of a run. The definitions that
every figure of dyno rests on (the warehouse's `latencies` view states them in SQL)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

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
MS = 1e6
"""nanoseconds in a millisecond"""


def latencies(requests: pl.DataFrame) -> pl.DataFrame:
    """Returns one row a request with the columns of LATENCIES except `itl_ms`; null where a stamp is missing."""
    import polars as pl

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
    import polars as pl

    gaps = requests.select(pl.col("chunk_ns").list.diff(null_behavior="drop").alias("gap"))
    gaps = gaps.filter(pl.col("gap").list.len() > 0)
    return (gaps.explode("gap")["gap"] / MS).alias("itl_ms")


def window_ns(requests: pl.DataFrame) -> tuple[int, int] | None:
    """Returns first sent and last ended instant of the measured requests, or None when none was answered."""
    import polars as pl

    ran = requests.filter((pl.col("phase") == "measured") & pl.col("sent_ns").is_not_null())
    start, end = ran["sent_ns"].min(), ran["done_ns"].max()
    if not isinstance(start, int) or not isinstance(end, int) or end <= start:
        return None
    return start, end
