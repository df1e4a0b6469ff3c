"""Calibrated curves over concurrency: worked by hand, properties, and intervals that hold on curves of known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import UserError
from models.planning import curves, knee
from models.planning.forms import RIVALS
from models.planning.points import CurvePoint, Slots, merged, point
from models.planning.priors import SHIPPED, CurveQuantity, learn, likelihoods

SLOTS = [point(2, 100, 20, 101), point(4, 100, 20, 101), point(8, 2200, 20, 101)]
"""Four slots: a request takes 0.1 s + 100 × 20 ms = 2.1 s, so 4 / 2.1 end in a second, and with 8 in flight each waits
2.1 s."""


def power(concurrency: float, a: float = 5.0, b: float = 0.5, k: float = 0.8) -> CurvePoint:
    return point(concurrency, 100 + 10 * concurrency, a + b * concurrency**k, 512)


def test_throughput_of_a_point_is_little_s_law() -> None:
    # 0.5 s + 100 × 20 ms = 2.5 s a request of 101 tokens; 8 in flight.
    assert point(8, 500, 20, 101).output_tokens_per_second == pytest.approx(8 * 101 / 2.5)
    assert point(8, 500, 20, 101).requests_per_second == pytest.approx(3.2)
    assert point(8, 500, 20, 101, output_tokens_per_second=300).output_tokens_per_second == 300


def test_repeats_of_a_concurrency_are_merged_into_their_median() -> None:
    two = merged([point(4, 100, 10, 100), point(1, 50, 5, 100), point(4, 400, 40, 100)])
    assert [p.concurrency for p in two] == [1, 4]
    assert (two[1].tpot_ms, two[1].ttft_ms) == (pytest.approx(20), pytest.approx(200))
    assert merged([point(4, 1, t, 9) for t in (10, 11, 90)])[0].tpot_ms == 11


def test_the_knee_is_where_requests_begin_to_queue() -> None:
    assert knee.served(SLOTS, 1.2) == pytest.approx(4.0, rel=1e-6)
    assert knee.served(SLOTS[:2], 1.2) == math.inf
    assert knee.served(SLOTS[:2], 1.2, max_sequences=4) == 4
    assert knee.served(SLOTS, 1.2, max_sequences=6) == 6                               # what is known comes first,
    assert knee.served(SLOTS, 1.2, max_sequences=16) == pytest.approx(4.0, rel=1e-6)   # but memory was full before


def test_beyond_the_knee_throughput_stays_and_ttft_grows_by_the_queue() -> None:
    throughput = curves.fit(SLOTS, "throughput", slots=Slots(most=4))
    plateau = 4 * 101 / 2.1
    assert throughput.predict(6).value == pytest.approx(plateau, rel=0.02)
    assert throughput.predict(32).value == throughput.predict(6).value
    ttft = curves.fit(SLOTS, "ttft", slots=Slots(most=4))
    assert ttft.predict(6).value == pytest.approx(1150, rel=0.03)       # half-way from 100 ms at 4 to 2 200 ms at 8
    assert ttft.predict(12).value == pytest.approx(2200 + 4 / (4 / 2.1) * 1e3, rel=1e-6)
    assert curves.fit(SLOTS, "tpot", slots=Slots(most=4)).predict(16).value == pytest.approx(20, rel=0.01)


def test_slots_apart_take_a_pass_for_each_run_of_busy_neighbours() -> None:
    apart = Slots(most=16, apart=True)
    # Of 2 busy slots in a row of 16, 15 of the 120 pairs are neighbours: (15 × 1 + 105 × 2) / 120 = 1.875 runs.
    assert apart.passes(2) == 1.875
    assert [apart.passes(c) for c in (1, 8, 12, 16)] == [1, 4.5, 3.75, 1]
    assert Slots.of({"max_sequences": 4}) == Slots(most=4), "a snapshot that an older dyno published"
    assert Slots(most=16).passes(8) == Slots(apart=True).passes(8) == 1
    busy = np.array([np.random.default_rng(seed).permutation(16) < 6 for seed in range(4000)])
    runs = busy[:, 0] + (busy[:, 1:] & ~busy[:, :-1]).sum(axis=1)
    assert apart.passes(6) == pytest.approx(runs.mean(), rel=0.02)


def test_a_curve_of_slots_apart_knows_that_full_ones_take_one_pass() -> None:
    apart = Slots(most=16, apart=True)
    points = {c: point(c, 50, 6 * apart.passes(c) + 2 * c, 40) for c in (1, 2, 4, 6, 8, 12, 16)}
    known = [points[c] for c in (1, 4, 8, 16)]
    off = {slots: [abs(curves.fit(known, "tpot", slots=slots).predict(c).value / points[c].tpot_ms - 1)
                   for c in (2, 6, 12)] for slots in (apart, Slots(most=16))}
    assert max(off[apart]) < 0.04 < 0.1 < max(off[Slots(most=16)])
    first = [curves.fit(known, "ttft", slots=slots).predict(6) for slots in off]
    assert first[0] == first[1]


def test_a_known_limit_is_respected_before_any_queue_was_measured() -> None:
    fitted = curves.fit(SLOTS[:2], "ttft", slots=Slots(most=4))
    assert fitted.knee == 4
    assert fitted.predict(8).value == pytest.approx(100 + 4 / (4 / 2.1) * 1e3, rel=0.05)
    assert fitted.predict(8).extrapolates


def test_a_power_curve_is_found_from_three_points() -> None:
    fitted = curves.fit([power(c) for c in (1, 16, 256)], "tpot")
    for c in (2, 4, 64, 128):
        assert fitted.predict(c).value == pytest.approx(power(c).tpot_ms, rel=0.03)
        assert fitted.predict(c).low < power(c).tpot_ms < fitted.predict(c).high
    assert not fitted.predict(128).extrapolates
    assert fitted.predict(300).extrapolates and fitted.predict(0.5).extrapolates
    assert fitted.error is not None and fitted.of == 1


def test_intervals_widen_away_from_the_points() -> None:
    fitted = curves.fit([power(c) for c in (4, 8, 16)], "tpot")
    widths = [math.log(p.high / p.low) for p in fitted.predict_many([16, 32, 128, 1024])]
    assert widths == sorted(widths)
    assert widths[-1] > 3 * widths[0]


def test_a_fit_is_a_value_that_can_be_stored_and_asked_again() -> None:
    fitted = curves.fit(SLOTS, "ttft", slots=Slots(most=4))
    again = curves.Fit.model_validate_json(fitted.model_dump_json())
    assert again == fitted
    assert again.predict(6) == fitted.predict(6)


def test_one_concurrency_is_not_a_curve() -> None:
    with pytest.raises(UserError, match="two concurrencies, got 1; measure at more load levels"):
        curves.fit([power(4), power(4)], "tpot")
    with pytest.raises(ValueError, match="above 0"):
        curves.fit([power(4), power(8)], "tpot").predict(0)


@pytest.mark.parametrize(("form", "truth"), [
    ("a + b·c", lambda c: 3 + 0.5 * c), ("a + b·c^k", lambda c: 3 + 0.5 * c**0.7),
    ("universal scalability law", lambda c: (1 + 0.05 * (c - 1) + 0.001 * c * (c - 1)) / 40),
    ("log-log interpolation", lambda c: 2 * c**0.5)])
def test_each_rival_finds_its_own_form(form: str, truth: object) -> None:
    at = np.array([1.0, 8.0, 64.0])
    found = RIVALS[form](at, truth(at))  # type: ignore[operator]
    assert found(np.array([4.0, 32.0])) == pytest.approx(truth(np.array([4.0, 32.0])), rel=1e-3)  # type: ignore[operator]


@settings(max_examples=60, deadline=None)
@given(a=st.floats(1, 100), share=st.floats(0.001, 0.5), k=st.floats(0.4, 1.1), slots=st.none() | st.integers(4, 64),
       levels=st.sets(st.integers(1, 256), min_size=3, max_size=6),
       quantity=st.sampled_from(["tpot", "throughput", "ttft"]))
def test_predictions_are_positive_and_keep_the_laws(a: float, share: float, k: float, slots: int | None,
                                                    levels: set[int], quantity: CurveQuantity) -> None:
    points = [power(c, a, share * a, k) for c in sorted(levels)]
    fitted = curves.fit(points, quantity, slots=Slots(most=slots))
    asked = np.geomspace(min(levels), 4 * max(levels), 12)
    found = fitted.predict_many(asked)
    assert all(0 < one.low < one.value < one.high for one in found)
    limit = fitted.knee or math.inf
    beyond = [one.value for c, one in zip(asked, found, strict=True) if c >= limit]
    if quantity == "ttft":
        assert beyond == sorted(beyond)
    else:
        assert beyond == pytest.approx([beyond[0]] * len(beyond)) if beyond else True
    if quantity == "throughput" and slots is None:   # a token takes at least `a` ms: throughput is below c / a
        assert all(one.value < 1.1 * c * 512 / (511 * a) * 1e3
                   for c, one in zip(asked, found, strict=True) if not one.extrapolates)


def _drawn(random: np.random.Generator) -> list[CurvePoint]:
    """A curve of the shape that the prior expects, with 3 % noise."""
    prior = SHIPPED["tpot"]
    k = float(np.clip(random.normal(*prior.exponent), 0.3, 1.4))
    turn = math.exp(random.normal(*prior.log_turn))
    at = [4.0 * 2**i for i in range(int(random.integers(5, 9)))]
    return [point(c, 100, 10 * (1 + (c / turn) ** k) * math.exp(random.normal(0, 0.03)), 512) for c in at]


def test_ninety_percent_intervals_hold_on_curves_of_known_truth() -> None:
    random = np.random.default_rng(1)
    inside = []
    for _ in range(150):
        points = _drawn(random)
        three = [points[0], points[len(points) // 2], points[-1]]
        fitted = curves.fit(three, "tpot")
        for one in points:
            if one not in three:
                there = fitted.predict(one.concurrency)
                inside.append(there.low <= one.tpot_ms <= there.high)
    assert 0.85 < np.mean(inside) < 0.97


def test_what_curves_have_in_common_is_learned_from_them() -> None:
    random = np.random.default_rng(2)
    drawn = [_drawn(random) for _ in range(150)]
    kernel = SHIPPED["tpot"]
    found = learn(likelihoods([curves.log_points(points, "tpot", math.inf) for points in drawn], kernel), kernel)
    assert found.exponent[0] == pytest.approx(kernel.exponent[0], abs=0.08)
    assert found.log_turn[0] == pytest.approx(kernel.log_turn[0], abs=0.5)
