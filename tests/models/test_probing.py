"""When a probe is decided, and what it says in the end."""

from __future__ import annotations

import math
from collections.abc import Iterable

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models import slo
from models.frames import OUTCOMES
from models.probing import Probe, decide, probe
from models.slo import Limit
from tests.models.frame import MS, frame, request

TTFT = slo.parse("ttft_ms_p95<=100")
NEAR = 95.0
"""Kept, but not by much: only many of them tell."""
IN_FLIGHT = {"phase": pl.String(), "planned_ns": pl.Int64(), "sent_ns": pl.Int64(), "first_ns": pl.Int64()}
NONE = pl.DataFrame(schema=IN_FLIGHT)
SECOND = 1_000_000_000


def answered(ttfts_ms: Iterable[float], **more: object) -> pl.DataFrame:
    return frame(*(request(i, sent_ms=i, ttft_ms=ms, **more) for i, ms in enumerate(ttfts_ms)))  # type: ignore[arg-type]


def flying(count: int, planned_ms: float = 0.0, first_ms: float | None = None, phase: str = "measured") -> pl.DataFrame:
    first = None if first_ms is None else round(first_ms * MS)
    return pl.DataFrame([(phase, round(planned_ms * MS), round(planned_ms * MS), first)] * count, schema=IN_FLIGHT,
                        orient="row")


def test_nothing_is_said_of_nothing() -> None:
    assert decide(answered([]), NONE, 0, TTFT) == "go on"
    assert decide(answered([500] * 7), NONE, SECOND, TTFT) == "go on"


def test_many_above_the_limit_are_hopeless() -> None:
    assert decide(answered([500] * 10), NONE, SECOND, TTFT) == "hopeless"


def test_a_few_above_the_limit_decide_nothing() -> None:
    assert decide(answered([20] * 18 + [500] * 2), NONE, SECOND, TTFT) == "go on"


def test_what_waits_in_flight_beyond_the_limit_is_above_it() -> None:
    assert decide(answered([]), flying(10), 500 * MS, TTFT) == "hopeless"
    assert decide(answered([]), flying(10), 90 * MS, TTFT) == "go on"
    assert decide(answered([]), flying(10, first_ms=20), 500 * MS, TTFT) == "go on"
    assert decide(answered([]), flying(10, phase="warmup"), 500 * MS, TTFT) == "go on"
    assert decide(answered([]), flying(10, phase="tail"), 500 * MS, TTFT) == "go on"


def test_the_wait_in_flight_is_counted_from_the_instant_it_was_meant_to_be_sent() -> None:
    assert decide(answered([]), flying(10, planned_ms=450), 500 * MS, TTFT) == "go on"
    assert decide(answered([]), flying(10, planned_ms=350), 500 * MS, TTFT) == "hopeless"
    assert decide(answered([]), flying(10, planned_ms=0, first_ms=300), 500 * MS, TTFT) == "hopeless"


def test_an_answer_too_long_in_flight_is_above_a_limit_on_the_whole() -> None:
    e2e, tpot = slo.parse("e2e_ms_p95<=400"), slo.parse("tpot_ms_p95<=5")
    assert decide(answered([]), flying(10, first_ms=20), 500 * MS, e2e) == "hopeless"
    assert decide(answered([]), flying(10, first_ms=20), 300 * MS, e2e) == "go on"
    assert decide(answered([]), flying(10, first_ms=20), 500 * MS, tpot) == "go on"


@pytest.mark.parametrize("outcome", [o for o in OUTCOMES if o != "ok"])
def test_a_request_that_failed_is_above_every_limit(outcome: str) -> None:
    assert decide(answered([20] * 10, outcome=outcome), NONE, SECOND, TTFT) == "hopeless"


def test_nothing_is_hopeless_before_its_time() -> None:
    assert decide(answered([500] * 10), NONE, SECOND - 1, TTFT, wait_ns=SECOND) == "go on"
    assert decide(answered([500] * 10), NONE, SECOND, TTFT, wait_ns=SECOND) == "hopeless"


def test_nothing_is_clear_before_its_time() -> None:
    assert decide(answered([20] * 10), NONE, SECOND - 1, TTFT, clear_ns=SECOND) == "go on"
    assert decide(answered([20] * 10), NONE, SECOND, TTFT, clear_ns=SECOND) == "clear"
    assert decide(answered([20] * 1000), NONE, SECOND, TTFT, clear_ns=math.inf) == "go on"


def test_far_below_the_limit_is_clear_early_and_near_it_late() -> None:
    assert decide(answered([20] * 8), NONE, SECOND, TTFT) == "clear"
    assert decide(answered([NEAR] * 70), NONE, SECOND, TTFT) == "go on"      # 0.95^70 = 0.028
    assert decide(answered([NEAR] * 80), NONE, SECOND, TTFT) == "clear"      # 0.95^80 = 0.017


