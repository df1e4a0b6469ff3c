"""The only percentile code, against numbers worked out by hand and by numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.frames import REQUESTS, empty
from models.summary import LATENCIES, summarise
from tests.models.frame import MS, frame, request


def test_one_request_by_hand() -> None:
    summary = summarise(frame(request(0, sent_ms=5, planned_ns=2 * MS)))
    m = summary.metrics
    assert m["ttft_ms_p50"] == 20 and m["ttft_from_schedule_ms_p50"] == 23 and m["send_delay_ms_p99"] == 3
    assert m["tpot_ms_mean"] == 10 and m["itl_ms_p95"] == 10 and m["e2e_ms_mean"] == 60
    assert summary.window_s == pytest.approx(0.06)
    assert m["output_tokens_per_second"] == pytest.approx(5 / 0.06)
    assert m["requests_per_second"] == pytest.approx(1 / 0.06)
    assert m["input_tokens_per_second"] == pytest.approx(100 / 0.06)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1, 5000), min_size=1, max_size=60))
def test_percentiles_are_numpys_linear_ones(ttfts: list[float]) -> None:
    m = summarise(frame(*(request(i, ttft_ms=t) for i, t in enumerate(ttfts)))).metrics
    exact = [round(t * MS) / MS for t in ttfts]
    for name, q in (("p50", 50), ("p90", 90), ("p95", 95), ("p99", 99)):
        assert m[f"ttft_ms_{name}"] == pytest.approx(np.percentile(exact, q))
    assert m["ttft_ms_mean"] == pytest.approx(np.mean(exact))


def test_a_failed_request_counts_and_is_no_latency_sample() -> None:
    failed = request(1, ttft_ms=9000, outcome="error_event", done_ns=100 * MS)
    summary = summarise(frame(request(0), failed))
    assert (summary.requests_ok, summary.requests_failed) == (1, 1)
    assert summary.outcomes == {"ok": 1, "error_event": 1}
    assert summary.metrics["ttft_ms_p99"] == 20


def test_warmup_and_tail_give_no_latency_but_their_tokens_in_the_window_count() -> None:
    """Measured: 100..160 ms. The warm-up's chunks at 120..160 fall into it, the tail's none."""
    warm = request(0, sent_ms=100 - 20, phase="warmup", ttft_ms=40, itl_ms=10)
    tail = request(2, sent_ms=150, phase="tail", ttft_ms=500)
    summary = summarise(frame(warm, request(1, sent_ms=100), tail))
    assert summary.requests_ok == 1 and summary.metrics["ttft_ms_mean"] == 20
    assert summary.metrics["output_tokens_per_second"] == pytest.approx((5 + 5) / 0.06)
    assert summary.metrics["requests_per_second"] == pytest.approx(2 / 0.06)


def test_tokens_that_share_a_chunk_are_spread_over_the_chunks() -> None:
    merged = request(0, tokens=4, output_tokens=8)
    assert summarise(frame(merged)).metrics["chunks_per_output_token"] == 0.5


def test_the_share_of_valid_answers_is_of_those_that_were_checked() -> None:
    checked = [request(i, output_valid=valid) for i, valid in enumerate([True, True, False, None])]
    assert summarise(frame(*checked)).metrics["output_valid_share"] == pytest.approx(2 / 3)
    assert "output_valid_share" not in summarise(frame(request(0))).metrics


def test_reasoning_comes_first_and_content_is_apart() -> None:
    row = request(0, first_reasoning_ns=20 * MS, first_content_ns=45 * MS)
    m = summarise(frame(row)).metrics
    assert (m["ttft_ms_p50"], m["first_content_ms_p50"]) == (20, 45)


def test_one_token_has_no_time_per_further_token() -> None:
    m = summarise(frame(request(0, tokens=1))).metrics
    assert "tpot_ms_mean" not in m and "itl_ms_mean" not in m and m["ttft_ms_mean"] == 20


def test_nothing_answered_is_no_number_at_all() -> None:
    unsent = request(0, outcome="refused", sent_ns=0, done_ns=0, first_token_ns=None, output_tokens=None, chunk_ns=[])
    for requests in (empty(REQUESTS), frame(unsent)):
        summary = summarise(requests)
        assert summary.requests_ok == 0
        assert not any(k.startswith(name) for k in summary.metrics for name in LATENCIES)
