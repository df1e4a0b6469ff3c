"""Curves carried over to other lengths, worked by hand."""

from __future__ import annotations

import pytest

from models.errors import UserError
from models.planning.curves import fit
from models.planning.points import point
from models.planning.priors import CurveQuantity
from models.planning.transfer import Mix, transfer


def mix(inputs: float, outputs: float, quantity: CurveQuantity = "tpot") -> Mix:
    """TPOT is 10 ms, and 1 ms more for each input token per output token, whatever the concurrency; TTFT is 20 ms and
    0.1 ms an input token."""
    points = [point(c, 20 + inputs / 10, 10 + inputs / outputs, outputs) for c in (1, 4, 16)]
    return Mix(input_tokens=inputs, output_tokens=outputs, fit=fit(points, quantity))


def test_lengths_between_calibrated_ones() -> None:
    mixes = [mix(100, 100), mix(1000, 100), mix(100, 500)]
    there = transfer(mixes, 400, 200, 4)
    assert there.value == pytest.approx(12, rel=0.02)         # 400 / 200 = 2 input tokens an output token
    assert not there.extrapolates
    assert there.low < 12 < there.high
    ttft = transfer([mix(100, 100, "ttft"), mix(1000, 100, "ttft")], 500, 100, 4)
    assert ttft.value == pytest.approx(70, rel=0.05)


def test_throughput_is_carried_as_time_a_token() -> None:
    mixes = [mix(100, 100, "throughput"), mix(1000, 100, "throughput")]
    there = transfer(mixes, 500, 100, 4)
    known = [one.fit.predict(4).value for one in mixes]
    # time a token is straight in input / output: 1, 5 and 10 tokens
    time = 4 / known[0] + (4 / known[1] - 4 / known[0]) * (5 - 1) / (10 - 1)
    assert there.value == pytest.approx(4 / time, rel=1e-6)


def test_outside_the_calibrated_lengths_it_says_so_and_widens() -> None:
    mixes = [mix(100, 100), mix(1000, 100)]
    inside, outside = transfer(mixes, 500, 100, 4), transfer(mixes, 4000, 100, 4)
    assert outside.extrapolates and not inside.extrapolates
    assert outside.high / outside.value > 1.2 * inside.high / inside.value
    assert transfer(mixes, 500, 100, 64).extrapolates      # no curve was measured there


def test_one_mix_or_two_quantities_are_refused() -> None:
    with pytest.raises(UserError, match="at least two mixes"):
        transfer([mix(100, 100)], 100, 100, 4)
    with pytest.raises(UserError, match="of one quantity, got 2 of tpot, ttft"):
        transfer([mix(100, 100), mix(1000, 100, "ttft")], 100, 100, 4)
