"""How much load keeps the limits: which level to try next, and what is known in the end.

The search brackets the largest level that keeps the limits. Where to look next comes from a simulation of the engine
with the slots and speeds seen so far, where something was seen to queue, else from the limits' margin at the ends of
the bracket; a guess that fails to halve the bracket twice gives way to bisection.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from models import queueing
from models.probing import Kind, Probe
from models.queueing import Floats, K, Stack
from models.slo import Limit
from models.specs import Record

START = {"concurrency": 8.0, "request_rate": 1.0}
GROWTH = 8.0
"""Between probes while nothing fails and nothing is known."""
TOLERANCE = {"concurrency": 0.03, "request_rate": 0.05}
"""Width of the last bracket, relative (a user at least)."""
PROBES_MAX = 12
LEVEL_MAX = 16_000.0
SUREST = 0.9999
"""Of one probe: an engine may have a bad moment."""
SLOPE = 0.3
"""Of a margin, where none was seen: of the time between tokens over the sequences that share an engine."""
LONG_RUN = 8000
"""Arrivals of a simulation that stands for the long run."""


class Capacity(Record):
    """The largest level that keeps the limits: the largest seen to, the smallest seen not to (None: none failed), the
    estimate between them, a 95% interval, and how sure it is that both ends are what they seem."""

    kind: Kind
    keeps: float
    breaks: float | None
    estimate: float
    low: float
    high: float | None
    sure: float
    probes: int
    seconds: float
    why: str = ""


def bracket(probes: Sequence[Probe]) -> tuple[Probe | None, Probe | None]:
    """Returns the best that keeps the limits and the first that does not; where they contradict, the surer one counts.
    """
    keeps = sorted((p for p in probes if p.keeps), key=lambda p: p.level)
    breaks = sorted((p for p in probes if not p.keeps), key=lambda p: p.level)
    while keeps and breaks and keeps[-1].level >= breaks[0].level:
        if keeps[-1].sure > breaks[0].sure:
            breaks.pop(0)
        else:
            keeps.pop()
    return (keeps[-1] if keeps else None), (breaks[0] if breaks else None)


def fit(probes: Sequence[Probe]) -> Stack | None:
    """Returns an engine that would have done the same; None before anything was answered."""
    seen = [p for p in probes if p.ttft_ms_p50 and p.tpot_ms_p50 is not None and p.decoding_mean]
    if not seen:
        return None
    first_ms = min(_unqueued_ms(p) for p in seen)
    lasts_s = min((p.e2e_ms_mean for p in seen if p.e2e_ms_mean), default=0.0) / 1e3
    full = [p for p in probes if p.decoding_most + 2 <= _asked(p, lasts_s) / 1.05
            and (not p.keeps or (p.ttft_ms_p50 or 0.0) > 2 * _unqueued_ms(p))]
    slots = max((p.decoding_most for p in full), default=None)
    x = np.array([p.decoding_mean**K for p in seen])
    y = np.array([(p.tpot_ms_p50 or 0.0) / 1e3 for p in seen])
    b = max(0.0, float(np.polyfit(x, y, 1)[0])) if np.ptp(x) > 0.2 else 0.0
    return Stack(slots, first_ms / 1e3, max(1e-6, float(np.mean(y - b * x))), b)


def _unqueued_ms(probe: Probe) -> float:
    """TTFT without a queue: the median where nothing can have queued, else that of the luckiest request."""
    alone = probe.kind == "concurrency" and probe.level <= probe.decoding_most + 1
    return (None if alone else probe.ttft_ms_least) or probe.ttft_ms_p50 or 0.0


def _asked(probe: Probe, lasts_s: float) -> float:
    """Sequences that would run together if nothing queued."""
    return probe.level if probe.kind == "concurrency" else probe.level * lasts_s


def predicted(stack: Stack, kind: Kind, level: float, tokens: Sequence[int], limits: tuple[Limit, ...]) -> float:
    """Returns the simulation's ln(value / limit), the largest over the limits it knows of; -inf for none."""
    if kind == "concurrency":
        users = round(level)
        many = np.resize(np.array(tokens), max(4 * users, min(4000, 12 * users + 200)))
        first, whole = queueing.closed(stack, users, many.tolist())
        cut = 2 * users
    else:
        gaps = np.random.Generator(np.random.PCG64(7)).exponential(1 / level, LONG_RUN)
        many = np.resize(np.array(tokens), LONG_RUN)
        first, whole = queueing.open_loop(stack, np.cumsum(gaps).tolist(), many.tolist())
        cut = LONG_RUN // 10
    return worst(first[cut:], whole[cut:], many[cut:], limits)


