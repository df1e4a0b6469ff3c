"""Costs against hand-worked numbers, and what must hold of any of them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import cost as rough
from models.planning import cost, footprint
from models.planning.fleet import autoscaled, fixed, instances, with_spares
from models.planning.profile import named

RATE = st.floats(0.01, 1e3)
USD = st.floats(0.01, 100)
CHAT = cost.Request(input_tokens=300, output_tokens=100)


def test_a_machine_of_3_60_usd_that_serves_two_requests_a_second() -> None:
    """0.001 USD a second, so 0.0005 a request; 500 µUSD over 300 in, 100 out, 400 in all."""
    assert cost.usd_per_request(3.6, 2) == pytest.approx(0.0005)
    prices = cost.per_million(3.6, 2, CHAT)
    assert (prices.input, prices.output, prices.total) == pytest.approx((500 / 300, 5.0, 1.25))
    assert cost.per_million(3.6, 2, cost.Request(input_tokens=0, output_tokens=100)).input is None
    assert cost.usd_per_qps_month(3.6, 2) == pytest.approx(1314)


def test_a_split_by_one_second_of_prefill_and_three_of_decode() -> None:
    """A quarter of 500 µUSD over 200 fresh tokens, three quarters over 100 output tokens; 100 cached ones are free."""
    got = cost.split(3.6, 2, CHAT.model_copy(update={"cached_tokens": 100}), 1, 3)
    assert (got.fresh_input, got.output) == pytest.approx((0.625, 3.75))
    assert (got.prefill_share, got.decode_share) == (0.25, 0.75)
    whole = cost.split(3.6, 2, CHAT.model_copy(update={"cached_tokens": 300}), 1, 3)
    assert whole.fresh_input is None and whole.output == pytest.approx(5.0)
    with pytest.raises(ValueError, match="not both 0"):
        cost.split(3.6, 2, CHAT, 0, 0)


@given(USD, RATE, st.floats(1, 1e5), st.floats(1, 1e4), st.floats(0, 1), st.floats(0, 10), st.floats(1e-3, 10))
def test_the_split_adds_up_to_the_price_of_a_request(price: float, rate: float, inputs: float, outputs: float,
                                                     cached: float, prefill_s: float, decode_s: float) -> None:
    request = cost.Request(input_tokens=inputs, output_tokens=outputs, cached_tokens=inputs * cached)
    got = cost.split(price, rate, request, prefill_s, decode_s)
    whole = (got.fresh_input or 0) * (inputs - request.cached_tokens) + got.output * outputs
    assert whole == pytest.approx(1e6 * cost.usd_per_request(price, rate), rel=1e-6)


def test_machine_seconds_leave_decode_what_prefill_does_not_take() -> None:
    assert cost.machine_seconds(2, 0.1, 1.5) == pytest.approx((0.1, 0.4))
    assert cost.machine_seconds(20, 0.1, 1.5) == (0.1, 1.5)  # 0.05 s a request: prefills were batched
    with pytest.raises(ValueError, match="above 0"):
        cost.machine_seconds(0, 0.1, 1.5)


def test_a_month_of_two_machines_and_100_gib() -> None:
    """48 instance-hours a day are 1460 a month: 2920 USD at 2 USD, and 10 USD of storage."""
    assert cost.monthly_usd(48, 2, 100, 0.1) == pytest.approx(2930)
    assert cost.monthly_usd(48, 2) == pytest.approx(rough.rough_cost_usd(730, 2, 2))


def test_own_and_hosted_cost_the_same_at_the_break_even() -> None:
    """3.60 USD an hour is 0.001 a second; at 0.0005 a request the API costs as much at 2 requests a second. A machine
    serves 3: the second one, from 3, costs 0.002 a second, as much as 4 at the API; the third, from 6, pays at once."""
    assert cost.break_even(3.6, 3, 0.0005) == cost.BreakEven(first=2.0, for_good=4.0)
    assert cost.break_even(3.6, 1.5, 0.0005) == cost.BreakEven(first=None, for_good=None)
    assert cost.break_even(3.6, 3, 0.0005, spares=1) == cost.BreakEven(first=6.0, for_good=10.0)
    assert cost.own_usd_per_hour(4, 3.6, 3) == pytest.approx(7.2)
    with pytest.raises(ValueError, match="above 0"):
        cost.break_even(3.6, 3, 0)


@given(USD, RATE, st.floats(1e-6, 0.1), st.integers(0, 3))
def test_break_even_is_where_the_two_are_equal_and_below_it_the_api_is_cheaper(price: float, capacity: float,
                                                                              hosted: float, spares: int) -> None:
    got = cost.break_even(price, capacity, hosted, spares)

    def own(rate: float) -> float:
        return cost.own_usd_per_hour(rate, price, capacity, spares)

    if got.first is None or got.for_good is None:
        assert all(own(n * capacity) >= hosted * 3600 * n * capacity * (1 - 1e-9) for n in range(1, 50))
        return
    if got.for_good > 1e6 * capacity:
        return  # the last digits decide
    for rate in (got.first, got.for_good):
        assert own(rate) == pytest.approx(hosted * 3600 * rate, rel=1e-6)
    for share in (0.1, 0.5, 0.99):
        assert own(got.first * share) > hosted * 3600 * got.first * share
    for factor in (1.001, 1.5, 2, 10):
        assert own(got.for_good * factor) <= hosted * 3600 * got.for_good * factor * (1 + 1e-6)


@given(USD, RATE, st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_cost_falls_with_utilisation(price: float, capacity: float, one: float, other: float) -> None:
    """The same machine, a day and night, under less and more load: the price of what it does falls."""
    less, more = sorted((one, other))
    dear, cheap = (cost.usd_per_request(price, capacity * share) for share in (less, more))
    assert cheap <= dear
    light, heavy = (fixed(capacity * share, capacity, named()["even"]) for share in (less, more))
    assert light.utilisation == pytest.approx(less) and light.idle_hours >= heavy.idle_hours


@given(st.just(0.0) | st.floats(1e-6, 1e4), RATE, st.integers(0, 3), st.sampled_from(sorted(named())))
def test_instances_are_never_fewer_than_load_over_capacity(load: float, capacity: float, down: int, name: str) -> None:
    count = instances(load, capacity)
    assert count >= load / capacity * (1 - 1e-8) and count - 1 < max(load / capacity, 1e-12)
    profile = named()[name]
    busiest = load * profile.peak_factor / capacity
    for fleet in (fixed(load, capacity, profile, down), autoscaled(load, capacity, profile, down, ready_s=60)):
        assert fleet.instances >= busiest * (1 - 1e-8)
        assert fleet.hours * (1 + 1e-8) >= fleet.busy_hours
        assert fleet.hours == pytest.approx(fleet.busy_hours + fleet.idle_hours)
    if load:
        assert with_spares(load, capacity, down) - down == count  # with so many down the load is still served
        assert autoscaled(load, capacity, profile, down).hours <= fixed(load, capacity, profile, down).hours + 1e-6


def test_joules_kilowatt_hours_and_grams() -> None:
    assert footprint.joules_per_token(700, 350) == 2.0
    assert footprint.kwh(700, 730, 1.2) == pytest.approx(613.2)
    assert footprint.grams_co2(613.2, 400) == pytest.approx(245_280)
    assert math.isclose(footprint.kwh(1000, 1) * footprint.JOULES_PER_KWH, 3.6e6)
    with pytest.raises(ValueError, match="above 0"):
        footprint.joules_per_token(700, 0)
