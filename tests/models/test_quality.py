"""Divergences against exact distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.quality import (
    Told,
    bootstrap,
    divergence,
    is_reference,
    kl_lower_bound,
    wilson,
)

Logprobs = dict[int | str, float]


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max())
    return np.asarray(shifted / shifted.sum())


def told(p: np.ndarray, top: int | None = None) -> Logprobs:
    """The likeliest tokens of a distribution over ids."""
    order = np.argsort(-p)[: top or len(p)]
    return {int(i): float(np.log(p[i])) for i in order}


def exact(p: np.ndarray, q: np.ndarray) -> float:
    return float(np.sum(p * np.log(p / q)))


def pair(seed: int, size: int, noise: float, spread: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, spread, size)
    return softmax(logits), softmax(logits + rng.normal(0, noise, size))


def test_two_outcomes_by_hand() -> None:
    p: Logprobs = {1: math.log(0.75), 2: math.log(0.25)}
    q: Logprobs = {1: math.log(0.5), 2: math.log(0.5)}
    kl, seen = kl_lower_bound(p, q)
    assert kl == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5)) and seen == pytest.approx(1)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 300), st.floats(0, 2), st.integers(1, 300), st.integers(1, 300))
def test_it_never_exceeds_the_exact_divergence_and_equals_it_when_every_token_is_told(
        seed: int, size: int, noise: float, top_p: int, top_q: int) -> None:
    p, q = pair(seed, size, noise)
    kl, seen = kl_lower_bound(told(p, top_p), told(q, top_q))
    assert 0 <= kl <= exact(p, q) + 1e-8 and 0 <= seen <= 1
    assert kl_lower_bound(told(p), told(q))[0] == pytest.approx(exact(p, q), abs=1e-9)


def test_more_tokens_come_closer_to_the_exact_divergence() -> None:
    p, q = pair(3, 2000, 0.2)
    bounds = [kl_lower_bound(told(p, k), told(q, k))[0] for k in (1, 10, 100, 1000, 2000)]
    assert bounds[2] > 0.6 * exact(p, q) and bounds[-1] == pytest.approx(exact(p, q), rel=1e-6)
    assert bounds[0] < bounds[2] < bounds[3]


def test_tokens_that_only_one_side_told_tighten_the_bound() -> None:
    """Two nearly flat distributions: what both told is little, yet each says that the other's tokens are rarer."""
    p, q = pair(4, 8000, 0.4, spread=0.3)
    kl, seen = kl_lower_bound(told(p, 300), told(q, 300))
    shared = told(p, 300).keys() & told(q, 300).keys()
    merged = kl_lower_bound({t: math.log(p[int(t)]) for t in shared}, {t: math.log(q[int(t)]) for t in shared})[0]
    assert seen < 0.1 and 2 * merged < kl < exact(p, q)


def test_equal_distributions_do_not_diverge_however_they_are_rounded() -> None:
    p, _ = pair(1, 5000, 0)
    rounded: Logprobs = {k: float(np.float32(v)) for k, v in told(p).items()}
    assert kl_lower_bound(rounded, told(p))[0] < 1e-6
    assert kl_lower_bound(told(p, 40), told(p, 40)) == (0.0, pytest.approx(float(np.sort(p)[-40:].sum())))


def test_tokens_that_were_not_told_count_by_the_most_that_they_can_have() -> None:
    """By hand: the other gives the one token at most 0.3, which was told of another."""
    p: Logprobs = {1: math.log(0.9)}
    q: Logprobs = {2: math.log(0.3)}
    least = 0.9 * math.log(0.9 / 0.3) + 0.1 * math.log(0.1 / 0.7)
    kl, seen = kl_lower_bound(p, q)
    assert seen == 0 and kl == pytest.approx(least, rel=1e-9)
    by_text: Logprobs = {"one": math.log(0.9)}
    assert kl_lower_bound(by_text, {"two": math.log(0.3)})[0] < least, "a text may stand for several tokens"


def test_setups_are_compared_at_the_positions_that_both_told() -> None:
    pairs = {at: pair(at, 200, 0.1) for at in range(40)}
    reference = {at: Told(told(p), next_token=3) for at, (p, _) in pairs.items()}
    other = {at: Told(told(q), next_token=3) for at, (_, q) in pairs.items() if at != 7}
    got = divergence(reference, other)
    assert got is not None and (got.positions, got.next_positions) == (39, 39)
    true = [exact(p, q) for at, (p, q) in pairs.items() if at != 7]
    assert got.kl_nats[0] == pytest.approx(np.mean(true), rel=1e-6) and got.kl_nats[1] < got.kl_nats[0] < got.kl_nats[2]
    apart = [abs(math.log(p[3] / q[3])) for at, (p, q) in pairs.items() if at != 7]
    assert got.next_logprob_difference is not None
    assert got.next_logprob_difference[0] == pytest.approx(np.mean(apart))
    agree = [int(p.argmax() == q.argmax()) for at, (p, q) in pairs.items() if at != 7]
    assert got.top1_agreement[0] == pytest.approx(np.mean(agree)) and got.mass_seen == pytest.approx(1)


def test_a_next_token_that_was_not_told_is_not_compared() -> None:
    same = {at: Told({1: -0.5, 2: -1.0}, next_token=9) for at in range(3)}
    got = divergence(same, same)
    assert got is not None and (got.next_positions, got.next_logprob_difference) == (0, None)
    assert got.top1_agreement[0] == 1 and got.kl_nats[0] == 0


def test_too_few_positions_in_common_are_no_comparison() -> None:
    one = {0: Told({1: -0.1})}
    assert divergence(one, one) is None and divergence({0: Told({}), 1: Told({})}, one) is None
    by_id, by_text = ({at: Told({key: -0.1}) for at in range(3)} for key in (7, " seven"))
    assert divergence(by_id, by_text) is None, "ids and texts are not compared"


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """Of skewed samples of 64, as divergences are."""
    rng = np.random.default_rng(5)
    draws = rng.lognormal(0, 1, size=(300, 64))
    held = sum(low <= math.exp(0.5) <= high for _, low, high in map(bootstrap, draws))
    assert held >= 0.85 * 300
    shares = [wilson(int(n), 64) for n in rng.binomial(64, 0.9, size=1000)]
    assert 0.92 <= np.mean([low <= 0.9 <= high for _, low, high in shares]) <= 0.99
    assert wilson(64, 64)[2] == 1.0 and 0.9 < wilson(64, 64)[1] < 1


@pytest.mark.parametrize(("quantization", "kv", "expected"), [
    ("F16", "f16", True), ("BF16", "bf16", True), ("F32", "f16", True), ("F16", "q8_0", False), ("Q8_0", "f16", False),
    ("BF16", "fp8", False)])
def test_the_reference_has_whole_weights_and_a_whole_cache(quantization: str, kv: str, expected: bool) -> None:
    assert is_reference(quantization, kv) is expected
