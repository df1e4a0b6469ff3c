"""Limits on latencies: `ttft_ms_p95<=500 and tpot_ms_p99.9<=50`, any metric, its mean or any percentile.

TTFT and E2E are judged from the instant a request was meant to be sent: a queue in the client counts too.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from models.errors import UserError
from models.identity import Record
from models.latencies import LATENCIES, STATISTICS, inter_token, latencies

if TYPE_CHECKING:
    import polars as pl

_TERM = re.compile(r"([a-z0-9_.]+?)\s*(<=|<|≤|>=|>|≥|=)\s*(\S+)", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+")
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?)")
_PERCENTILE_AT_END = re.compile(r"_p(\d{1,2}(?:\.\d+)?)$")
_BETWEEN = re.compile(r"\s*[,;]\s*|\s+and\s+|\s+(?=[a-z])", re.IGNORECASE)


class Limit(Record):
    """One upper bound on one metric."""

    metric: str
    at_most: float

    def __str__(self) -> str:
        return f"{self.metric} ≤ {self.at_most:g}"

    @property
    def latency(self) -> str:
        """`ttft_ms` of `ttft_ms_p95`."""
        return self.metric.rpartition("_")[0]

    @property
    def statistic(self) -> str:
        """`p95` of `ttft_ms_p95`, or `mean`."""
        return self.metric.rpartition("_")[2]

    @property
    def quantile(self) -> float | None:
        """0.95 of `ttft_ms_p95`; None of a mean."""
        found = _PERCENTILE.fullmatch(self.statistic)
        return float(found[1]) / 100 if found else None

    @property
    def judged(self) -> str:
        """The latency that is compared: TTFT and E2E from the planned instant."""
        return re.sub(r"^(ttft|e2e)_ms$", r"\1_from_schedule_ms", self.latency)

    @cached_property
    def column(self) -> str:
        """Of `measurements`: `ttft_from_schedule_ms_p95` of `ttft_ms_p95`."""
        return f"{self.judged}_{self.statistic}"

    def raised(self, value: float) -> Limit:
        """The limit that `value` keeps: itself, or one at it (to three digits, never below)."""
        if value <= self.at_most:
            return self
        step = 10.0 ** (math.floor(math.log10(value)) - 2)
        rounded = float(f"{math.ceil(value / step * (1 - 1e-12)) * step:.6g}")
        return Limit(metric=self.metric, at_most=max(rounded, value))


@lru_cache(256)
def parse(text: str, stored: bool = True) -> tuple[Limit, ...]:
    """Parses limits separated by spaces, commas or `and`. Raises UserError naming the part it cannot read.

    stored: they will be compared with points of the warehouse, which keep the percentiles of STATISTICS only.
    """
    limits = tuple(_limit(part, stored) for part in _BETWEEN.split(text.strip()) if part)
    if not limits:
        raise UserError("no limits: write METRIC_STATISTIC<=NUMBER, such as ttft_ms_p95<=500")
    return limits


def _limit(part: str, stored: bool) -> Limit:
    match = _TERM.fullmatch(part)
    if not match:
        raise UserError(f"limit {part!r}: write METRIC_STATISTIC<=NUMBER, such as ttft_ms_p95<=500")
    name, sign, number = match[1].lower(), match[2], match[3]
    name = _PERCENTILE_AT_END.sub(lambda found: f"_p{float(found[1]):g}", name)  # p95.0 is p95
    if sign not in ("<=", "<", "≤"):
        raise UserError(f"limit {part!r}: limits are upper bounds, write {name}<={number}")
    if not _NUMBER.fullmatch(number) or float(number) <= 0:
        raise UserError(f"limit {part!r}: {number!r} is not a number above 0 (milliseconds, without the unit)")
    limit = Limit(metric=name, at_most=float(number))
    if limit.latency not in LATENCIES:
        raise UserError(f"limit {part!r}: {_unknown(limit)}; metrics are {', '.join(LATENCIES)}")
    if limit.statistic != "mean" and not limit.quantile:
        raise UserError(f"limit {part!r}: {limit.statistic!r} is neither mean nor a percentile above p0 and below p100,"
                        " such as p95 or p99.9")
    if stored and limit.statistic not in STATISTICS:
        raise UserError(f"limit {part!r}: {_not_stored(limit)}")
    return limit


def _unknown(limit: Limit) -> str:
    """What is wrong with the metric's name, with the likeliest one."""
    whole = limit.metric if limit.metric in LATENCIES else limit.latency or limit.metric
    if whole in LATENCIES:
        return f"say which statistic, such as {whole}_p95"
    close = difflib.get_close_matches(whole, LATENCIES, 1, 0.5)
    statistic = limit.statistic if limit.quantile or limit.statistic == "mean" else "p95"
    return f"there is no metric {whole!r}" + (f", perhaps {close[0]}_{statistic}" if close else "")


