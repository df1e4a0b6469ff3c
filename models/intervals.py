"""How well a figure is known: confidence intervals of the metrics of one run, LEVEL of them in the long run right.

Requests of one run are not independent: those in flight together share their batch, and a closed loop comes in waves.
So a series of n counts as `effective(n)` independent values (below), and
- means have Student's t interval with that many values;
- percentiles lie between two order statistics, by the binomial distribution of how many values fall below the true one
  (David and Nagaraja, "Order Statistics", 3rd ed. 2003, 7.1), with that many. Where the statistic that would bound it
  does not exist (p99 of 50 requests has no upper bound), the bound is None;
- gaps between tokens are clustered by request: the share of gaps below a percentile is a ratio of sums over requests
  (Woodruff, JASA 47, 1952), whose variance says how many independent gaps they are worth;
- rates have batch means: the window in equal batches longer than requests last, where it holds that many
  (Law, "Simulation Modeling and Analysis", 9.5.3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import polars as pl

from models.latencies import LATENCIES, QUANTILES, inter_token, latencies, window_ns

Floats = npt.NDArray[np.float64]
Interval = tuple[float | None, float | None]

LEVEL = 0.95
NARROW_REQUESTS_MIN = 20          # fewer: their own spread is not known well enough to stop on
RATES_REQUESTS_MIN = 10           # fewer: batches would hold one or two
BATCHES_MIN, BATCHES_MAX = 5, 20  # more would not narrow a t interval, fewer would widen it a lot
REQUESTS_A_BATCH = 3.0            # length of a batch in mean E2E: shorter ones share their requests with the next
LAGS_SHARE = 1 / 3                # of a series: longer lags have too few pairs
EXACT_MAX = 5000                  # values up to which the binomial is summed; beyond, it is a normal
_STAMPS = ("sent_ns", "first_token_ns", "last_token_ns", "done_ns", "output_tokens")


def intervals(requests: pl.DataFrame, metrics: Mapping[str, float] | None = None) -> dict[str, Interval]:
    """Returns an interval for each metric it can be known of, by the metric's name. `metrics` are the figures already
    known, in the middle of whose rates' intervals they shall lie."""
    ok = requests.filter((pl.col("phase") == "measured") & (pl.col("outcome") == "ok")).sort("sent_ns")
    each = latencies(ok)
    found: dict[str, Interval | None] = {}
    for name in LATENCIES:
        if name == "itl_ms":
            found |= _pooled(name, ok)
            continue
        values = each[name].drop_nulls().to_numpy().astype(float)
        found[f"{name}_mean"] = around(mean(values))
        for label, bounds in zip(QUANTILES, quantiles(values, list(QUANTILES.values())), strict=True):
            found[f"{name}_{label}"] = bounds
    lasts_ns = (ok["done_ns"] - ok["sent_ns"]).mean()
    rates = _rates(requests, lasts_ns) if isinstance(lasts_ns, float) and ok.height >= RATES_REQUESTS_MIN else {}
    for name, (centre, half) in rates.items():
        found[name] = around(((metrics or {}).get(name, centre), half))
    return {name: bounds for name, bounds in found.items() if bounds and bounds != (None, None)}


def narrow(requests: pl.DataFrame, precision: float) -> bool:
    """Whether the half-widths of throughput, mean TTFT and mean TPOT are within `precision` of their values.

    For a rule that stops a run early: cheap (chunks are not looked at), and asked of the requests ended so far.
    Asked again and again it stops a little early on average, as every sequential rule does; hence the minimum number.
    """
    requests = requests.select("request_index", "phase", "outcome", "planned_ns", "first_content_ns", *_STAMPS)
    ok = requests.filter((pl.col("phase") == "measured") & (pl.col("outcome") == "ok")).sort("sent_ns")
    if ok.height < NARROW_REQUESTS_MIN:
        return False
    lasts_ns = float((ok["done_ns"] - ok["sent_ns"]).mean())  # type: ignore[arg-type]
    rate = _rates(requests, lasts_ns, still_running=True).get("output_tokens_per_second")
    if rate is None:
        return False
    each = latencies(ok)
    known = [rate, *(mean(each[name].drop_nulls().to_numpy().astype(float)) for name in ("ttft_ms", "tpot_ms"))]
    return all(found is None or found[1] <= precision * found[0] for found in known)


