"""The event simulation against cases worked by hand, a simulator that plays every step, and textbook queues."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import UserError
from models.planning.simulation import Scheduling, closed_loop, open_loop
from models.planning.steps import StepTimes
from tests.models.planning.naive import Naive

TIMES = StepTimes(base_s=0.010, per_sequence_s=0.002, per_prompt_s=0.001, per_prefill_token_s=0.0001)


def test_one_request_alone() -> None:
    """A step for the prompt of 50 tokens, 10 + 1 + 5 ms, then four of 12 ms for the other tokens."""
    run = open_loop(TIMES, Scheduling(), [1.0], [50], [5])
    assert run.ttft_s == pytest.approx([0.016]) and run.tpot_s == pytest.approx([0.012])
    assert run.e2e_s == pytest.approx([0.016 + 4 * 0.012]) and run.queued_s == pytest.approx([0.0])
    assert run.kv_tokens_peak == 55 and run.preemptions == 0


def test_a_prompt_waits_for_the_step_that_runs_and_delays_the_others_token() -> None:
    """The first decodes from 16 ms on; the second comes at 20 ms, within the step to 28 ms, and its prompt of 50 tokens
    rides in the next one: 10 + 2 + 1 + 5 ms. Then both decode, in 14 ms a token."""
    run = open_loop(TIMES, Scheduling(), [0.0, 0.020], [50, 50], [4, 3])
    assert run.first_s == pytest.approx([0.016, 0.046])
    assert run.last_s == pytest.approx([0.046 + 0.014, 0.046 + 0.014 + 0.012])


def test_a_cache_that_grows_slows_the_steps() -> None:
    """A prompt of 3 tokens and its first one: 4 held, then 5 and 6: (10 + 4) + (10 + 5) + (10 + 6) ms."""
    run = open_loop(StepTimes(base_s=0.010, per_kv_token_s=0.001), Scheduling(), [0.0], [3], [4])
    assert run.last_s - run.first_s == pytest.approx([0.045])


def test_a_slot_is_waited_for() -> None:
    run = open_loop(TIMES, Scheduling(slots=1), [0.0, 0.001], [50, 50], [5, 5])
    assert run.first_s == pytest.approx([0.016, 0.064 + 0.016]) and run.queued_s == pytest.approx([0.0, 0.063])


def test_prompts_are_cut_to_what_a_step_may_hold() -> None:
    """100 tokens at 40 a step take three steps: 10 + 1 + 4, the same, 10 + 1 + 2 ms."""
    for how in (Scheduling(step_tokens=40), Scheduling(chunk_tokens=40)):
        assert open_loop(TIMES, how, [0.0], [100], [1]).ttft_s == pytest.approx([0.015 + 0.015 + 0.013])


def test_attention_makes_a_long_prompt_dearer_than_its_parts() -> None:
    """A prompt of 4 tokens attends to 1 + 2 + 3 + 4, in two halves as well."""
    times = StepTimes(base_s=0.0, per_attended_token_s=0.001)
    assert open_loop(times, Scheduling(), [0.0], [4], [1]).ttft_s == pytest.approx([0.010])
    assert open_loop(times, Scheduling(chunk_tokens=2), [0.0], [4], [1]).ttft_s == pytest.approx([0.010])


def test_steps_of_prompts_alone_stop_the_others() -> None:
    """First at 16 ms, a token at 28; then the second's prompt alone, 10 + 1 + 5 ms, and both in 14 ms a token."""
    run = open_loop(TIMES, Scheduling(prefill="first"), [0.0, 0.020], [50, 50], [3, 2])
    assert run.first_s == pytest.approx([0.016, 0.044]) and run.last_s == pytest.approx([0.058, 0.058])


def test_room_in_the_cache_is_waited_for() -> None:
    """Two of 55 tokens do not fit into 100 at once."""
    run = open_loop(TIMES, Scheduling(kv_tokens=100), [0.0, 0.0], [50, 50], [5, 5])
    assert run.admitted_s == pytest.approx([0.0, 0.064]) and run.kv_tokens_peak == 55


