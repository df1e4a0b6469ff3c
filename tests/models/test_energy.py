"""Joules a token, against meters whose truth is known."""

from __future__ import annotations

import itertools

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.energy import joules, metered
from models.frames import TELEMETRY
from models.summary import summarise
from tests.models.frame import MS, frame, request

WINDOW = frame(request(0, sent_ms=1000, ttft_ms=500, itl_ms=125, tokens=5))
"""From 1 s to 2 s, five tokens."""
Row = tuple[float, str, str, float]


def samples(*rows: Row) -> pl.DataFrame:
    return pl.DataFrame([(round(s * 1e9), source, metric, value) for s, source, metric, value in rows],
                        schema=TELEMETRY, orient="row")


def counter(source: str, watts: float, times: tuple[float, ...] = (0.0, 0.7, 1.4, 2.2)) -> list[Row]:
    return [(t, source, "energy_joules", watts * t) for t in times]


def test_a_counters_difference_over_the_window_is_shared_by_its_tokens() -> None:
    both = samples(*counter("cpu_package0", 40), *counter("cpu_package1", 10))
    summary = metered(summarise(WINDOW), WINDOW, both, "rapl")
    assert summary.metrics["joules_per_output_token"] == pytest.approx(50 / 5)
    assert summary.metrics["joules_per_request"] == pytest.approx(50)
    assert summary.metrics["power_watts_mean"] == pytest.approx(50)
    assert summary.energy_source == "rapl: cpu_package0, cpu_package1"


@given(st.lists(st.tuples(st.floats(0.001, 0.5), st.floats(0, 700)), min_size=3, max_size=30))
def test_watts_that_are_linear_between_readings_give_the_exact_area(steps: list[tuple[float, float]]) -> None:
    """Against the sum of fine slices of the same polygon."""
    at, rows = 0.0, []
    for gap, watts in steps:
        rows.append((at, "gpu0", "power_watts", watts))
        at += gap
    last_ns, start, end = round(rows[-1][0] * 1e9), rows[-1][0] * 0.25, rows[-1][0] * 0.75
    got = joules(samples(*rows), round(start * 1e9), round(end * 1e9))
    whole = joules(samples(*rows), 0, last_ns)
    left, right = joules(samples(*rows), 0, round(start * 1e9)), joules(samples(*rows), round(end * 1e9), last_ns)
    assert got is not None and whole is not None and left is not None and right is not None
    assert left + got + right == pytest.approx(whole, rel=1e-9, abs=1e-9)
    by_hand = sum((a[3] + b[3]) / 2 * (b[0] - a[0]) for a, b in itertools.pairwise(rows))
    assert whole == pytest.approx(by_hand, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("times", [(1.1, 1.5, 2.2), (0.0, 1.0, 1.9), (1.5,), ()])
def test_a_meter_that_was_not_read_over_the_whole_window_says_nothing(times: tuple[float, ...]) -> None:
    partly = samples(*counter("cpu_package0", 40, times))
    assert metered(summarise(WINDOW), WINDOW, partly, "rapl") == summarise(WINDOW)


def test_only_gpus_with_the_engines_processes_count_and_a_missing_counter_is_made_up_for_by_watts() -> None:
    at = (0.0, 1.0, 2.2)
    rows = [row for t in at for row in (
        (t, "gpu0", "engine_processes", 0.0), (t, "gpu0", "power_watts", 600.0), (t, "gpu0", "gpu_percent", 99.0),
        (t, "gpu1", "engine_processes", 1.0), (t, "gpu1", "power_watts", 100.0))]
    got = metered(summarise(WINDOW), WINDOW, samples(*rows), "nvml")
    assert got.energy_source == "nvml: gpu1" and got.metrics["joules_per_output_token"] == pytest.approx(20)


def test_where_no_process_is_seen_the_busy_gpus_count() -> None:
    at = (0.0, 1.0, 2.2)
    rows = [row for t in at for row in (
        (t, "gpu0", "gpu_percent", 0.0), *counter("gpu0", 60, (t,)),
        (t, "gpu1", "gpu_percent", 80.0), *counter("gpu1", 300, (t,)))]
    assert metered(summarise(WINDOW), WINDOW, samples(*rows), "nvml").energy_source == "nvml: gpu1"


def test_an_engine_elsewhere_is_not_charged_with_this_machines_power() -> None:
    here = samples(*counter("cpu_package0", 40))
    assert metered(summarise(WINDOW), WINDOW, here, None) == summarise(WINDOW)
    assert metered(summarise(WINDOW), WINDOW, here, "nvml") == summarise(WINDOW)


def test_nothing_answered_has_no_joules() -> None:
    none = frame(request(0, outcome="refused", done_ns=100 * MS, first_token_ns=None, output_tokens=None, chunk_ns=[]))
    got = metered(summarise(none), none, samples(*counter("cpu_package0", 40)), "rapl")
    assert not any(m.startswith("joules") for m in got.metrics)
