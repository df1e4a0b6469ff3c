"""One probe of a capacity search: when it is clear what it says, and what that is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from models import intervals, slo
from models.latencies import MS, inter_token, latencies
from models.slo import Limit
from models.specs import Record

Floats = npt.NDArray[np.float64]
Kind = Literal["concurrency", "request_rate"]
Say = Literal["go on", "clear", "hopeless"]
HOPELESS_CHANCE = 0.001
"""Of as many requests above a limit that is kept in the long run."""
CLEAR_CHANCE = 0.02
"""Of as few requests above a limit that is not kept."""
HOPELESS_SURE = 0.999
REQUESTS_MIN = 8
SPREAD_SURE = 3.0
"""Standard errors between a percentile, as the spread has it, and its limit: far off is seen early."""


_RATES = ("requests_per_second", "output_tokens_per_second", "ttft_ms_p50", "tpot_ms_p50", "e2e_ms_mean")


class Probe(Record):
    """What one load level gave.

    worst: the largest ln(value / limit) over the limits, so that what is kept is below 0; sigma: its standard error.
    above, of counted: requests above the limit that is nearest to break, failed ones too, where it leaves a share of
    `allowed` to be; worth: independent requests that one is worth. Nothing is counted for a mean and for gaps.
    ttft_ms_least is of all requests, warm-up too; decoding: sequences between first and last token. hopeless: ended
    before its time, as the limits could no longer be kept. seconds: what the engine was kept busy for.
    """

    kind: Kind
    level: float = Field(gt=0)
    values: dict[str, float | None]
    worst: float
    sigma: float
    requests_ok: int
    requests_failed: int
    above: int = 0
    counted: int = 0
    allowed: float = 0.05
    worth: float = 1.0
    requests_per_second: float = 0.0
    output_tokens_per_second: float = 0.0
    ttft_ms_p50: float | None = None
    ttft_ms_least: float | None = None
    tpot_ms_p50: float | None = None
    e2e_ms_mean: float | None = None
    decoding_mean: float = 0.0
    decoding_most: int = 0
    seconds: float = 0.0
    hopeless: bool = False
    reused: bool = False
    trial_id: str | None = None
    fatal: tuple[str, ...] = ()

    @property
    def keeps(self) -> bool:
        """Whether the limits are kept."""
        return self.worst <= 0 and not self.hopeless and not self.fatal

    @property
    def sure(self) -> float:
        """The chance that a longer probe would say the same: 1 less that of as few (or as many) requests above a limit
        that is just broken (or kept), those as many counting half (Lancaster's mid-P, JASA 56, 1961)."""
        if self.hopeless:
            return HOPELESS_SURE
        if not self.counted:
            return NormalDist().cdf(abs(self.worst) / max(self.sigma, 1e-6))
        some, many = round(self.above * self.worth), max(1, round(self.counted * self.worth))
        more = (_at_least(some, many, self.allowed) + _at_least(some + 1, many, self.allowed)) / 2
        return min(HOPELESS_SURE, max(0.5, more if self.keeps else 1 - more))


def decide(requests: pl.DataFrame, in_flight: pl.DataFrame, now_ns: int, limits: tuple[Limit, ...],
           wait_ns: int = 0, clear_ns: float = 0.0, worth: float = 1.0) -> Say:
    """Says whether it is `clear` already that every limit is kept, or that one is not (`hopeless`).

    requests: those ended, as models.frames.REQUESTS; in_flight: phase, planned_ns, first_ns of the others. Requests
    that failed are above every limit, those that have waited longer than a limit are above it. Nothing is hopeless
    before wait_ns, nor clear before clear_ns. worth: independent requests that one is worth.
    """
    measured = requests.filter(pl.col("phase") == "measured")
    flying = in_flight.filter(pl.col("phase") == "measured")
    failed = measured.filter(pl.col("outcome") != "ok").height
    each = latencies(measured.filter(pl.col("outcome") == "ok"))
    said: list[Say] = []
    for limit in limits:
        if limit.latency == "itl_ms" or limit.quantile is None:
            values = measured.select("chunk_ns") if limit.latency == "itl_ms" else each[limit.judged].drop_nulls()
            said.append(_mean_says(values, limit) if isinstance(values, pl.Series) else "go on")
            continue
        known = each[limit.judged].drop_nulls().to_numpy().astype(float)
        late = _late(flying, limit, now_ns)
        said.append(_share_says(known, limit, failed + late, worth))
    if "hopeless" in said:
        return "hopeless" if now_ns >= wait_ns else "go on"
    return "clear" if now_ns >= clear_ns and all(one == "clear" for one in said) else "go on"


def _late(flying: pl.DataFrame, limit: Limit, now_ns: int) -> int:
    """Requests in flight that are above the limit already."""
    age = (now_ns - pl.col("planned_ns")) / MS
    if limit.latency in ("ttft_ms", "ttft_from_schedule_ms", "first_content_ms"):
        age = (pl.col("first_ns").fill_null(now_ns) - pl.col("planned_ns")) / MS
    elif not limit.latency.startswith("e2e"):
        return 0
    return flying.filter(age > limit.at_most).height


def _share_says(known: Floats, limit: Limit, above: int, worth: float) -> Say:
    over = int((known > limit.at_most).sum()) + above
    number = len(known) + above
    if number < REQUESTS_MIN or limit.quantile is None:
        return "go on"
    # Those above and those below are rounded apart: one more above must never make it look better.
    allowed, below = 1 - limit.quantile, (number - over) * worth
    some = math.floor(over * worth)
    if over / number > allowed and _at_least(some, some + math.ceil(below), allowed) < HOPELESS_CHANCE:
        return "hopeless"
    some = math.ceil(over * worth)
    if 1 - _at_least(some + 1, some + math.floor(below), allowed) < CLEAR_CHANCE:
        return "clear"
    return "clear" if not above and _far_below(known, limit.quantile, limit.at_most) else "go on"


def _far_below(known: Floats, quantile: float, at_most: float) -> bool:
    """Whether a lognormal of their spread has that percentile well below the limit."""
    logs = np.log(np.maximum(known, 1e-6))
    z = NormalDist().inv_cdf(quantile)
    far = logs.mean() + logs.std() * (z + SPREAD_SURE * math.sqrt((1 + z * z / 2) / len(logs)))
    return bool(far < math.log(at_most / 1.2))


def _mean_says(values: pl.Series, limit: Limit) -> Say:
    found = intervals.mean(values.to_numpy().astype(float)) if len(values) >= REQUESTS_MIN else None
    if found is None:
        return "go on"
    centre, half = found
    return "hopeless" if centre - 2 * half > limit.at_most else "clear" if centre + half < limit.at_most else "go on"


def _at_least(k: int, n: int, p: float) -> float:
    """P(K ≥ k), K binomial."""
    return max(0.0, 1 - sum(math.exp(math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1)
                                     + i * math.log(p) + (n - i) * math.log1p(-p)) for i in range(min(k, n + 1))))


