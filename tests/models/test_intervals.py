"""Intervals hold what they promise: 95 of 100 runs, whether or not requests depend on one another."""

from __future__ import annotations

import math
import time
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pytest

from models.frames import REQUESTS, empty
from models.intervals import _ranks, certain_median, effective, intervals, mean, narrow, quantiles, student
from models.records import Summary
from models.summary import summarise
from tests.models.frame import MS, frame, request

Floats = npt.NDArray[np.float64]
RUNS = 300
PROMISED = (0.90, 0.99)
"""Of 300 runs at 95%; three standard deviations of the count are 3.8%."""


def series(rng: np.random.Generator, count: int, rho: float) -> Floats:
    """Lognormal values, sigma 0.5, whose logarithms are a first-order autoregression from its steady state."""
    noise = rng.standard_normal(count)
    values = np.empty(count)
    values[0] = noise[0]
    for i in range(1, count):
        values[i] = rho * values[i - 1] + math.sqrt(1 - rho**2) * noise[i]
    return np.exp(0.5 * values)


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_percentiles_and_means_are_within_their_interval_as_often_as_promised(rho: float) -> None:
    rng, inside = np.random.default_rng(7), {"mean": 0, "p50": 0, "p95": 0}
    for _ in range(RUNS):
        values = series(rng, 200, rho)
        centre, half = mean(values) or (0.0, 0.0)
        inside["mean"] += abs(centre - math.exp(0.125)) <= half
        for label, share, bounds in zip(("p50", "p95"), (0.5, 0.95), quantiles(values, [0.5, 0.95]), strict=True):
            assert bounds is not None
            low, high = bounds
            true = math.exp(0.5 * NormalDist().inv_cdf(share))
            inside[label] += (low is None or low <= true) and (high is None or true <= high)
    assert all(PROMISED[0] <= n / RUNS <= PROMISED[1] for n in inside.values()), inside


def closed_loop(rng: np.random.Generator, count: int, users: int = 4) -> list[dict[str, object]]:
    """Each user sends as soon as the last answer is there; lengths and speeds vary, 50 tokens a request on average."""
    free = [float(u) for u in range(users)]
    rows = []
    for index in range(count + 2 * users):
        user = int(np.argmin(free))
        phase = "warmup" if index < users else "measured" if index < users + count else "tail"
        row = request(index, sent_ms=free[user], ttft_ms=20 * rng.lognormal(0, 0.3), itl_ms=10 * rng.lognormal(0, 0.1),
                      tokens=int(rng.integers(10, 91)), phase=phase)
        free[user] = int(str(row["done_ns"])) / MS
        rows.append(row)
    return rows


def test_rates_are_within_their_interval_as_often_as_promised() -> None:
    speed = math.exp(0.1**2 / 2) * 10
    true_requests = 4 * 1000 / (20 * math.exp(0.3**2 / 2) + 49 * speed)
    inside = {"requests_per_second": 0, "output_tokens_per_second": 0}
    for seed in range(100):
        found = intervals(frame(*closed_loop(np.random.default_rng(seed), 120)))
        for name, true in (("requests_per_second", true_requests), ("output_tokens_per_second", 50 * true_requests)):
            low, high = found[name]
            assert low is not None and high is not None
            inside[name] += low <= true <= high
    assert all(n >= 85 for n in inside.values()), inside


def test_every_latency_and_rate_of_a_summary_has_an_interval_around_it() -> None:
    requests = frame(*closed_loop(np.random.default_rng(1), 200))
    summary = summarise(requests)
    for name, (low, high) in summary.intervals.items():
        assert (low is None or low <= summary.metrics[name]) and (high is None or summary.metrics[name] <= high), name
    stated = {f"{m}_{s}" for m in ("ttft_ms", "ttft_from_schedule_ms", "tpot_ms", "itl_ms", "e2e_ms")
              for s in ("mean", "p50", "p90", "p95", "p99")} | {"requests_per_second", "output_tokens_per_second"}
    assert stated <= set(summary.intervals)
    assert Summary.model_validate_json(summary.model_dump_json()) == summary


