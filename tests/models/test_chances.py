"""A capacity's interval, from how many requests of each probe were above the limit."""

from __future__ import annotations

import math

import pytest

from models import capacity
from models.probing import Kind, Probe


def counted(level: float, above: int, of: int, kind: Kind = "concurrency", worth: float = 1.0) -> Probe:
    """A probe with so many requests above the limit, of which a twentieth may be."""
    return Probe(kind=kind, level=level, values={}, worst=0.1 if above > 0.05 * of else -0.1, sigma=0.1, requests_ok=50,
                 requests_failed=0, above=above, counted=of, worth=worth)


def test_a_cliff_between_two_probes_has_an_interval_as_wide_as_the_bracket() -> None:
    for levels, expected in (((32, 33), (32, 32)), ((200, 206), (200, 205))):
        got = capacity.found("concurrency", [counted(levels[0], 0, 120), counted(levels[1], 120, 120)])
        assert (got.low, got.high) == expected and got.sure > 0.99
    got = capacity.found("request_rate", [counted(24.5, 0, 240, "request_rate"),
                                          counted(25.6, 240, 240, "request_rate")])
    assert got.low == pytest.approx(24.5, rel=0.01) and got.high == pytest.approx(25.6, rel=0.01)


def test_none_above_a_strict_limit_is_not_taken_for_a_few() -> None:
    """16 requests far below a p99 limit are worth hundreds; half a request of them would be 3% above, thrice as many
    as are allowed."""
    kept = counted(16, 0, 16, worth=390 / 16).model_copy(update={"allowed": 0.01})
    broke = counted(17, 5, 86).model_copy(update={"allowed": 0.01, "hopeless": True})
    got = capacity.found("concurrency", [kept, broke])
    assert (got.low, got.high) == (16, 16) and got.sure > 0.9


def test_a_few_above_the_limit_at_either_end_leave_it_open_where_between_and_beside_it_lies() -> None:
    got = capacity.found("concurrency", [counted(8, 0, 8), counted(33, 4, 132), counted(34, 8, 136),
                                         counted(64, 40, 40)])
    assert 30 <= got.low < 33 < 34 <= (got.high or 0) <= 37 and got.sure < 0.9


def test_requests_that_are_worth_less_say_less() -> None:
    def width(worth: float) -> float:
        got = capacity.found("request_rate", [counted(24.5, 9, 240, "request_rate", worth),
                                              counted(25.6, 14, 240, "request_rate", worth)])
        return (got.high or math.inf) / got.low
    assert 1.05 < width(1.0) < 1.4 < width(0.1)
