"""Whether two figures differ: worked cases, and that the test is right as often as it says."""

from __future__ import annotations

import numpy as np
import pytest

from models.significance import differs


@pytest.mark.parametrize(("one", "other", "expected"), [
    ((10.0, (9.0, 11.0)), (13.0, (12.0, 14.0)), True),    # 3 apart, √2 wide
    ((10.0, (9.0, 11.0)), (11.7, (10.7, 12.7)), True),    # the intervals overlap, the figures differ all the same
    ((10.0, (9.0, 11.0)), (11.3, (10.3, 12.3)), False),   # 1.3 apart is less than √2
    ((10.0, (9.0, None)), (13.0, (12.0, 14.0)), None),    # the bound towards the other is not known
    ((10.0, (None, 11.0)), (13.0, (12.0, None)), True),   # those that are not known are not needed
])
def test_worked_cases_either_way_round(one: tuple[float, tuple[float | None, float | None]],
                                       other: tuple[float, tuple[float | None, float | None]],
                                       expected: bool | None) -> None:
    assert differs(*one, *other) is expected and differs(*other, *one) is expected


def test_figures_that_are_the_same_are_told_apart_one_time_in_twenty() -> None:
    random = np.random.default_rng(1)
    half, wrong = 1.96, 0
    for a, b in random.normal(100.0, 1.0, (4000, 2)):
        wrong += bool(differs(a, (a - half, a + half), b, (b - half, b + half)))
    assert wrong / 4000 == pytest.approx(0.05, abs=0.012)
