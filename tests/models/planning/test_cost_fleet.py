"""Fleets, days, interruptions and owned machines, worked by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import UserError
from models.planning import fleet, ownership, profile, spot
from models.planning.ownership import Owned
from models.planning.spot import Spot

WORK, EVEN = profile.named()["working-hours"], profile.named()["even"]


def test_whole_instances_and_spares() -> None:
    assert [fleet.instances(load, 2) for load in (0, 0.1, 2, 2.1, 4, 6.000000000001)] == [0, 1, 1, 2, 2, 3]
    assert [fleet.with_spares(load, 2, 2) for load in (0, 3)] == [0, 4]
    for load, capacity in ((1, 0), (-1, 1)):
        with pytest.raises(ValueError, match="capacity above 0"):
            fleet.instances(load, capacity)
    with pytest.raises(ValueError, match="0 or more"):
        fleet.with_spares(1, 1, -1)


def test_a_working_day_runs_three_times_the_mean_for_eight_hours() -> None:
    """10 a second on the mean is 30 for 8 hours: 5 machines of 6 a second, always on 120 hours for 40 of work."""
    assert WORK.peak_factor == 3 and WORK.rates(10)[9] == 30 and WORK.rates(10)[8] == 0
    always = fleet.fixed(10, 6, WORK)
    assert (always.instances, always.hours, always.busy_hours, always.idle_hours) == (5, 120, 40, 80)
    assert always.utilisation == pytest.approx(1 / 3)
    spared = fleet.fixed(10, 6, WORK, down=1)
    assert (spared.instances, spared.spares, spared.hours) == (6, 1, 144)


def test_scaling_pays_for_the_hours_needed_and_for_starting() -> None:
    """8 hours of 5 and 16 of 1 are 56; four are started, 6 minutes each: 0.4 hours."""
    scaled = fleet.autoscaled(10, 6, WORK, ready_s=360)
    assert (scaled.instances, scaled.least) == (5, 1) and scaled.hours == pytest.approx(56.4)
    assert fleet.autoscaled(10, 6, WORK, least=0).hours == 40
    assert fleet.autoscaled(10, 6, WORK, ready_s=1e6).hours == 120  # never worse than leaving them on


@pytest.mark.parametrize(("text", "reason"), [
    ("weekend", "name one of consumer, even, working-hours"), ("1,2,3", "3 numbers; give 24"),
    (",".join(["0"] * 24), "not all of them 0"), (",".join(["-1"] * 24), "from 0 up")])
def test_a_profile_that_is_none_says_what_to_give(text: str, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        profile.parse(text)
    assert all(word.strip() in str(caught.value) for word in reason.replace("name one of ", "").split(","))


def test_profiles_are_named_or_given() -> None:
    assert profile.parse("Even") is EVEN
    assert profile.parse(" ".join(["0"] * 23 + ["2"])).peak_factor == 24
    assert all(p.source for p in profile.named().values())


def test_an_interruption_every_ten_hours_that_takes_an_hour() -> None:
    """10 of 11 hours up; of the 10, half an hour is lost each time: 9.5 of 11 count."""
    taken = Spot(rate_per_hour=0.1, restart_s=3600, lost_s=1800)
    assert spot.up_share(taken) == pytest.approx(10 / 11)
    assert spot.useful_share(taken) == pytest.approx(9.5 / 11)
    assert spot.usd_per_useful_hour(1.9, taken) == pytest.approx(2.2)
    with pytest.raises(ValueError, match="every run is lost"):
        spot.usd_per_useful_hour(1, Spot(rate_per_hour=4, restart_s=0, lost_s=900))


def test_two_spares_keep_one_machine_up_at_99_in_100() -> None:
    """Up 10 of 11: one is up with 0.909, one of two with 1 − 1/121 = 0.9917."""
    taken = Spot(rate_per_hour=0.1, restart_s=3600)
    assert [spot.instances(1, taken, p) for p in (0.9, 0.99, 0.999)] == [1, 2, 3]
    assert spot.instances(0, taken) == 0 and spot.instances(5, Spot(rate_per_hour=0, restart_s=60)) == 5
    with pytest.raises(ValueError, match="between 0 and 1"):
        spot.instances(1, taken, 1)
    with pytest.raises(ValueError, match="every run is lost"):
        spot.instances(1, Spot(rate_per_hour=4, restart_s=0, lost_s=1000))


@given(st.integers(1, 40), st.floats(0, 0.5), st.floats(0, 1800))
def test_interruptions_never_lessen_what_is_needed(needed: int, rate: float, restart_s: float) -> None:
    taken = Spot(rate_per_hour=rate, restart_s=restart_s)
    assert spot.instances(needed, taken) >= needed
    assert spot.usd_per_useful_hour(1, taken) >= 1


def test_capital_recovery_is_the_textbooks_annuity() -> None:
    """At 8% over 5 years the factor is 0.25046 (any table of engineering economics); over 10 at 6%, 0.13587."""
    assert ownership.recovery_factor(0.08, 5) == pytest.approx(0.25046, abs=5e-6)
    assert ownership.recovery_factor(0.06, 10) == pytest.approx(0.13587, abs=5e-6)
    assert ownership.recovery_factor(0, 4) == 0.25
    with pytest.raises(ValueError, match="above 0"):
        ownership.recovery_factor(0.08, 0)


@given(st.floats(1, 1e6), st.integers(1, 15), st.floats(0, 0.5), st.floats(0, 0.9))
def test_the_annuity_pays_the_debt_off_to_what_it_is_sold_for(price: float, years: int, interest: float,
                                                             salvage: float) -> None:
    """Worked year by year: the debt grows by interest and falls by the annuity."""
    annuity, debt = ownership.capital_per_year(price, years, interest, salvage), price
    for _ in range(years):
        debt = debt * (1 + interest) - annuity
    assert debt == pytest.approx(price * salvage, rel=1e-6, abs=1e-6 * price * (1 + interest) ** years)


def test_an_hour_of_an_owned_machine() -> None:
    """87 600 USD over 10 years without interest is 1 an hour; 2 % upkeep 0.20; at 80 % use 1.50; 10 kW × 1.2 × 0.10
    is 1.20 more."""
    machine = Owned(price=87_600, years=10, opex_share=0.02, utilisation=0.8, power_w=10_000, pue=1.2,
                    electricity_per_kwh=0.10)
    assert ownership.per_hour(machine) == pytest.approx(2.7)


@given(st.floats(0.05, 1), st.floats(0.05, 1))
def test_a_machine_in_use_more_costs_less_an_hour(one: float, other: float) -> None:
    less, more = sorted((one, other))
    hour = [ownership.per_hour(Owned(price=1e5, years=4, interest=0.1, utilisation=u)) for u in (less, more)]
    assert hour[1] <= hour[0]
