"""Step times found again from requests that an engine with known ones would have answered."""

from __future__ import annotations

import numpy as np
import pytest

from models.errors import UserError
from models.planning import step_fit
from models.planning.simulation import Scheduling, closed_loop, open_loop
from models.planning.step_fit import Seen
from models.planning.steps import Prefill, StepTimes, steps_until
from tests.models.planning.naive import Naive

TRUE = StepTimes(base_s=0.010, per_sequence_s=0.002, per_prompt_s=0.004, per_prefill_token_s=0.0002,
                 per_kv_token_s=2e-6, overhead_s=0.003)


def loops(true: StepTimes, prefill: Prefill = "mixed") -> list[Seen]:
    """Of 1 to 8 users, with the instant of every token."""
    rng = np.random.Generator(np.random.PCG64(3))
    how, found = Scheduling(slots=8, prefill=prefill), []
    for users in (1, 2, 4, 8):
        inputs, outputs = rng.integers(20, 400, 30 * users), rng.integers(10, 80, 30 * users)
        run = closed_loop(true, how, users, inputs, outputs)
        came = run.arrived_s + true.overhead_s
        _, _, tokens = Naive(true, how).play(came.tolist(), inputs.tolist(), outputs.tolist())
        found.append(Seen(f"{users} at once", run.arrived_s, run.first_s, run.last_s, inputs.astype(float),
                          outputs.astype(float), tuple(np.array(one) for one in tokens)))
    return found


@pytest.mark.parametrize("prefill", ["mixed", "first"])
def test_step_times_are_found_again(prefill: Prefill) -> None:
    found = step_fit.fit(loops(TRUE, prefill), prefill)
    assert found.error_left_out < 0.03 and found.sequences_most == 8
    for n in (1, 4, 8):
        assert found.times.decode_s(n) == pytest.approx(TRUE.decode_s(n), rel=0.03)
    assert found.times.per_prefill_token_s == pytest.approx(TRUE.per_prefill_token_s, rel=0.03)
    assert found.times.per_kv_token_s == pytest.approx(TRUE.per_kv_token_s, rel=0.2)
    whole = found.times.base_s + found.times.per_prompt_s + found.times.overhead_s
    assert whole == pytest.approx(TRUE.base_s + TRUE.per_prompt_s + TRUE.overhead_s, rel=0.05)


def test_the_form_is_the_one_that_predicts_requests_left_out() -> None:
    bent = step_fit.fit(loops(TRUE.model_copy(update={"exponent": 0.5, "per_sequence_s": 0.01}))).times
    assert bent.table or bent.exponent == 0.5
    jumps = StepTimes(base_s=0.0, table=((1, 0.02), (4, 0.08), (7, 0.1), (8, 0.07)), per_prefill_token_s=0.0002,
                      overhead_s=0.003)
    found = step_fit.fit(loops(jumps)).times
    assert found.table and [found.decode_s(n) for n in (1, 4, 8)] == pytest.approx([0.02, 0.08, 0.07], rel=0.03)


def test_a_table_by_hand() -> None:
    """Straight lines between rows; beyond the last in proportion; nothing decodes in no time."""
    times = StepTimes(base_s=0.001, table=((2, 0.010), (4, 0.030)))
    assert [times.decode_s(n) for n in (0, 1, 2, 3, 8)] == pytest.approx([0.001, 0.006, 0.011, 0.021, 0.061])


def test_what_is_fitted_on_closed_loops_predicts_poisson_arrivals() -> None:
    rng = np.random.Generator(np.random.PCG64(4))
    came, how = np.cumsum(rng.exponential(0.3, 1500)), Scheduling(slots=8)
    inputs, outputs = rng.integers(20, 400, 1500), rng.integers(10, 80, 1500)
    found = step_fit.fit(loops(TRUE))
    true, simulated = (open_loop(one, how, came, inputs, outputs) for one in (TRUE, found.times))
    for quantile in (0.5, 0.95):
        assert np.quantile(simulated.ttft_s, quantile) == pytest.approx(np.quantile(true.ttft_s, quantile), rel=0.05)


def test_one_request_at_a_time_by_hand() -> None:
    """Two answers of 11 tokens in 100 ms after the first: 10 ms a step. First tokens after 13 and 23 ms of prompts of
    100 and 200 tokens: 0.1 ms a token and 3 ms beside them, less than a step: the base is blamed on what is known."""
    one = Seen("1 at once", np.array([0.0, 1.0]), np.array([0.023, 1.033]), np.array([0.123, 1.133]),
               np.array([100.0, 200.0]), np.array([11.0, 11.0]))
    found = step_fit.fit([one])
    assert found.times.decode_s(1) == pytest.approx(0.010, rel=1e-6) and found.error == pytest.approx(0, abs=1e-6)
    assert found.times.per_prefill_token_s * 100 + found.times.per_attended_token_s * 15_050 == pytest.approx(0.010)
    assert found.sequences_most == 1 and found.notes == ()


def test_loads_that_say_nothing() -> None:
    short = Seen("short", np.array([0.0]), np.array([0.1]), np.array([0.1]), np.array([5.0]), np.array([1.0]))
    with pytest.raises(UserError, match="two output tokens"):
        step_fit.fit([short])
    busy = Seen("2 at once", np.array([0.0, 0.0]), np.array([0.1, 0.1]), np.array([0.2, 0.2]), np.array([5.0, 5.0]),
                np.array([5.0, 5.0]))
    assert "alone" in step_fit.fit([busy]).notes[0]


def test_steps_until_an_arrival() -> None:
    """Steps of 10 ms fill 25 ms with the third; where each is 2·1 ms slower than the last, 2·10 + 4·1 = 24 ms are not
    enough either."""
    assert steps_until(0.025, 0.010, 0.0) == 3 and steps_until(0.025, 0.010, 0.001) == 3
    assert steps_until(0.024, 0.010, 0.001) == 2 and steps_until(0.001, 0.010, 0.0) == 1
