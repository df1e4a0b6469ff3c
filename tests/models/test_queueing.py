"""The event simulation against cases worked by hand, textbook formulas and exact recursions."""

from __future__ import annotations

import heapq
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.queueing import USER_GAP_S, K, Stack, closed, open_loop

GAPS = st.lists(st.floats(0, 2), min_size=1, max_size=40)
TOKENS = st.lists(st.integers(1, 30), min_size=40, max_size=40)
STACKS = st.builds(Stack, slots=st.one_of(st.none(), st.integers(1, 6)), first_s=st.floats(0.001, 1),
                   a=st.floats(0.001, 0.1), b=st.floats(0, 0.05))


def test_one_slot_serves_two_requests_one_after_the_other() -> None:
    first, whole = open_loop(Stack(1, 0.1, 0.01, 0.0), [0.0, 0.05], [11, 11])
    assert first == pytest.approx([0.1, 0.15 + 0.1]) and whole == pytest.approx([0.2, 0.35])


def test_a_request_that_finds_the_slot_free_does_not_wait() -> None:
    first, whole = open_loop(Stack(1, 0.1, 0.01, 0.0), [0.0, 0.5], [11, 1])
    assert first == pytest.approx([0.1, 0.1]) and whole == pytest.approx([0.2, 0.1])


def test_users_of_a_closed_loop_wait_for_one_another() -> None:
    first, whole = closed(Stack(1, 0.1, 0.1, 0.0), 2, [2] * 4)  # 0.2 s each; the second user comes a millisecond later
    assert first == pytest.approx([0.1, 0.299, 0.3, 0.3]) and whole == pytest.approx([0.2, 0.399, 0.4, 0.4])


@settings(deadline=None, derandomize=True)
@example(slots=1, users=58, first_s=0.0005, a=0.0001)  # as many have been asked for before the last user has come
@given(slots=st.integers(1, 6), users=st.integers(1, 60), first_s=st.floats(0.0005, 0.1), a=st.floats(0.0001, 0.01))
def test_a_closed_loop_asks_in_the_order_of_time(slots: int, users: int, first_s: float, a: float) -> None:
    """Answers may end before the last user has come: what they lead to queues behind who came before, not after all."""
    first_s, a = first_s + math.sqrt(2) * 1e-5, a + math.sqrt(3) * 1e-6  # nothing at one instant: its order is free
    service = first_s + 4 * a
    came = [user * USER_GAP_S for user in range(users)]
    free = [0.0] * slots
    expected = []
    for _ in range(120):
        now = heapq.heappop(came)
        ends = max(now, heapq.heappop(free)) + service
        expected.append(ends - now)
        heapq.heappush(free, ends)
        heapq.heappush(came, ends)
    first, whole = closed(Stack(slots, first_s, a, 0.0), users, [5] * 120)
    assert whole == pytest.approx(expected, abs=1e-6) and first == pytest.approx(whole - 4 * a, abs=1e-6)


def test_many_users_have_come_within_two_seconds_as_the_load_generator_has_it() -> None:
    _, whole = closed(Stack(1, 0.001, 0.001, 0.0), 8000, [1] * 8000)
    # 4000 users a second come and 1000 answered ones come back: the last of 8000 at 1.6 s, and each takes a millisecond
    assert whole[-1] == pytest.approx(8 - 1.6, abs=0.01)


def test_sequences_share_the_processor() -> None:
    stack = Stack(None, 0.1, 0.01, 0.002)
    one, two = 0.012, 0.01 + 0.002 * 2**K
    first, whole = open_loop(stack, [0.0, 0.05], [11, 11])
    alone = 0.05 / one                              # tokens of the first before the second decodes, at 0.15 s
    ends = 0.15 + (10 - alone) * two                # both at once, until the first has its ten
    assert first == pytest.approx([0.1, 0.1])
    assert whole == pytest.approx([ends, ends + alone * one - 0.05])