def around(found: tuple[float, float] | None) -> Interval | None:
    """Turns a centre and a half-width into bounds; nothing here can be below 0."""
    return (max(0.0, found[0] - found[1]), found[0] + found[1]) if found else None


def mean(values: Floats) -> tuple[float, float] | None:
    """Returns the mean and the half-width of its interval; None for fewer than two values."""
    if len(values) < 2:
        return None
    worth = max(2.0, effective(values))
    return float(values.mean()), student(LEVEL, worth - 1) * float(values.std(ddof=1)) / math.sqrt(worth)


def quantiles(values: Floats, shares: Sequence[float]) -> list[Interval | None]:
    """Returns the interval of each quantile; None for fewer than two values."""
    if len(values) < 2:
        return [None] * len(shares)
    ordered = np.sort(values)
    return [_between(ordered, share, effective((values <= _quantile(ordered, share)).astype(float)))
            for share in shares]


def certain_median(values: Floats) -> tuple[float, float, float] | None:
    """Returns lower bound, median and upper bound as if the values were independent: for the stretches of a series
    whose trend is in question, where a trend would pass for correlation. None where they are too few for bounds."""
    ordered = np.sort(values.astype(float))
    low, high = _between(ordered, 0.5, len(ordered)) if len(ordered) > 1 else (None, None)
    return None if low is None or high is None else (low, _quantile(ordered, 0.5), high)


def _quantile(ordered: Floats, share: float) -> float:
    """Type 7 of sorted values."""
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    return float(ordered[low] + (ordered[min(low + 1, len(ordered) - 1)] - ordered[low]) * (at - low))


def _between(ordered: Floats, share: float, worth: float) -> Interval:
    """The order statistics that enclose a quantile of as many values as these, worth so many independent ones."""
    number, count = max(1, int(worth)), len(ordered)
    low, high = _ranks(number, share)
    scale = count / number
    return (float(ordered[max(math.floor(low * scale) - 1, 0)]) if low >= 1 else None,
            float(ordered[min(math.ceil(high * scale), count) - 1]) if high <= number else None)


@lru_cache(maxsize=4096)
def _ranks(number: int, share: float) -> tuple[int, int]:
    """Returns the ranks, from 1, whose order statistics enclose the quantile; 0 and number + 1 do not exist."""
    tail = (1 - LEVEL) / 2
    if number > EXACT_MAX:
        half = NormalDist().inv_cdf(1 - tail) * math.sqrt(number * share * (1 - share))
        return math.floor(number * share - half), math.ceil(number * share + half) + 1
    below = np.arange(number + 1)
    ways = np.concatenate([[0.0], np.cumsum(np.log((number - below[:-1]) / (below[:-1] + 1)))])
    chance = np.cumsum(np.exp(ways + below * math.log(share) + (number - below) * math.log1p(-share)))
    return int(np.searchsorted(chance, tail, side="right")), int(np.searchsorted(chance, 1 - tail, side="left")) + 1


def effective(values: Floats) -> float:
    """Returns how many independent values a series in time is worth for its mean.

    n / (1 + 2 Σ autocorrelations), summed over pairs of lags while their sum is positive (Geyer, "Practical Markov
    chain Monte Carlo", Statistical Science 7, 1992), never more than n. As the mean was taken from the series itself,
    each autocorrelation is too low, by the sum over n; the last factor makes up for it.
    """
    count = len(values)
    centred = values - values.mean()
    power = float(centred @ centred)
    if power <= 1e-18 * count * float(values.mean()) ** 2:
        return float(count)
    total, lag = 0.0, 1
    while lag + 1 <= LAGS_SHARE * count:
        pair = float(centred[:-lag] @ centred[lag:] + centred[:-lag - 1] @ centred[lag + 1:]) / power
        if pair <= 0:
            break
        total, lag = total + pair, lag + 2
    return count / (1 + 2 * total) * (1 - 2 * (lag - 1) / count)