def probe(kind: Kind, level: float, requests: pl.DataFrame, limits: tuple[Limit, ...], rates: dict[str, float],
          seconds: float, worth: float = 1.0, **more: object) -> Probe:
    """Returns what a run of that level says. rates: the metrics of its summary; worth: independent requests that one
    is worth at the most."""
    measured = requests.filter(pl.col("phase") == "measured")
    ok = measured.filter(pl.col("outcome") == "ok")
    values = slo.values(requests, limits)
    worst, sigma, limit = max(_margins(ok, values, limits), default=(math.inf, 0.0, limits[0]),
                              key=lambda found: found[:2])
    cancelled = measured.filter(pl.col("outcome") == "cancelled").height
    failed = measured.height - ok.height - cancelled
    strictest = max((q for one in limits if (q := one.quantile)), default=0.99)
    if failed > (1 - strictest) * measured.height:
        worst = max(worst, math.log(2))
    most, mean = _decoding(requests)
    said: dict[str, object] = {
        "kind": kind, "level": level, "values": values, "worst": min(worst, 20.0), "sigma": sigma,
        "requests_ok": ok.height, "requests_failed": failed, "decoding_mean": mean, "decoding_most": most,
        "seconds": seconds, "ttft_ms_least": latencies(requests)["ttft_ms"].min(),
        **_counted(measured, limit, worth, steady=kind == "concurrency"),
        **{name: rates[name] for name in _RATES if name in rates}, **more}
    return Probe.model_validate(said)


