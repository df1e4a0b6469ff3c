"""Limits: any metric and percentile, errors that say the way out, judged as a user waits."""

from __future__ import annotations

import numpy as np
import pytest

from models import slo
from models.errors import UserError
from models.frames import REQUESTS, empty
from tests.models.frame import MS, frame, request


@pytest.mark.parametrize(("text", "shown"), [
    ("ttft_ms_p95<=500 and tpot_ms_p99.9<=50", ["ttft_ms_p95 ≤ 500", "tpot_ms_p99.9 ≤ 50"]),
    ("e2e_ms_p75 < 3000", ["e2e_ms_p75 ≤ 3000"]),
    ("itl_ms_mean≤20.5, TTFT_ms_P50.0 <= .5", ["itl_ms_mean ≤ 20.5", "ttft_ms_p50 ≤ 0.5"]),
    ("ttft_ms_p95<=5 tpot_ms_p95 <= 4 AND e2e_ms_p99<=9", ["ttft_ms_p95 ≤ 5", "tpot_ms_p95 ≤ 4", "e2e_ms_p99 ≤ 9"]),
])
def test_any_metric_and_percentile_is_read(text: str, shown: list[str]) -> None:
    assert [str(limit) for limit in slo.parse(text, stored=False)] == shown


@pytest.mark.parametrize(("text", "says"), [
    ("", "no limits: write METRIC_STATISTIC<=NUMBER"),
    ("ttft_p95<=500", "there is no metric 'ttft', perhaps ttft_ms_p95"),
    ("ttft<=500", "perhaps ttft_ms_p95"),
    ("ttft_ms<=500", "say which statistic, such as ttft_ms_p95"),
    ("ttft_ms_p100<=500", "'p100' is neither mean nor a percentile"),
    ("ttft_ms_max<=500", "'max' is neither mean nor a percentile"),
    ("ttft_ms_p95>=500", "limits are upper bounds, write ttft_ms_p95<=500"),
    ("ttft_ms_p95<=5s", "'5s' is not a number above 0"),
    ("ttft_ms_p95<=1.2.3", "'1.2.3' is not a number above 0"),
    ("ttft_ms_p95<=500 tpot_ms_p95", "limit 'tpot_ms_p95': write METRIC_STATISTIC<=NUMBER"),
    ("speed<=4", "there is no metric 'speed'; metrics are ttft_ms, "),
])
def test_a_limit_that_cannot_be_read_says_what_to_write(text: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        slo.parse(text, stored=False)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_percentile_that_no_point_stores_is_refused_where_points_are_judged() -> None:
    with pytest.raises(UserError, match=r"'tpot_ms_p99.9<=50': p99.9 is not stored with a point, only mean, p50, p90"):
        slo.parse("ttft_ms_p95<=500 tpot_ms_p99.9<=50")
    with pytest.raises(UserError, match="p75 is not stored"):
        slo.misses({"e2e_from_schedule_ms_p90": 1.0}, slo.parse("e2e_ms_p75<=3000", stored=False))


def test_a_row_misses_what_it_exceeds_or_lacks() -> None:
    row = {"ttft_ms_p95": 1.0, "ttft_from_schedule_ms_p95": 501.0, "tpot_ms_mean": 40.0}
    limits = slo.parse("ttft_ms_p95<=500 tpot_ms_mean<=40 itl_ms_p99<=9")
    assert slo.misses(row, limits) == ["ttft_ms_p95", "itl_ms_p99"]


def test_values_of_a_frame_are_the_percentiles_from_the_planned_instant() -> None:
    ttfts = np.linspace(10, 110, 101)
    rows = [request(i, sent_ms=100 + i, ttft_ms=t, planned_ns=(100 + i - 5) * MS) for i, t in enumerate(ttfts)]
    rows += [request(500, ttft_ms=9e3, outcome="timeout"), request(501, ttft_ms=9e3, phase="warmup")]
    limits = slo.parse("ttft_ms_p99.9<=1 ttft_ms_mean<=1 tpot_ms_p95<=1 itl_ms_p50<=1", stored=False)
    assert slo.values(frame(*rows), limits) == pytest.approx({
        "ttft_ms_p99.9": np.percentile(ttfts, 99.9) + 5, "ttft_ms_mean": 65, "tpot_ms_p95": 10, "itl_ms_p50": 10})


def test_nothing_measured_has_no_value_and_keeps_nothing() -> None:
    limits = slo.parse("ttft_ms_p95<=1 itl_ms_mean<=1")
    assert slo.values(empty(REQUESTS), limits) == {"ttft_ms_p95": None, "itl_ms_mean": None}
    assert slo.share_within(empty(REQUESTS), limits) == 0.0


def test_the_share_within_counts_requests_that_keep_every_limit() -> None:
    rows = [request(0), request(1, ttft_ms=900), request(2, itl_ms=90), request(3, outcome="reset"),
            request(4, tokens=1), request(5, planned_ns=-900 * MS), request(6, phase="tail")]
    requests = frame(*rows)
    assert slo.share_within(requests, slo.parse("ttft_ms_p95<=500 tpot_ms_p95<=50")) == pytest.approx(2 / 6)
    assert slo.share_within(requests, slo.parse("itl_ms_p95<=50")) == pytest.approx(4 / 6)
    assert slo.share_within(requests, slo.parse("itl_ms_mean<=1")) == pytest.approx(1 / 6)  # the one without a gap


def test_a_percentile_needs_more_requests_the_higher_it_is() -> None:
    assert slo.requests_needed(slo.parse("ttft_ms_p99.9<=1 tpot_ms_p95<=1", stored=False)) == 1000
    assert slo.requests_needed(slo.parse("ttft_ms_mean<=1")) == 1