def test_the_mean_wait_of_one_slot_is_pollaczek_and_khinchines() -> None:
    service, load = 0.1, 0.7
    waits = []
    for seed in range(4):
        gaps = np.random.Generator(np.random.PCG64(seed)).exponential(service / load, 20_000)
        first, _ = open_loop(Stack(1, service, 0.01, 0.0), np.cumsum(gaps).tolist(), [1] * len(gaps))
        waits.append(float(first.mean()) - service)
    assert np.mean(waits) == pytest.approx(load * service / (2 * (1 - load)), rel=0.06)


@settings(deadline=None)
@given(stack=STACKS, gaps=GAPS, tokens=TOKENS)
def test_no_first_token_comes_sooner_than_without_a_queue(stack: Stack, gaps: list[float], tokens: list[int]) -> None:
    many = tokens[:len(gaps)]
    first, whole = open_loop(stack, np.cumsum(gaps).tolist(), many)
    assert (first >= stack.first_s - 1e-9).all()
    alone = stack.first_s + (np.array(many) - 1) * stack.token_s(1)
    assert (whole >= alone - 1e-6).all()


@settings(deadline=None)
@given(stack=STACKS, users=st.integers(1, 50), tokens=TOKENS)
def test_a_closed_loop_answers_every_request_and_none_too_soon(stack: Stack, users: int, tokens: list[int]) -> None:
    first, whole = closed(stack, users, tokens)
    assert len(first) == len(whole) == len(tokens)
    assert (first >= stack.first_s - 1e-9).all() and (whole >= first - 1e-9).all()


@settings(deadline=None)
@given(slots=st.integers(1, 6), gaps=GAPS, tokens=TOKENS, first_s=st.floats(0.001, 1), a=st.floats(0.001, 0.1))
def test_work_is_conserved(slots: int, gaps: list[float], tokens: list[int], first_s: float, a: float) -> None:
    """Without sharing it is the queue G/G/c, first come, first served: no slot idles while a request waits, and none
    serves two."""
    arrivals, many = np.cumsum(gaps), tokens[:len(gaps)]
    free = [0.0] * slots
    starts = []
    for came, n in zip(arrivals, many, strict=True):
        starts.append(max(came, heapq.heappop(free)))
        heapq.heappush(free, starts[-1] + first_s + (n - 1) * a)
    first, whole = open_loop(Stack(slots, first_s, a, 0.0), arrivals.tolist(), many)
    assert first == pytest.approx(np.array(starts) + first_s - arrivals, abs=1e-6)
    assert whole == pytest.approx(first + (np.array(many) - 1) * a, abs=1e-6)


@settings(deadline=None)
@given(slots=st.one_of(st.none(), st.integers(1, 6)), gaps=GAPS, tokens=TOKENS, first_s=st.floats(0.001, 1))
def test_sequences_that_hardly_slow_one_another_fare_as_those_that_do_not(slots: int | None, gaps: list[float],
                                                                          tokens: list[int], first_s: float) -> None:
    arrivals, many = np.cumsum(gaps).tolist(), tokens[:len(gaps)]
    free, hardly = (open_loop(Stack(slots, first_s, 0.01, b), arrivals, many) for b in (0.0, 1e-15))
    assert hardly[0] == pytest.approx(free[0], abs=1e-6) and hardly[1] == pytest.approx(free[1], abs=1e-6)


@settings(deadline=None)
@given(gaps=GAPS, tokens=TOKENS, b=st.floats(0, 0.05))
def test_more_slots_never_delay_a_first_token_of_a_lone_queue(gaps: list[float], tokens: list[int], b: float) -> None:
    arrivals, many = np.cumsum(gaps).tolist(), tokens[:len(gaps)]
    free, _ = open_loop(Stack(None, 0.1, 0.01, b), arrivals, many)
    queued, _ = open_loop(Stack(2, 0.1, 0.01, b), arrivals, many)
    assert free == pytest.approx(0.1) and (queued >= free - 1e-9).all()