def test_what_is_far_below_but_for_some_is_not_clear_early() -> None:
    assert decide(answered([20] * 9), flying(1), SECOND, TTFT) == "go on"
    assert decide(answered([20, 90] * 10), NONE, SECOND, TTFT) == "go on"    # a wide spread


def test_requests_that_are_worth_less_decide_later() -> None:
    assert decide(answered([NEAR] * 80), NONE, SECOND, TTFT, worth=0.2) == "go on"
    assert decide(answered([NEAR] * 400), NONE, SECOND, TTFT, worth=0.2) == "clear"
    assert decide(answered([500] * 10), NONE, SECOND, TTFT, worth=0.2) == "go on"      # as two: 0.05² = 0.0025
    assert decide(answered([500] * 20), NONE, SECOND, TTFT, worth=0.2) == "hopeless"


def test_a_limit_on_a_mean_is_decided_by_its_interval() -> None:
    limits = slo.parse("tpot_ms_mean<=10")
    assert decide(answered([20] * 20, itl_ms=5), NONE, SECOND, limits) == "clear"
    assert decide(answered([20] * 20, itl_ms=15), NONE, SECOND, limits) == "hopeless"
    mixed = frame(*(request(i, sent_ms=i, itl_ms=5 if i * 7919 % 13 % 2 else 15) for i in range(20)))
    assert decide(mixed, NONE, SECOND, limits) == "go on"
    assert decide(answered([20] * 7, itl_ms=15), NONE, SECOND, limits) == "go on"


def test_gaps_between_tokens_are_judged_at_the_end_only() -> None:
    assert decide(answered([20] * 100, itl_ms=15), NONE, SECOND, slo.parse("itl_ms_p99<=10")) == "go on"
    both = slo.parse("itl_ms_p99<=10 ttft_ms_p95<=10")
    assert decide(answered([20] * 100), NONE, SECOND, both) == "hopeless"


def test_one_limit_that_breaks_is_enough_and_all_must_be_clear() -> None:
    both = slo.parse("ttft_ms_p95<=100 tpot_ms_p95<=5")
    assert decide(answered([20] * 10, itl_ms=1), NONE, SECOND, both) == "clear"
    assert decide(answered([20] * 10, itl_ms=9), NONE, SECOND, both) == "hopeless"
    assert decide(answered([20] * 10, itl_ms=4.9), NONE, SECOND, both) == "go on"


def test_warmup_and_tail_decide_nothing() -> None:
    for phase in ("warmup", "tail"):
        assert decide(answered([500] * 50, phase=phase), NONE, SECOND, TTFT) == "go on"


@settings(deadline=None)
@given(above=st.integers(0, 60), below=st.integers(0, 300), worth=st.sampled_from([0.2, 1.0]))
@example(above=40, below=170, worth=0.2)
def test_more_above_the_limit_never_make_it_clearer(above: int, below: int, worth: float) -> None:
    order = {"hopeless": 0, "go on": 1, "clear": 2}
    frames = [answered([NEAR] * below + [500] * n) for n in (above, above + 1)]
    fewer, more = (order[decide(f, NONE, SECOND, TTFT, worth=worth)] for f in frames)
    assert more <= fewer or above + below < 8


def taken(requests: pl.DataFrame, limits: tuple[Limit, ...] = TTFT, **rates: float) -> Probe:
    return probe("concurrency", 4, requests, limits, rates, 2.5)


def test_a_probe_has_the_value_of_every_limit() -> None:
    limits = slo.parse("ttft_ms_p50<=100 tpot_ms_mean<=50 itl_ms_p99<=50")
    got = taken(answered([20, 30, 40], itl_ms=10), limits, ttft_ms_p50=30.0, requests_per_second=7.0)
    assert got.values == pytest.approx({"ttft_ms_p50": 30, "tpot_ms_mean": 10, "itl_ms_p99": 10})
    assert (got.level, got.seconds, got.requests_ok, got.requests_failed) == (4, 2.5, 3, 0)
    assert got.ttft_ms_p50 == 30 and got.requests_per_second == 7 and got.ttft_ms_least == pytest.approx(20)


@pytest.mark.parametrize(("ttft_ms", "keeps"), [(50, True), (99, True), (101, False), (200, False)])
def test_worst_is_below_nought_where_the_limits_are_kept(ttft_ms: float, keeps: bool) -> None:
    got = taken(answered([ttft_ms] * 40))
    assert got.worst == pytest.approx(math.log(ttft_ms / 100), abs=1e-6) and got.keeps is keeps


def test_worst_is_of_the_limit_that_is_nearest_to_break_or_broken_most() -> None:
    got = taken(answered([50] * 40, itl_ms=10), slo.parse("ttft_ms_p95<=100 tpot_ms_p95<=5"))
    assert got.worst == pytest.approx(math.log(2)) and not got.keeps


