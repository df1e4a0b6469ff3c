"""From measured load levels and an SLO to requests a second of one instance, and plain answers where none is."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models import slo
from models.errors import UserError
from models.planning import capacity
from models.planning.capacity import Bandwidth, Impossible, LoadPoint

LIMIT = slo.parse("tpot_ms_p95<=20")


def measured(users: float, tpot_ms: float = 0.0) -> LoadPoint:
    """100 tokens out; TPOT of 10 ms + 1 ms a user, TTFT of 100 ms."""
    each = tpot_ms or 10 + users
    e2e = 100 + 99 * each
    rate = users / e2e * 1e3
    return LoadPoint(concurrency=users, requests_per_second=rate, output_tokens=100, ttft_ms=100, tpot_ms=each,
                     output_tokens_per_second=rate * 100, e2e_ms=e2e, values={"tpot_ms_p95": each})


POINTS = [measured(c) for c in (1, 2, 4, 8, 16)]


def test_the_largest_concurrency_lies_between_the_last_that_keeps_and_the_first_that_breaks() -> None:
    """18 ms at 8 users, 26 ms at 16: 20 ms is ln(20/18)/ln(26/18) = 0.287 of the way, 8 × 2^0.287 = 9.8 users."""
    assert capacity.largest_concurrency(POINTS, LIMIT) == (9, True)
    assert capacity.largest_concurrency(POINTS, slo.parse("tpot_ms_p95<=30")) == (16, False)
    assert capacity.largest_concurrency(POINTS, slo.parse("tpot_ms_p95<=10.9")) == (0, True)
    with pytest.raises(UserError, match="not measured at 1 users"):
        capacity.largest_concurrency(POINTS, slo.parse("ttft_ms_p95<=500"))


def test_every_level_answers_and_says_how() -> None:
    """Truly 9 users get 9 ÷ (0.1 + 99 × 0.019) = 4.543 a second."""
    reads = Bandwidth(weight_bytes=1e9, kv_bytes_per_sequence=0, bytes_per_s=100e9)
    found = capacity.levels(POINTS, LIMIT, reads)
    assert isinstance(found, list)
    rough, architecture, calibrated, seen = found
    assert rough.requests_per_second == pytest.approx(9 / 1.882)  # the response time at 8 users
    assert architecture.requests_per_second == pytest.approx(9)  # 100 steps a second, 9 tokens each, 100 a request
    assert calibrated.requests_per_second == pytest.approx(4.543, rel=0.02)
    assert calibrated.low is not None and calibrated.high is not None and calibrated.error is not None
    assert calibrated.low < 4.543 < calibrated.high and calibrated.error < 0.05
    assert (seen.concurrency, seen.requests_per_second) == (8, pytest.approx(8 / 1.882))
    alone = capacity.levels(POINTS[:1], LIMIT)
    assert isinstance(alone, list) and [s.level for s in alone] == ["rough", "measured"]
    assert "it is the least" in alone[-1].how
    with pytest.raises(UserError, match=r"load: \{concurrency"):
        capacity.levels([], LIMIT)


def test_an_slo_below_the_physical_limit_is_told_so_with_the_nearest_that_is_kept() -> None:
    reads = Bandwidth(weight_bytes=1e9, bytes_per_s=100e9)  # 10 ms to read the weights
    got = capacity.levels(POINTS, slo.parse("tpot_ms_p95<=5"), reads)
    assert isinstance(got, Impossible)
    assert "with 1 at once it is 11 ms" in got.reason and "reading the weights alone takes 10 ms" in got.reason
    assert [str(x) for x in got.nearest] == ["tpot_ms_p95 ≤ 11"]
    near = capacity.levels(POINTS, slo.parse("tpot_ms_p95<=10.5"), reads)
    assert isinstance(near, Impossible) and "no engine" not in near.reason
    assert isinstance(capacity.levels(POINTS, got.nearest, reads), list)


@given(st.lists(st.floats(1, 1e3), min_size=2, max_size=6), st.floats(1, 1e3))
@example([1.0000000000000002, 1.0], 1.0)
def test_the_nearest_is_always_kept_and_no_level_that_broke_a_limit_is_used(each: list[float], limit: float) -> None:
    points = [measured(2.0**i, tpot) for i, tpot in enumerate(each)]
    limits = slo.parse(f"tpot_ms_p95<={limit:.3f}")
    users, _ = capacity.largest_concurrency(points, limits)
    broken = [p.concurrency for p in points if p.tpot_ms > limits[0].at_most]
    assert not broken or users <= min(broken)
    if not users:
        again, _ = capacity.largest_concurrency(points, capacity.impossible(points, limits).nearest)
        assert again >= 1


def test_repeats_are_merged_and_rows_that_cannot_be_trusted_left_out() -> None:
    three = [measured(4, tpot) for tpot in (10, 30, 11)]
    assert [p.tpot_ms for p in capacity.merged([measured(8), *three])] == [11, 18]
    row = {"concurrency": 4, "requests_per_second": 2.0, "output_tokens_mean": 100.0, "output_tokens_per_second": 200.0,
           "ttft_ms_mean": 50.0, "tpot_ms_mean": 10.0, "e2e_ms_mean": 1040.0, "ttft_from_schedule_ms_p95": 70.0,
           "fatal": False}
    limits = slo.parse("ttft_ms_p95<=100")
    got = capacity.load_point(row, limits)
    assert got is not None and got.values == {"ttft_ms_p95": 70.0}
    for spoilt in ({"fatal": True}, {"concurrency": None}, {"tpot_ms_mean": None}):
        assert capacity.load_point(row | spoilt, limits) is None
