"""How far quantisation moved a model: next-token distributions of two setups after the same prefixes, compared.

    kl = sum over tokens of p * ln(p / q),  p of the unquantised model, q of the other; in nats (Kullback and Leibler,
         "On information and sufficiency", Ann. Math. Stat. 22, 1951)

An engine tells the likeliest tokens only. So outcomes are merged: tokens that both told stand alone, those that only
one of them told are one bucket each, the rest is one. Merging never raises the divergence (log sum inequality: Cover
and Thomas, "Elements of Information Theory", 2nd ed. 2006, theorem 2.7.1; in other words data processing, 2.8). A token
that was not told is no likelier than the least likely one that was, which bounds the other side's mass of the two
buckets, and the least divergence within these bounds is taken. So the figure is a lower bound of the full one;
`mass_seen`, the p of the tokens that both told, says how much of it can be missing.

Means are over positions of one text. Intervals are 95%: for means by the percentile bootstrap (Efron and Tibshirani,
"An Introduction to the Bootstrap", 1993, ch. 13; divergences are skewed, and Student's t would reach below 0), for
shares by Wilson's score (JASA 22, 1927). They tell nothing about other texts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from models.intervals import LEVEL

Key = int | str
"""A token by its id, or by its text where an engine tells no ids."""
Estimate = tuple[float, float, float]
"""Value, lower and upper bound."""

TOP = 1000
"""Next tokens asked for at each position: nearly all of a trained model's mass; every one costs a line of JSON."""
ROUNDING = 1e-5
"""A rest below this on both sides is the rounding of single-precision log-probabilities, and no mass."""
TINY, ROUNDS_MAX = 1e-12, 500
RESAMPLES, SEED = 2000, 20
POSITIONS_MIN = 2
UNQUANTIZED = ("F32", "F16", "BF16")
"""Weights as they were trained, the most precise first: a 16-bit float converts to F32, and a bfloat16 within the range
of half precision to F16, without loss."""
KV_WHOLE = ("f32", "f16", "bf16")


@dataclass(frozen=True)
class Told:
    """What an engine told of the token after one prefix: natural log-probabilities of the likeliest, and which token
    the text goes on with, where that is known."""

    logprobs: Mapping[Key, float]
    next_token: Key | None = None


@dataclass(frozen=True)
class Divergence:
    """One setup against its reference, over the positions that both told."""

    positions: int
    mass_seen: float
    kl_nats: Estimate
    top1_agreement: Estimate
    next_positions: int
    next_logprob_difference: Estimate | None


def divergence(reference: Mapping[int, Told], other: Mapping[int, Told]) -> Divergence | None:
    """Compares by position; None where fewer than POSITIONS_MIN were told by both, or no token at any of them.

    next_logprob_difference: mean of |ln p - ln q| of the token that the text goes on with, over the positions where
    both told it; None for fewer than POSITIONS_MIN.
    """
    pairs = [(reference[at], other[at]) for at in sorted(reference.keys() & other.keys())
             if reference[at].logprobs and other[at].logprobs]
    if len(pairs) < POSITIONS_MIN:
        return None
    bounds = [kl_lower_bound(a.logprobs, b.logprobs) for a, b in pairs]
    if not any(seen for _, seen in bounds):
        return None
    same = sum(_likeliest(a) == _likeliest(b) for a, b in pairs)
    apart = [abs(a.logprobs[a.next_token] - b.logprobs[a.next_token]) for a, b in pairs
             if a.next_token is not None and a.next_token in a.logprobs and a.next_token in b.logprobs]
    return Divergence(positions=len(pairs), mass_seen=sum(seen for _, seen in bounds) / len(bounds),
                      kl_nats=bootstrap([kl for kl, _ in bounds]), top1_agreement=wilson(same, len(pairs)),
                      next_positions=len(apart),
                      next_logprob_difference=bootstrap(apart) if len(apart) >= POSITIONS_MIN else None)


def kl_lower_bound(p: Mapping[Key, float], q: Mapping[Key, float]) -> tuple[float, float]:
    """Returns the divergence in nats of what is known (see above), and p's mass of the tokens that both told.

    What rounding would make negative is 0.
    """
    shared = p.keys() & q.keys()
    mass_p, mass_q = _mass(p, shared), _mass(q, shared)
    total = sum(math.exp(p[token]) * (p[token] - q[token]) for token in shared)
    if max(1 - mass_p, 1 - mass_q) > ROUNDING:
        only_p, only_q = p.keys() - shared, q.keys() - shared
        named = any(isinstance(token, str) for token in (*p, *q))  # of tokens that look alike only one is told
        most_x, most_y = (1.0 if named else len(only) * math.exp(min(other.values()))
                          for only, other in ((only_p, q), (only_q, p)))
        total += _least((_mass(p, only_p), most_x), (_mass(q, only_q), most_y), 1 - mass_p, 1 - mass_q)
    return max(0.0, total), min(1.0, mass_p)


def _mass(side: Mapping[Key, float], tokens: Set[Key]) -> float:
    return sum(math.exp(side[token]) for token in tokens)


def _least(only_p: tuple[float, float], only_q: tuple[float, float], left_p: float, left_q: float) -> float:
    """The least divergence of what is left: only_p is p's mass of the tokens that only p told, and the most that q may
    give them; only_q the reverse. Jointly convex, so that each unknown is set in turn to its best for the other: the
    ratio p / q of its bucket equal to that of the rest, within its bound."""
    (a, most_x), (b, most_y) = only_p, only_q
    free_p, free_q = max(0.0, left_p - a), max(0.0, left_q - b)
    x = y = 0.0
    for _ in range(ROUNDS_MAX):
        before = x, y
        x = min(most_x, free_q * a / max(a + free_p - y, TINY))
        y = min(most_y, free_p * b / max(b + free_q - x, TINY))
        if abs(x - before[0]) + abs(y - before[1]) < TINY:
            break
    return _term(a, x) + _term(y, b) + _term(free_p - y, free_q - x)


def _term(p: float, q: float) -> float:
    return p * math.log(p / max(q, TINY)) if p > TINY else 0.0


def is_reference(quantization: str, kv_type: str) -> bool:
    """Whether a setup computes with the weights as they were trained, and a KV cache of 16 bits or more."""
    return quantization in UNQUANTIZED and kv_type in KV_WHOLE


def bootstrap(values: Sequence[float]) -> Estimate:
    """Returns the mean and the percentiles of the means of RESAMPLES resamples, the same ones every time."""
    sample = np.asarray(values, dtype=float)
    rng = np.random.Generator(np.random.PCG64(SEED))
    means = sample[rng.integers(len(sample), size=(RESAMPLES, len(sample)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(sample.mean()), float(low), float(high)


def wilson(successes: int, trials: int) -> Estimate:
    """Returns a share and its score interval."""
    z, share = NormalDist().inv_cdf((1 + LEVEL) / 2), successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return share, max(0.0, centre - half), min(1.0, centre + half)


def _likeliest(told: Told) -> Key:
    return max(told.logprobs, key=told.logprobs.__getitem__)