def test_a_full_cache_preempts_the_last_admitted_which_is_computed_again() -> None:
    """Both prompts fit (2 × 4 of 12 tokens) and their first tokens too; with one more each it is full, and the second
    waits until the first has ended, then computes its 4 + 2 tokens again."""
    times = StepTimes(base_s=1.0)
    run = open_loop(times, Scheduling(kv_tokens=12, kv_full="preempts"), [0.0, 0.0], [4, 4], [5, 5])
    assert run.preemptions == 1 and run.first_s == pytest.approx([1.0, 1.0])
    assert run.last_s == pytest.approx([5.0, 2.0 + 3.0 + 3.0])  # two steps, three of waiting, then three tokens


def test_the_overhead_delays_the_first_token_and_keeps_nobody_busy() -> None:
    times = TIMES.model_copy(update={"overhead_s": 0.5})
    run = open_loop(times, Scheduling(slots=1), [0.0, 0.2], [50, 50], [5, 5])
    assert run.ttft_s == pytest.approx([0.516, 0.516]) and run.e2e_s == pytest.approx([0.564, 0.564])


def test_users_of_a_closed_loop_ask_again_when_they_are_answered() -> None:
    run = closed_loop(TIMES, Scheduling(slots=1), 2, [50] * 4, [5] * 4)
    assert run.arrived_s == pytest.approx([0.0, 0.001, 0.064, 0.128])
    assert run.last_s == pytest.approx([0.064, 0.128, 0.192, 0.256])


def test_what_can_never_fit_is_refused() -> None:
    with pytest.raises(UserError, match="holds 100 tokens and the longest request has 105"):
        open_loop(TIMES, Scheduling(kv_tokens=100), [0.0], [100], [5])
    with pytest.raises(UserError, match="at least 1"):
        open_loop(TIMES, Scheduling(), [0.0], [0], [5])
    with pytest.raises(ValueError, match="ascend"):
        open_loop(TIMES, Scheduling(), [1.0, 0.0], [1, 1], [1, 1])


SECONDS = st.floats(0.0001, 0.01).map(lambda x: x + math.sqrt(2) * 1e-6)  # nothing at one instant: its order is free
ANY_TIMES = st.builds(StepTimes, base_s=SECONDS, per_sequence_s=SECONDS, exponent=st.sampled_from([0.5, 1.0]),
                      per_kv_token_s=st.sampled_from([0.0, 1.1e-5]), per_prompt_s=SECONDS, per_prefill_token_s=SECONDS,
                      per_attended_token_s=st.sampled_from([0.0, 1.3e-5]))
ANY_RULES = st.builds(Scheduling, slots=st.one_of(st.none(), st.integers(1, 5)),
                      step_tokens=st.one_of(st.none(), st.integers(6, 40)),
                      chunk_tokens=st.one_of(st.none(), st.integers(1, 20)),
                      kv_tokens=st.one_of(st.none(), st.integers(60, 200)), prefill=st.sampled_from(["mixed", "first"]),
                      kv_full=st.sampled_from(["waits", "preempts"]))
REQUESTS = st.lists(st.tuples(st.floats(0, 0.3), st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=25)


@settings(deadline=None, max_examples=300)
@given(times=ANY_TIMES, how=ANY_RULES, requests=REQUESTS)
def test_jumps_give_what_every_step_by_itself_gives(times: StepTimes, how: Scheduling,
                                                    requests: list[tuple[float, int, int]]) -> None:
    came = np.cumsum([gap + math.sqrt(3) * 1e-7 for gap, _, _ in requests])
    prompts, outputs = [p for _, p, _ in requests], [o for _, _, o in requests]
    run = open_loop(times, how, came, prompts, outputs)
    naive = Naive(times, how)
    first, last, _ = naive.play(came.tolist(), prompts, outputs)
    assert run.first_s == pytest.approx(first, rel=1e-9) and run.last_s == pytest.approx(last, rel=1e-9)
    assert run.preemptions == naive.preemptions