def _counted(measured: pl.DataFrame, limit: Limit, worth: float, steady: bool) -> dict[str, float]:
    """How many requests are above the limit; one cut off that had waited longer already, or failed, is. Where all are
    far below it and the load is steady, they are worth as many as make that clear by their number alone."""
    if limit.latency == "itl_ms" or limit.quantile is None:
        return {}
    value = latencies(measured)[limit.judged]
    waited = (pl.col("done_ns") - pl.col("planned_ns")) / MS > limit.at_most
    if not limit.latency.startswith("e2e"):
        waited &= pl.col("first_token_ns").is_null() & limit.latency.startswith(("ttft", "first"))
    each = measured.sort("planned_ns").select(
        pl.when(pl.col("outcome") == "ok").then(value > limit.at_most)
        .when(pl.col("outcome") != "cancelled").then(True).when(waited).then(True))
    above = each.to_series().drop_nulls().to_numpy().astype(float)
    if not len(above):
        return {}
    if steady and not above.any() and _far_below(value.drop_nulls().to_numpy(), limit.quantile, limit.at_most):
        worth = max(worth, math.log(CLEAR_CHANCE) / math.log(limit.quantile) / len(above))
    return {"above": int(above.sum()), "counted": len(above), "allowed": 1 - limit.quantile, "worth": worth}


def _margins(ok: pl.DataFrame, values: dict[str, float | None], limits: tuple[Limit, ...],
             ) -> Iterator[tuple[float, float, Limit]]:
    """ln(value / limit) and its standard error, from the order statistics' interval, of each limit."""
    each = latencies(ok)
    for limit in limits:
        value = values[limit.metric]
        if value is None:
            continue
        series = inter_token(ok) if limit.latency == "itl_ms" else each[limit.judged]
        sample = series.drop_nulls().to_numpy().astype(float)
        if limit.quantile is None:
            found = intervals.mean(sample)
            low, high = (found[0] - found[1], found[0] + found[1]) if found else (None, None)
        else:
            low, high = intervals.quantiles(sample, [limit.quantile])[0] or (None, None)
        low, high = (max(1e-3, x) if x is not None else None for x in (low, high))
        value = max(value, 1e-3)
        spread = [abs(math.log(x / value)) for x in (low, high) if x is not None]
        yield math.log(value / limit.at_most), max(spread, default=0.5) / 1.96, limit


def _decoding(requests: pl.DataFrame) -> tuple[int, float]:
    """Sequences between their first and last token: the most, and the mean while there were any."""
    spans = requests.filter(pl.col("first_token_ns").is_not_null()).select("first_token_ns", "last_token_ns")
    if spans.is_empty():
        return 0, 0.0
    first, last = (spans[c].to_numpy() for c in spans.columns)
    edges = np.concatenate([first, last])
    steps = np.concatenate([np.ones(len(first)), -np.ones(len(last))])
    order = np.lexsort((steps, edges))
    running, widths = np.cumsum(steps[order])[:-1], np.diff(edges[order])
    busy = widths[running > 0].sum()
    if not busy:  # answers of one token
        return int(running.max(initial=1)), 1.0
    return int(running.max()), float((running * widths).sum() / busy)