def test_a_bound_that_the_sample_cannot_give_is_none() -> None:
    bounds = intervals(frame(*(request(i, sent_ms=i * 60, ttft_ms=20 + i) for i in range(50))))
    low, high = bounds["ttft_ms_p99"]
    assert low is not None and high is None
    assert "ttft_ms_p50" not in intervals(frame(request(0), request(1, sent_ms=60)))  # neither bound exists


def test_gaps_of_few_requests_are_no_better_known_than_the_requests() -> None:
    """Ten requests of a hundred tokens, each with a speed of its own: a thousand gaps, ten independent ones."""
    rng = np.random.default_rng(3)
    found = intervals(frame(*(request(i, sent_ms=i * 2000, itl_ms=10 * rng.lognormal(0, 0.3), tokens=100)
                              for i in range(10))))
    low, high = found["itl_ms_mean"]
    assert low is not None and high is not None and high - low > 1.5
    tpot_low, tpot_high = found["tpot_ms_mean"]
    assert (low, high) == pytest.approx((tpot_low, tpot_high), rel=0.02)
    assert "itl_ms_p50" in found and found["itl_ms_p99"][1] is None


def test_nothing_answered_has_no_interval() -> None:
    assert intervals(empty(REQUESTS)) == {} and not narrow(empty(REQUESTS), 0.5)
    assert intervals(frame(request(0))) == {}


def test_dependent_values_are_worth_fewer() -> None:
    rng = np.random.default_rng(5)
    assert effective(np.full(50, 3.3)) == 50
    independent, dependent = (effective(series(rng, 2000, rho)) for rho in (0.0, 0.8))
    assert 1000 < independent <= 2000 and 100 < dependent < 500  # 2000 / 9 at rho 0.8


def test_the_bounds_of_a_median_are_those_of_the_tables() -> None:
    """Ranks of 95% intervals of the median: n = 10: 2 and 9; 20: 6 and 15; 100: 40 and 61 (sign test tables)."""
    assert [_ranks(n, 0.5) for n in (10, 20, 100)] == [(2, 9), (6, 15), (40, 61)]
    low, high = _ranks(5001, 0.5)
    exact_low, exact_high = _ranks(5000, 0.5)
    assert abs(low - exact_low) <= 2 and abs(high - exact_high) <= 2
    assert certain_median(np.arange(10.0)) == (1.0, 4.5, 8.0) and certain_median(np.arange(3.0)) is None


@pytest.mark.parametrize(("free", "quantile"), [
    (1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (19, 2.093), (99, 1.984)])
def test_student_s_quantiles_are_those_of_the_tables(free: float, quantile: float) -> None:
    assert student(0.95, free) == pytest.approx(quantile, rel=3e-3)


def test_a_run_is_narrow_once_it_is_long_enough() -> None:
    rows = closed_loop(np.random.default_rng(2), 1000)
    assert not narrow(frame(*rows[:20]), 0.05)  # too few, whatever they say
    assert not narrow(frame(*rows[:60]), 0.05) and narrow(frame(*rows), 0.05) and not narrow(frame(*rows), 0.001)


def test_a_run_still_going_on_is_asked_in_a_few_milliseconds() -> None:
    requests = frame(*closed_loop(np.random.default_rng(2), 1000))
    took = []
    for _ in range(10):
        start = time.perf_counter()
        narrow(requests, 0.05)
        took.append(time.perf_counter() - start)
    assert min(took) < 0.05  # 3 ms on a quiet machine


def test_without_second_tokens_the_other_figures_decide() -> None:
    rows = [request(i, sent_ms=i * 20, tokens=1) for i in range(100)]
    assert narrow(frame(*rows), 0.05)
