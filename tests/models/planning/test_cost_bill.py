"""A month's bill, worked by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.planning.bill import Bill, Demand, Rate, bill, day_of
from models.planning.capacity import Served
from models.planning.cost import Request
from models.planning.profile import named
from models.planning.spot import Spot

CHAT = Request(input_tokens=300, output_tokens=100)


def served(rate: float, level: str = "measured") -> Served:
    return Served(level=level, requests_per_second=rate, concurrency=8, how="tests")


def demand(mean: float = 10, profile: str = "working-hours", **more: object) -> Demand:
    return Demand.model_validate({"mean_per_second": mean, "profile": named()[profile], "request": CHAT} | more)


def test_the_rough_bill_knows_neither_the_busiest_hour_nor_spares() -> None:
    """10 a second at 6 a machine: 2 machines of 1 USD, 730 hours, 40 of storage: 1500. The day needs 5 and a spare."""
    rate = Rate(usd_per_hour=1, storage_usd_per_month=40)
    rough, real = (bill(served(6, level), demand(down=1), rate) for level in ("rough", "measured"))
    assert (rough.instances, rough.usd_per_month) == (2, 1500)
    assert (real.instances, real.usd_per_month) == (6, 6 * 730 + 40)
    assert real.utilisation == pytest.approx(40 / 144)


def test_everything_is_charged_to_requests_and_tokens() -> None:
    """26.28 million requests a month: 5 machines are 3650 USD, 138.9 µUSD a request, 1.389 a million output tokens."""
    got = bill(served(6), demand(alone=(0.05, 2)), Rate(usd_per_hour=1))
    assert got.usd_per_request == pytest.approx(3650 / 26.28e6)
    assert got.per_million.output == pytest.approx(3650 / 2628) and got.per_million.total == pytest.approx(3650 / 10512)
    assert got.full_load == pytest.approx(1e6 / (6 * 100 * 3600))
    assert got.usd_per_qps_month == pytest.approx(730 / 6)
    assert got.split is not None and got.split.prefill_share == pytest.approx(0.3)  # 50 ms of 1000 ÷ 6
    assert got.split.fresh_input == pytest.approx(0.3 * got.usd_per_request * 1e6 / 300)


def test_scaling_and_interruptions() -> None:
    """Scaled: 56 hours a day and 0.4 of starting. On spot, 5 that are up 10 of 11 hours are 8 at 99 in 100, as
    P(at least 5 of 7 up) = 0.978 and of 8, 0.995."""
    assert day_of(6, demand(autoscale=True, ready_s=360)).hours == pytest.approx(56.4)
    taken = Spot(rate_per_hour=0.1, restart_s=3600)
    assert day_of(6, demand(spot=taken)).instances == 8
    assert day_of(6, demand(spot=taken, down=4)).instances == 9  # the spares are more
    assert day_of(6, demand(spot=taken, autoscale=True)).hours == pytest.approx(56 + 3 * 24)


@given(st.floats(0.1, 100), st.floats(0.1, 100), st.sampled_from(sorted(named())), st.integers(0, 2))
def test_more_load_on_the_same_machines_never_costs_more_a_request(mean: float, capacity: float, profile: str,
                                                                 down: int) -> None:
    def at(load: float) -> Bill:
        return bill(served(capacity), demand(load, profile, down=down), Rate(usd_per_hour=2))

    less, more = at(mean), at(mean * 1.05)
    if less.instances == more.instances:
        assert more.utilisation >= less.utilisation and more.usd_per_request <= less.usd_per_request * (1 + 1e-9)
    assert less.full_load <= less.per_million.output * (1 + 1e-6)
