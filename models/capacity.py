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

from models import chances
from models.probing import Floats, Kind, Probe
from models.simulated import LEVEL_MAX
from models.specs import Record

START = {"concurrency": 8.0, "request_rate": 1.0}
GROWTH = 8.0
"""Between probes while nothing fails and nothing is known."""
TOLERANCE = {"concurrency": 0.03, "request_rate": 0.05}
"""Width of the last bracket, relative (a user at least)."""
PROBES_MAX = 12


class Capacity(Record):
    """The largest level that keeps the limits: the largest seen to, the smallest seen not to (None: none failed), the
    estimate between them, a 95% interval, and how sure it is that it lies between them."""

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
    if below > bottom + step / 2:
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
    known = chances.chances(mine, math.sqrt((keeps or high.level) * high.level))
    least, most = _interval(kind, known, low.level if low else 0.0, high.level)
    estimate = keeps if kind == "concurrency" else _estimate(low, high, guess, least, most)
    return Capacity(kind=kind, keeps=keeps, breaks=high.level, estimate=estimate, low=least, high=most,
                    sure=_between_sure(known, keeps, high.level), probes=len(mine), seconds=seconds,
                    why="" if low else "the lowest level tried broke the limits")


def _estimate(low: Probe | None, high: Probe, guess: float | None, least: float, most: float) -> float:
    """The simulation's crossing where the probes do not speak against it, as it has no luck with its arrivals; within
    the bracket, as what was seen counts for more."""
    if low is None:
        return 0.0
    if guess and least <= guess <= most:
        return min(max(guess, low.level), high.level)
    return math.sqrt(low.level * high.level) if high.hopeless else _between(low, high, low.level)


def _interval(kind: Kind, known: tuple[Floats, Floats], keeps: float, breaks: float) -> tuple[float, float]:
    """Where the largest level that keeps the limits lies with a chance of 95%, the bracket too."""
    levels, mass = known
    low, high = (float(x) for x in np.interp([0.025, 0.975], mass, levels))
    if kind == "concurrency":  # of whole users: below 34 is 33
        return min(float(math.floor(low)), keeps), max(float(math.ceil(high) - 1), keeps, breaks - 1)
    return min(low, keeps), max(high, breaks)


def _between_sure(known: tuple[Floats, Floats], keeps: float, breaks: float) -> float:
    """The chance that it lies between those."""
    levels, mass = known
    ends = np.interp([keeps, breaks], levels, mass)
    return float(ends[1] - (ends[0] if keeps else 0.0))