def _not_stored(limit: Limit) -> str:
    return (f"{limit.statistic} is not stored with a point, only {', '.join(STATISTICS)} are; another percentile has to"
            " be searched with (dyno capacity) or taken from the requests (dyno sql \"from latencies\")")


def misses(row: Mapping[str, object], limits: tuple[Limit, ...]) -> list[str]:
    """Returns the metrics of a warehouse row that exceed their limit, or were not measured.

    Raises UserError for a percentile that rows do not hold: that is no miss, but a question they cannot answer.
    """
    missed = []
    for limit in limits:
        if limit.statistic not in STATISTICS:
            raise UserError(f"limit {limit}: {_not_stored(limit)}")
        value = row.get(f"{limit.judged}_{limit.statistic}")
        if not isinstance(value, int | float) or value > limit.at_most:
            missed.append(limit.metric)
    return missed


def values(requests: pl.DataFrame, limits: tuple[Limit, ...]) -> dict[str, float | None]:
    """Returns each limit's metric over the measured requests that succeeded, by its name; None where none has it."""
    import polars as pl

    ok = requests.filter((pl.col("phase") == "measured") & (pl.col("outcome") == "ok"))
    each = latencies(ok)
    found: dict[str, float | None] = {}
    for limit in limits:
        series = (inter_token(ok) if limit.latency == "itl_ms" else each[limit.judged]).drop_nulls()
        value = series.mean() if limit.quantile is None else series.quantile(limit.quantile, "linear")
        found[limit.metric] = float(value) if isinstance(value, int | float) else None
    return found


def share_within(requests: pl.DataFrame, limits: tuple[Limit, ...]) -> float:
    """Returns which share of the measured requests keeps every limit by itself: goodput over throughput.

    A request that failed keeps none, one without a second token keeps those on TPOT and ITL. An ITL limit is compared
    with that statistic of the request's own gaps. 0 when nothing was measured.
    """
    import polars as pl

    measured = requests.filter(pl.col("phase") == "measured")
    if measured.is_empty():
        return 0.0
    each = latencies(measured)
    keeps = measured["outcome"] == "ok"
    for limit in limits:
        own = _own_gaps(measured, limit) if limit.latency == "itl_ms" else each[limit.judged]
        keeps &= (own <= limit.at_most).fill_null(limit.latency in ("tpot_ms", "itl_ms"))
    return float(keeps.sum()) / measured.height


def _own_gaps(requests: pl.DataFrame, limit: Limit) -> pl.Series:
    import polars as pl

    gap = pl.element().diff() / 1e6
    one = gap.mean() if limit.quantile is None else gap.drop_nulls().quantile(limit.quantile, "linear")
    return requests.select(pl.col("chunk_ns").list.eval(one).list.first())["chunk_ns"]


def requests_needed(limits: tuple[Limit, ...]) -> int:
    """Returns from how many requests on every percentile is more than the largest value: 1/(1 − q)."""
    return max((math.ceil(round(1 / (1 - q), 6)) for limit in limits if (q := limit.quantile)), default=1)