def worst(first_s: Floats, whole_s: Floats, tokens: Floats | Sequence[int], limits: tuple[Limit, ...]) -> float:
    """ln(value / limit) of simulated requests, the largest over the limits on TTFT, TPOT and E2E."""
    found = [-math.inf]
    per_token = (whole_s - first_s) / np.maximum(1, np.asarray(tokens) - 1)
    for limit in limits:
        values = {"ttft": first_s, "first_content": first_s, "tpot": per_token, "itl": per_token, "e2e": whole_s}.get(
            limit.latency.removesuffix("_ms").removesuffix("_from_schedule"))
        if values is not None:
            value = values.mean() if limit.quantile is None else np.quantile(values, limit.quantile)
            found.append(math.log(max(float(value) * 1e3, 1e-6) / limit.at_most))
    return max(found)


def tells(stack: Stack | None, limits: tuple[Limit, ...]) -> bool:
    """Whether the simulation knows what happens to these limits: TTFT only where something was seen to queue."""
    speeds = all(limit.latency.split("_")[0] in ("tpot", "itl", "e2e") for limit in limits)
    return stack is not None and (stack.slots is not None or (speeds and stack.b > 0))


def crossing(stack: Stack, kind: Kind, tokens: Sequence[int], limits: tuple[Limit, ...], probes: Sequence[Probe] = (),
             ) -> float | None:
    """Returns the largest level at which the simulation keeps the limits; None where it says nothing or never fails.

    Without slots the simulation is first moved to agree with the probe nearest to the limits.
    """
    if not tells(stack, limits):
        return None
    whole = [p for p in probes if p.kind == kind and p.requests_ok and abs(p.worst) < 1]
    moved = 0.0
    if whole and stack.slots is None:
        near = min(whole, key=lambda p: abs(p.worst))
        moved = near.worst - predicted(stack, kind, near.level, tokens, limits)
    low, high = 0.0, 1.0
    while predicted(stack, kind, high, tokens, limits) + moved <= 0:
        low, high = high, 2 * high
        if high > LEVEL_MAX:
            return None
    while high > 1e-3 and high - low > (1.0 if kind == "concurrency" else 0.004 * high):
        middle = math.floor((low + high) / 2) if kind == "concurrency" else (low + high) / 2
        if predicted(stack, kind, middle, tokens, limits) + moved <= 0:
            low = middle
        else:
            high = middle
    return low if kind == "concurrency" else (low + high) / 2


def propose(kind: Kind, probes: Sequence[Probe], guess: float | None, start: float | None = None) -> float | None:
    """Returns the level to try next, None when the bracket is narrow enough. `guess` is the simulation's crossing."""
    mine = [p for p in probes if p.kind == kind]
    if not mine:
        near = guess and (guess if kind == "concurrency" else guess * (1 - 0.45 * TOLERANCE[kind]))
        return _whole(kind, near or start or START[kind])
    low, high = bracket(mine)
    if _narrow(kind, low, high) or sum(not p.reused for p in mine) >= PROBES_MAX:
        return None
    if high is None and low is not None:
        best = guess * (1 + 0.45 * TOLERANCE[kind]) if guess else low.level * GROWTH
        wrong = sum(p.keeps and p.level >= guess for p in mine) if guess else 0  # steps grow while the guess is too low
        step = min(GROWTH, 1 + 0.45 * TOLERANCE[kind] * 2**max(1, wrong))
        level = min(LEVEL_MAX, max(best, low.level * step, low.level + (kind == "concurrency")))
        return None if level <= low.level else _whole(kind, level)
    if high is None:
        return None
    bottom = low.level if low else high.level / GROWTH**2
    inside = _stalled(mine) or guess is None or not 0.8 * bottom < guess < 1.25 * high.level
    level = _between(low, high, bottom) if inside else _beside(kind, bottom if low else 0.0, high.level, guess or 0.0)
    level = min(max(level, bottom), high.level)
    level = _whole(kind, level)
    if kind == "concurrency":
        level = min(max(level, bottom + 1 if low else 1.0), high.level - 1)
    return level if level > 0 else None


def _narrow(kind: Kind, low: Probe | None, high: Probe | None) -> bool:
    if high is None:
        return low is not None and low.level >= LEVEL_MAX
    if low is None:
        return high.level <= (1 if kind == "concurrency" else 1e-3)
    gap = high.level - low.level
    return gap <= max(1.0, TOLERANCE[kind] * low.level) if kind == "concurrency" else gap <= TOLERANCE[kind] * low.level