def test_failures_break_a_limit_once_they_are_more_than_it_leaves() -> None:
    def some(failed: int) -> Probe:
        ok = [request(i, sent_ms=i) for i in range(100 - failed)]
        return taken(frame(*ok, *(request(200 + i, sent_ms=i, outcome="reset") for i in range(failed))))
    assert some(5).keeps and some(5).requests_failed == 5
    assert not some(6).keeps and some(6).worst >= math.log(2)


def test_what_was_cancelled_has_not_failed() -> None:
    got = taken(frame(*(request(i, outcome="ok" if i < 10 else "cancelled") for i in range(30))))
    assert got.requests_failed == 0 and got.requests_ok == 10 and got.keeps


def test_nothing_answered_keeps_no_limit() -> None:
    got = taken(answered([20] * 10, outcome="http_5xx", first_token_ns=None, last_token_ns=None, output_tokens=None))
    assert not got.keeps and got.requests_ok == 0 and got.values == {"ttft_ms_p95": None}
    assert math.isfinite(got.worst) and got.decoding_most == 0


def test_the_number_that_decoded_together_is_counted() -> None:
    got = taken(frame(request(0, 0), request(1, 0), request(2, 10), request(3, 500)))
    # 20 to 60 ms twice, 30 to 70, 520 to 560
    assert got.decoding_most == 3
    assert got.decoding_mean == pytest.approx((2 * 10 + 3 * 30 + 1 * 10 + 40) / 90)


def test_one_that_follows_another_at_the_same_instant_is_not_beside_it() -> None:
    assert taken(frame(request(0, 0), request(1, 40))).decoding_most == 1


def test_answers_of_one_token_decode_for_no_time() -> None:
    got = taken(frame(*(request(i, i, tokens=1) for i in range(5))))
    assert got.decoding_mean <= 1 and got.keeps


PROBE = Probe(kind="request_rate", level=2, values={}, worst=-0.5, sigma=0.1, requests_ok=9, requests_failed=0)


def test_a_probe_keeps_the_limits_only_when_it_is_whole_and_to_be_trusted() -> None:
    assert PROBE.keeps and PROBE.model_copy(update={"worst": 0.0}).keeps
    assert not PROBE.model_copy(update={"worst": 0.01}).keeps
    assert not PROBE.model_copy(update={"hopeless": True}).keeps
    assert not PROBE.model_copy(update={"fatal": ("client_bound",)}).keeps


def test_a_probe_is_the_surer_the_farther_from_the_limit() -> None:
    chances = [PROBE.model_copy(update={"worst": worst}).sure for worst in (0.0, -0.05, -0.1, -0.3)]
    assert chances == sorted(chances) and chances[0] == pytest.approx(0.5) and chances[-1] > 0.99
    assert PROBE.model_copy(update={"hopeless": True}).sure > 0.99
    assert PROBE.model_copy(update={"sigma": 0.0}).sure == pytest.approx(1)


def test_requests_above_the_limit_nearest_to_break_are_counted() -> None:
    got = taken(answered([50] * 37 + [150] * 3, itl_ms=10), slo.parse("ttft_ms_p90<=100 tpot_ms_p95<=50"))
    assert (got.above, got.counted) == (3, 40) and got.allowed == pytest.approx(0.1)
    failed = [request(50, outcome="reset"), request(51, outcome="http_5xx")]
    got = taken(frame(*(request(i, ttft_ms=50) for i in range(20)), *failed))
    assert (got.above, got.counted) == (2, 22)
    assert taken(answered([50] * 9), slo.parse("ttft_ms_mean<=100")).counted == 0


def test_what_was_cut_off_counts_where_it_had_waited_too_long_already() -> None:
    def cut(first_ms: float | None, cut_ms: float) -> dict[str, object]:
        first = None if first_ms is None else round(first_ms * MS)
        return request(9, outcome="cancelled", first_token_ns=first, last_token_ns=first, output_tokens=None,
                       done_ns=round(cut_ms * MS))
    got = taken(frame(request(1, ttft_ms=50), cut(None, 300), cut(None, 80), cut(20, 300)))
    assert (got.above, got.counted) == (1, 2)
    assert taken(frame(cut(20, 300)), slo.parse("e2e_ms_p95<=200")).above == 1
    assert taken(frame(cut(20, 300)), slo.parse("tpot_ms_p95<=5")).counted == 0


@pytest.mark.parametrize(("above", "of", "sure"), [(0, 12, 0.73), (0, 60, 0.977), (0, 1000, 0.999), (5, 100, 0.5),
                                                   (6, 100, 0.69), (60, 100, 0.999)])
def test_counts_are_as_sure_as_a_binomial_makes_them(above: int, of: int, sure: float) -> None:
    got = PROBE.model_copy(update={"worst": -0.1 if above <= 0.05 * of else 0.1, "above": above, "counted": of})
    assert got.sure == pytest.approx(sure, abs=0.02)
