"""Open arrivals, worked by hand."""

from __future__ import annotations

import pytest

from models.planning.arrivals import at_rate, kv_token_steps, plateau_requests_per_second, stable_requests_per_second
from models.planning.curves import fit
from models.planning.points import point

POINTS = [point(c, 100, 20, 101) for c in (1, 2, 4)] + [point(8, 2200, 20, 101)]
"""Four slots of 2.1 s a request."""


def test_kv_token_steps_are_the_tokens_held_at_every_step() -> None:
    assert kv_token_steps(10, 3) == 11 + 12 + 13


def test_memory_bears_as_many_requests_as_its_token_steps() -> None:
    # 1 000 KV tokens, a step of 10 ms: 100 000 token-steps a second; 36 for each request.
    assert stable_requests_per_second(1000, 0.01, 36) == pytest.approx(100_000 / 36)
    with pytest.raises(ValueError, match="positive"):
        stable_requests_per_second(1000, 0, 36)


def test_the_plateau_is_the_closed_loop_s_best_rate() -> None:
    plateau = plateau_requests_per_second(fit(POINTS, "throughput"), 101)
    assert plateau.value == pytest.approx(4 / 2.1, rel=0.02)
    assert not plateau.extrapolates
    assert plateau_requests_per_second(fit(POINTS[:3], "throughput"), 101).value == pytest.approx(4 / 2.1, rel=0.02)


def test_a_rate_is_answered_by_little_s_law() -> None:
    throughput, ttft, tpot = fit(POINTS, "throughput"), fit(POINTS, "ttft"), fit(POINTS, "tpot")
    steady = at_rate(1.0, 101, throughput, ttft, tpot)
    assert steady is not None
    assert steady.concurrency == pytest.approx(2.1, rel=0.03)          # 1 a second × 2.1 s
    assert steady.e2e_ms == pytest.approx(2100, rel=0.03)
    assert steady.tpot.value == pytest.approx(20, rel=0.02)
    slow = at_rate(0.1, 101, throughput, ttft, tpot)
    assert slow is not None and slow.concurrency == pytest.approx(0.21, rel=0.1)
    assert slow.tpot.extrapolates
    assert at_rate(2.5, 101, throughput, ttft, tpot) is None
