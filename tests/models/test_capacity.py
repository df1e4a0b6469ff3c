"""The capacity search as a whole, against engines whose capacity is known and that are asked in no time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import capacity, queueing, simulated, slo
from models.capacity import GROWTH, PROBES_MAX, TOLERANCE, Capacity
from models.probing import Kind, Probe
from models.queueing import Stack
from models.simulated import LEVEL_MAX
from models.slo import Limit

KINDS: tuple[Kind, ...] = ("concurrency", "request_rate")
Oracle = Callable[[Kind, float], Probe]
LIMITS = slo.parse("ttft_ms_p95<=200")
TOKENS = (50,)
FAST = settings(deadline=None, max_examples=60)
SLOW = settings(deadline=None, max_examples=4)


def searched(kind: Kind, oracle: Oracle, limits: tuple[Limit, ...] = LIMITS, known: Sequence[Probe] = (),
             start: float | None = None) -> tuple[list[Probe], Capacity]:
    """The whole loop of asking and telling; returns the probes it made and what they say. It holds what every search
    must: it ends, and asks only for what can be asked."""
    probes = list(known)
    while True:
        stack = simulated.fit(probes)
        guess = simulated.crossing(stack, kind, TOKENS, limits, probes) if stack else None
        level = capacity.propose(kind, probes, guess, start)
        if level is None:
            break
        low, high = capacity.bracket([p for p in probes if p.kind == kind])
        assert level > 0
        if kind == "concurrency":
            assert level == round(level) >= 1
        if low or high:
            assert (low.level if low else 0) < level < (high.level if high else math.inf)
        probes.append(oracle(kind, level))
        assert len(probes) - len(known) <= PROBES_MAX
    return probes[len(known):], capacity.found(kind, probes, guess)


def curve(largest: float, slope: float = 1.0, noise: float = 0.0, seed: int = 0) -> Oracle:
    """Margins that grow with the level and are nought at the largest; nothing else is known of the engine."""
    rng = np.random.Generator(np.random.PCG64(seed))

    def probe(kind: Kind, level: float) -> Probe:
        worst = slope * math.log(level / largest) + noise * float(rng.standard_normal())
        return Probe(kind=kind, level=level, values={}, worst=max(-20.0, min(20.0, worst)), sigma=max(noise, 0.001),
                     requests_ok=100, requests_failed=0, seconds=1.0)
    return probe


def step(largest: float) -> Oracle:
    """As slots make it: far below the limit up to them, far above beyond."""
    def probe(kind: Kind, level: float) -> Probe:
        keeps = level <= largest
        return Probe(kind=kind, level=level, values={}, worst=-2.3 if keeps else 1.5, sigma=0.02, requests_ok=100,
                     requests_failed=0, hopeless=not keeps, seconds=1.0)
    return probe


def engine(stack: Stack, limits: tuple[Limit, ...] = LIMITS, noise: float = 0.01) -> Oracle:
    """An engine that is simulated: its first tokens, its speed, and how many of its sequences ran together."""
    rng = np.random.Generator(np.random.PCG64(1))

    def probe(kind: Kind, level: float) -> Probe:
        if kind == "concurrency":
            first, whole = queueing.closed(stack, round(level), TOKENS * (12 * round(level) + 200))
            together = level
        else:
            gaps = rng.exponential(1 / level, 6000)
            first, whole = queueing.open_loop(stack, np.cumsum(gaps).tolist(), TOKENS * len(gaps))
            together = level * float((whole - first).mean()) + 3
        cut = len(first) // 6
        first, whole = first[cut:] * (1 + noise * np.abs(rng.standard_normal(len(first) - cut))), whole[cut:]
        worst, _ = simulated.outcome(first, whole, TOKENS * len(first), limits)
        most = round(min(together, stack.slots or together))
        return Probe(kind=kind, level=level, values={}, worst=min(20.0, worst), sigma=0.02, requests_ok=len(first),
                     requests_failed=0, hopeless=worst > 1, seconds=1.0, ttft_ms_p50=float(np.median(first)) * 1e3,
                     ttft_ms_least=float(first.min()) * 1e3, e2e_ms_mean=float(whole.mean()) * 1e3,
                     tpot_ms_p50=float(np.median(whole - first)) * 1e3 / (TOKENS[0] - 1), decoding_most=most,
                     decoding_mean=max(1.0, most * 0.95), requests_per_second=level / float(whole.mean()))
    return probe


def holds(got: Capacity, largest: float, kind: Kind) -> None:
    """The bracket is around the truth, and narrow."""
    assert (got.breaks is not None and got.keeps <= largest < got.breaks) or got.keeps == largest
    width = (got.breaks or 0) - got.keeps
    if got.keeps:
        assert width <= TOLERANCE[kind] * got.keeps * 1.001 or (kind == "concurrency" and width <= 1)
    within(got)


def within(got: Capacity) -> None:
    """The estimate is in the bracket, the bracket in the interval; of users, the one that breaks is not."""
    top = math.inf if got.breaks is None else got.breaks - (got.kind == "concurrency")
    assert got.low <= got.keeps <= got.estimate <= top <= (got.high or math.inf) and 0 <= got.sure <= 1


@FAST
@given(largest=st.integers(1, 15_000), slope=st.sampled_from([0.05, 0.3, 1.0, 5.0]))
def test_a_concurrency_is_found_on_a_smooth_curve(largest: int, slope: float) -> None:
    probes, got = searched("concurrency", curve(largest + 0.5, slope))
    holds(got, largest, "concurrency")
    assert max(Counter(p.level for p in probes).values()) == 1


@FAST
@given(largest=st.floats(0.01, 15_000), slope=st.sampled_from([0.05, 0.3, 1.0, 5.0]))
def test_a_rate_is_found_on_a_smooth_curve(largest: float, slope: float) -> None:
    probes, got = searched("request_rate", curve(largest, slope))
    holds(got, largest, "request_rate")
    assert max(Counter(p.level for p in probes).values()) == 1


@FAST
@given(largest=st.integers(1, 15_000))
def test_a_concurrency_is_found_at_a_step(largest: int) -> None:
    probes, got = searched("concurrency", step(largest))
    assert got.breaks and got.keeps <= largest < got.breaks
    assert len({p.level for p in probes}) == len(probes)
    if largest <= 500:  # from 8 on by eights, then by halves
        holds(got, largest, "concurrency")


@SLOW
@given(slots=st.integers(1, 96), first_s=st.floats(0.005, 0.1))
def test_slots_are_found_in_a_few_probes(slots: int, first_s: float) -> None:
    oracle = engine(Stack(slots, first_s, 0.01, 0.0))
    probes, got = searched("concurrency", oracle)
    truth = max(n for n in range(slots, slots + 41)
                if simulated.predicted(Stack(slots, first_s, 0.01, 0.0), "concurrency", n, TOKENS, LIMITS)[0] <= 0)
    assert abs(got.estimate - truth) <= max(1, 0.05 * truth) and len(probes) <= 9
    assert got.high is not None and got.low - 1 <= truth <= got.high + 1  # chance decides a level at the limit itself
    if all(p.sure > 0.999 for p in probes):  # one within its noise leaves it open
        assert got.high - got.low <= max(2, 0.05 * truth) and got.sure > 0.9


@SLOW
@given(slots=st.integers(2, 64))
def test_the_rate_that_slots_bear_is_found_by_what_the_concurrency_taught(slots: int) -> None:
    stack = Stack(slots, 0.02, 0.01, 0.0)
    oracle = engine(stack)
    known, _ = searched("concurrency", oracle)
    probes, got = searched("request_rate", oracle, known=known)
    truth = simulated.crossing(stack, "request_rate", TOKENS, LIMITS)
    assert truth is not None and got.estimate == pytest.approx(truth, rel=0.12)
    assert len(probes) <= 11  # at 7 slots; 3 at all others from 2 to 64


@SLOW
@given(limit_ms=st.floats(13, 60))
def test_a_speed_that_sequences_share_is_found(limit_ms: float) -> None:
    limits, stack = slo.parse(f"tpot_ms_p95<={limit_ms:.1f}"), Stack(None, 0.02, 0.01, 0.001)
    probes, got = searched("concurrency", engine(stack, limits), limits)
    truth = math.floor(((limits[0].at_most / 1e3 - stack.a) / stack.b) ** (1 / queueing.K))
    assert abs(got.estimate - truth) <= max(1, 0.05 * truth) and len(probes) <= 8


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_keeps_a_limit_that_an_idle_engine_breaks(kind: Kind) -> None:
    probes, got = searched(kind, curve(1e-9))
    assert (got.keeps, got.estimate, got.low) == (0, 0, 0) and "lowest" in got.why and got.breaks == probes[-1].level
    slow, _ = searched(kind, engine(Stack(4, 0.5, 0.01, 0.0)))
    assert not any(p.keeps for p in slow) and len(slow) <= 8


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_that_nothing_breaks_ends_at_the_most_there_is(kind: Kind) -> None:
    probes, got = searched(kind, curve(1e9))
    assert got.breaks is None and got.high is None and got.keeps == LEVEL_MAX and "nothing tried" in got.why
    assert len(probes) == len({p.level for p in probes}) <= 6


@settings(deadline=None, max_examples=200)
@given(kind=st.sampled_from(KINDS), answers=st.lists(st.booleans(), min_size=PROBES_MAX, max_size=PROBES_MAX),
       margins=st.lists(st.floats(0.001, 3), min_size=PROBES_MAX, max_size=PROBES_MAX), start=st.floats(0.01, 2000))
def test_a_search_ends_whatever_the_probes_say(kind: Kind, answers: list[bool], margins: list[float], start: float,
                                               ) -> None:
    said = iter(zip(answers, margins, strict=True))

    def random(kind: Kind, level: float) -> Probe:
        keeps, margin = next(said)
        return Probe(kind=kind, level=level, values={}, worst=-margin if keeps else margin, sigma=0.2, requests_ok=50,
                     requests_failed=0)
    _, got = searched(kind, random, start=start)
    within(got)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """Smooth curves, probes with noise of a few percent: the search contradicts itself near the limit."""
    for kind in KINDS:
        hits = 0
        for seed in range(200):
            rng = np.random.Generator(np.random.PCG64(seed))
            largest = math.exp(rng.uniform(math.log(4), math.log(2000)))
            _, got = searched(kind, curve(largest, float(rng.choice([0.3, 0.7, 1.5])), 0.04, seed))
            hits += got.low <= largest <= (got.high or math.inf) + (kind == "concurrency")
        assert hits >= 170, (kind, hits)  # nine in ten and more: its noise is not all that may be wrong


def made(level: float, worst: float, sigma: float = 0.1, kind: Kind = "request_rate", **more: object) -> Probe:
    return Probe.model_validate({"kind": kind, "level": level, "values": {}, "worst": worst, "sigma": sigma,
                                 "requests_ok": 50, "requests_failed": 0, **more})


def test_where_probes_contradict_the_surer_counts() -> None:
    low, high = capacity.bracket([made(2, -1), made(4, 0.01), made(6, -0.5), made(8, 1)])
    assert low and high and (low.level, high.level) == (6, 8)
    low, high = capacity.bracket([made(2, -1), made(4, 0.5), made(6, -0.01), made(8, 1)])
    assert low and high and (low.level, high.level) == (2, 4)
    assert capacity.bracket([]) == (None, None)


def test_probes_of_the_other_kind_or_known_before_cost_nothing() -> None:
    known = [made(2, -1, reused=True, seconds=9), made(4, 1, reused=True, seconds=9), made(3, 1, kind="concurrency")]
    got = capacity.found("request_rate", known)
    assert (got.keeps, got.breaks, got.seconds, got.probes) == (2, 4, 0, 2)
    level = capacity.propose("request_rate", known, None)
    assert level and 2 < level < 4


def test_points_known_before_that_decide_it_need_no_probe() -> None:
    known = [made(n, n - 5.5, kind="concurrency", reused=True) for n in range(1, 10)]
    probes, got = searched("concurrency", curve(1), known=known)
    assert probes == [] and (got.keeps, got.breaks) == (5, 6)


def test_a_guess_that_is_wrong_gives_way_to_bisection() -> None:
    for wrong in (0.05, 0.9, 1.1, 20.0):
        probes: list[Probe] = []
        while (level := capacity.propose("request_rate", probes, 30 * wrong)) is not None:
            probes.append(curve(30)("request_rate", level))
        got = capacity.found("request_rate", probes)
        assert got.breaks and got.keeps <= 30 <= got.breaks <= got.keeps * 1.051, (wrong, got)


def test_an_interval_is_the_wider_the_less_sure_its_ends_are() -> None:
    def ends(sigma: float) -> tuple[float, float]:
        got = capacity.found("request_rate", [made(1, -1, sigma), made(9, -0.1, sigma), made(10, 0.01, sigma),
                                              made(20, 0.7, sigma)])
        return got.low, got.high or math.inf
    (low, high), (lower, higher) = ends(0.001), ends(0.1)
    assert low == pytest.approx(9) and high == pytest.approx(10, rel=0.02)
    assert lower < low and higher > high and lower > 10 / GROWTH


def test_an_engine_is_fitted_as_it_is() -> None:
    true = Stack(16, 0.05, 0.01, 0.001)
    oracle = engine(true, noise=0.0)
    got = simulated.fit([oracle("concurrency", n) for n in (1, 4, 8, 40)])
    assert got and got.slots == 16 and got.first_s == pytest.approx(0.05, rel=0.02)
    assert all(got.token_s(n) == pytest.approx(true.token_s(n), rel=0.1) for n in (1, 8, 16))
    assert simulated.fit([]) is None
    one = simulated.fit([oracle("concurrency", 4)])
    assert one and one.slots is None


@pytest.mark.parametrize(("kind", "level"), [("concurrency", 3000), ("request_rate", 300.0)])
def test_the_simulation_of_many_users_says_something(kind: Kind, level: float) -> None:
    assert math.isfinite(simulated.predicted(Stack(8, 0.01, 0.001, 0.0), kind, level, TOKENS, LIMITS)[0])