def _beside(kind: Kind, bottom: float, top: float, guess: float) -> float:
    """Just below the guess where that is not known to hold, else just above."""
    step = 1.0 if kind == "concurrency" else 0.45 * TOLERANCE[kind] * guess
    below = guess if kind == "concurrency" else guess - step
    if below > bottom:
        return min(below, top - step if top - step > bottom else (bottom + top) / 2)
    return min(max(guess, bottom) + step, (bottom + top) / 2 if top - bottom < 2 * step else top - step / 2)


def _between(low: Probe | None, high: Probe, bottom: float) -> float:
    """By the margins at both ends, on a logarithmic scale, a tenth of it away from either."""
    span = math.log(high.level / bottom)
    share = 0.5
    if low and not high.hopeless and math.isfinite(low.worst) and high.worst > low.worst:
        share = min(0.9, max(0.1, -low.worst / (high.worst - low.worst)))
    return bottom * math.exp(span * share)


def _stalled(probes: Sequence[Probe]) -> bool:
    """The last two probes did not halve the bracket."""
    widths = []
    for i in range(1, len(probes) + 1):
        low, high = bracket(probes[:i])
        if high:
            widths.append(high.level - (low.level if low else 0.0))
    return len(widths) >= 3 and all(b > a / 2 for a, b in pairwise(widths[-3:]))


def _whole(kind: Kind, level: float) -> float:
    return float(max(1, round(level))) if kind == "concurrency" else float(f"{level:.4g}")


def found(kind: Kind, probes: Sequence[Probe], guess: float | None = None) -> Capacity:
    """Returns what the probes of that kind say together."""
    mine = [p for p in probes if p.kind == kind]
    low, high = bracket(mine)
    keeps = low.level if low else 0.0
    seconds = sum(p.seconds for p in mine if not p.reused)
    sure = (low.sure if low else 1.0) * (high.sure if high else 1.0)
    if high is None:
        return Capacity(kind=kind, keeps=keeps, breaks=None, estimate=keeps, low=keeps, high=None, sure=sure,
                        probes=len(mine), seconds=seconds, why="nothing tried broke the limits")
    least, most = _interval(mine)
    least, most = min(least, keeps), max(most, high.level)
    estimate = keeps if kind == "concurrency" else _estimate(low, high, guess, least, most)
    return Capacity(kind=kind, keeps=keeps, breaks=high.level, estimate=estimate, low=least, high=most, sure=sure,
                    probes=len(mine), seconds=seconds, why="" if low else "the lowest level tried broke the limits")


def _estimate(low: Probe | None, high: Probe, guess: float | None, least: float, most: float) -> float:
    """The simulation's crossing where the probes do not speak against it: it has no luck with its arrivals."""
    if low is None:
        return 0.0
    if guess and least <= guess <= most:
        return guess
    return math.sqrt(low.level * high.level) if high.hopeless else _between(low, high, low.level)


def _interval(probes: Sequence[Probe]) -> tuple[float, float]:
    """Where the crossing lies with a chance of 95%, every place alike on a logarithmic scale before anything is known.

    A probe says as surely as its margin that the crossing is above or below its level; one whose margin is within its
    noise says that it is near: as near as the margin's slope, seen from a probe that is told apart, has it.
    """
    levels = [p.level for p in probes]
    grid = np.linspace(math.log(min(levels) / GROWTH), math.log(max(levels) * GROWTH), 4001)
    chance = np.zeros(len(grid))
    for probe in probes:
        beyond = math.log(probe.level) - grid
        keeps = min(SUREST, max(1 - SUREST, probe.sure if probe.keeps else 1 - probe.sure))
        said = np.where(beyond <= 0, math.log(keeps), math.log(1 - keeps))
        if not probe.hopeless and not probe.fatal and abs(probe.worst) < 3 * probe.sigma:
            off = (probe.worst - _slope(probe, probes) * beyond) / probe.sigma
            said = np.maximum(-off**2 / 2, math.log(1 - SUREST))
        chance += said
    mass = np.cumsum(np.exp(chance - chance.max()))
    low, high = np.exp(np.interp([0.025, 0.975], mass / mass[-1], grid))
    return float(low), float(high)


def _slope(probe: Probe, probes: Sequence[Probe]) -> float:
    """Of the margin over the logarithm of the level, from the nearest probe that is told apart, below if there is one.
    """
    apart = [p for p in probes if p.level != probe.level and not p.hopeless and not p.fatal
             and (p.worst - probe.worst) * (p.level - probe.level) > 0
             and abs(p.worst - probe.worst) > 6 * math.hypot(p.sigma, probe.sigma)]
    if not apart:
        return SLOPE
    near = min(apart, key=lambda p: (p.level > probe.level, abs(math.log(p.level / probe.level))))
    return (near.worst - probe.worst) / math.log(near.level / probe.level)