def student(level: float, free: float) -> float:
    """Returns the two-sided quantile of Student's t: exact for one and two degrees of freedom, else by Cornish and
    Fisher's expansion (Abramowitz and Stegun 26.7.5; off by 0.2% at level 0.95 and three degrees, less beyond)."""
    if free < 1.5:
        return math.tan(math.pi * level / 2)
    if free < 2.5:
        return level * math.sqrt(2 / (1 - level**2))
    z = NormalDist().inv_cdf((1 + level) / 2)
    return (z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
            + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * free**3)
            + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * free**4))


def _pooled(name: str, ok: pl.DataFrame) -> dict[str, Interval | None]:
    """Of the gaps between chunks, clustered by request."""
    counts = (ok["chunk_ns"].list.len().fill_null(0).to_numpy().astype(np.int64) - 1).clip(min=0)
    if np.count_nonzero(counts) < 2:
        return {}
    gaps = inter_token(ok).to_numpy().astype(float)
    counts = counts[counts > 0]
    starts = np.cumsum(counts) - counts
    ordered = np.sort(gaps)

    def spread(each_gap: Floats) -> tuple[float, float, float]:
        """Mean over all gaps, its standard error, and how many requests' worth that rests on."""
        sums = np.add.reduceat(each_gap, starts)
        centre = float(sums.sum()) / len(gaps)
        rest = sums - centre * counts
        worth = max(2.0, effective(rest))
        return centre, len(rest) * float(rest.std(ddof=1)) / math.sqrt(worth) / len(gaps), worth

    centre, error, worth = spread(gaps)
    found: dict[str, Interval | None] = {f"{name}_mean": around((centre, student(LEVEL, worth - 1) * error))}
    for label, share in QUANTILES.items():
        _, error, _ = spread((gaps <= _quantile(ordered, share)).astype(float))
        independent = share * (1 - share) / error**2 if error > 0 else len(gaps)
        found[f"{name}_{label}"] = _between(ordered, share, min(independent, len(gaps)))
    return found


def _rates(requests: pl.DataFrame, lasts_ns: float, still_running: bool = False) -> dict[str, tuple[float, float]]:
    """Batch means of the rates a second over the window, with the half-width of each; requests last `lasts_ns`.

    A request counts evenly over its time in the engine and its tokens evenly over theirs: where the instants fall in a
    batch is chance that does not add up over the run. One that was cut off at the end counts for the part it had. While
    a run goes on, what is in flight is not in the frame: the window then ends a request's time earlier.
    """
    window = window_ns(requests)
    ran = requests.filter(pl.col("first_token_ns").is_not_null() & pl.col("output_tokens").is_not_null())
    if window is None or ran.is_empty():
        return {}
    start, end = window[0], window[1] - still_running * lasts_ns
    if end <= start:
        return {}
    sent, first, last, done, tokens = (ran[c].to_numpy().astype(float) for c in _STAMPS)
    done = np.where((ran["outcome"] == "cancelled").to_numpy(), np.maximum(done, sent + lasts_ns), done)
    wanted = (end - start) / (REQUESTS_A_BATCH * max(lasts_ns, 1.0))
    batches = int(min(max(wanted, BATCHES_MIN), BATCHES_MAX))
    edges = np.linspace(start, end, batches + 1)
    free = student(LEVEL, batches - 1) / math.sqrt(batches)
    found = {}
    for name, weight, begins, ends in (("requests_per_second", np.ones(len(sent)), sent, done),
                                       ("output_tokens_per_second", tokens, first, last)):
        share = (edges[:, None] - begins) / np.maximum(ends - begins, 1.0)
        each = np.diff(np.clip(share, 0, 1) @ weight) / np.diff(edges) * 1e9
        found[name] = float(each.mean()), free * float(each.std(ddof=1))
    rate, half = found["requests_per_second"]
    found["requests_per_second"] = rate, math.hypot(half, _counting(rate * lasts_ns / 1e9, (end - start) / 1e9))
    return found


def _counting(in_flight: float, seconds: float) -> float:
    """Half-width that counting whole requests adds: at each end of the window, every one in flight is counted or not,
    whichever part of it lies inside (uniform, so of variance 1/12)."""
    return NormalDist().inv_cdf((1 + LEVEL) / 2) * math.sqrt(2 * in_flight / 12) / seconds
