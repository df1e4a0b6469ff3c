"""An engine simulated as the probes of a capacity search saw it: what it would do at any level, and where the limits
break."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from models import queueing
from models.probing import Floats, Kind, Probe
from models.queueing import K, Stack
from models.slo import Limit

LEVEL_MAX = 16_000.0
LONG_RUN, SHORT_RUN = 8000, 1000
"""Arrivals of a simulation that stands for the long run, and of one that says about where to look."""
RATE_MIN = 1e-3


def fit(probes: Sequence[Probe]) -> Stack | None:
    """Returns an engine that would have done the same; None before anything was answered."""
    seen = [p for p in probes if p.ttft_ms_p50 and p.tpot_ms_p50 is not None and p.decoding_mean]
    if not seen:
        return None
    first_ms = min(_unqueued_ms(p) for p in seen)
    full = [p for p in probes if p.decoding_most + 2 <= _inside(p)
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


def _inside(probe: Probe) -> float:
    """Sequences that waited or ran at a time, at the least: by Little's law where that is not what was asked for."""
    return probe.level if probe.kind == "concurrency" else probe.level * (probe.e2e_ms_mean or 0.0) / 1e3 / 1.05


def predicted(stack: Stack, kind: Kind, level: float, tokens: Sequence[int], limits: tuple[Limit, ...],
              arrivals: int = LONG_RUN) -> tuple[float, float]:
    """Returns what `outcome` says of a simulation of that level."""
    if kind == "concurrency":
        users = round(level)
        many = np.resize(np.array(tokens), max(4 * users, min(4000, 12 * users + 200)))
        first, whole = queueing.closed(stack, users, many.tolist())
        cut = 2 * users
    else:
        many = np.resize(np.array(tokens), arrivals)
        first, whole = queueing.open_loop(stack, (_arrivals(arrivals) / level).tolist(), many.tolist())
        cut = arrivals // 10
    return outcome(first[cut:], whole[cut:], many[cut:], limits)


@lru_cache(maxsize=2)
def _arrivals(count: int) -> Floats:
    """Of a Poisson process at 1 a second; the same whenever it is asked, so that levels differ by nothing else. Its
    rate is made exact: that by chance it is 1% off is most of what two such simulations would differ by."""
    gaps = np.random.Generator(np.random.PCG64(7)).exponential(1.0, count)
    return np.cumsum(gaps / gaps.mean())


def outcome(first_s: Floats, whole_s: Floats, tokens: Floats | Sequence[int], limits: tuple[Limit, ...],
            ) -> tuple[float, float]:
    """Of simulated requests the largest ln(value / limit) over the limits on TTFT, TPOT and E2E, and the largest ln of
    the odds of a request to be above a limit over the odds that it leaves; -inf for none."""
    margins, odds = [-math.inf], [-math.inf]
    per_token = (whole_s - first_s) / np.maximum(1, np.asarray(tokens) - 1)
    for limit in limits:
        values = {"ttft": first_s, "first_content": first_s, "tpot": per_token, "itl": per_token, "e2e": whole_s}.get(
            limit.latency.removesuffix("_ms").removesuffix("_from_schedule"))
        if values is None:
            continue
        value = values.mean() if limit.quantile is None else np.quantile(values, limit.quantile)
        margins.append(math.log(max(float(value) * 1e3, 1e-6) / limit.at_most))
        if limit.quantile is not None:
            above = int((values * 1e3 > limit.at_most).sum())
            odds.append(math.log((above + 0.5) / (len(values) - above + 0.5) * limit.quantile / (1 - limit.quantile)))
    return max(margins), max(odds)


def tells(stack: Stack | None, limits: tuple[Limit, ...]) -> bool:
    """Whether the simulation knows what happens to these limits: TTFT only where something was seen to queue."""
    speeds = all(limit.latency.split("_")[0] in ("tpot", "itl", "e2e") for limit in limits)
    return stack is not None and (stack.slots is not None or (speeds and stack.b > 0))


def queues(stack: Stack | None, limits: tuple[Limit, ...]) -> bool:
    """Whether it is only waiting that breaks these limits: what the simulation knows best, given the slots."""
    return stack is not None and stack.slots is not None and all(one.latency.startswith("ttft") for one in limits)


def crossing(stack: Stack, kind: Kind, tokens: Sequence[int], limits: tuple[Limit, ...], probes: Sequence[Probe] = (),
             near: float | None = None) -> float | None:
    """Returns the largest level at which the simulation keeps the limits; None where it says nothing or never fails.

    Without slots the simulation is first moved to agree with the probe nearest to the limits. near: where the crossing
    may be; a rate is first looked for about there in a short simulation, then about what that says in the long one.
    """
    if not tells(stack, limits):
        return None
    whole = [p for p in probes if p.kind == kind and p.requests_ok and abs(p.worst) < 1]
    moved = 0.0
    if whole and stack.slots is None:
        nearest = min(whole, key=lambda p: abs(p.worst))
        moved = nearest.worst - predicted(stack, kind, nearest.level, tokens, limits)[0]

    def kept(level: float, arrivals: int = LONG_RUN) -> bool:
        return predicted(stack, kind, level, tokens, limits, arrivals)[0] + moved <= 0

    if kind == "concurrency":
        low, high = _around(kept, 1.0, 2.0) if kept(1) else (0.0, 1.0)
        while math.isfinite(high) and high - low > 1:
            middle = math.floor((low + high) / 2)
            low, high = (middle, high) if kept(middle) else (low, middle)
        return low if math.isfinite(high) else None
    rough = _narrowed(lambda level: kept(level, SHORT_RUN), near or 1.0, 1.2 if near else 2.0, 0.02)
    return rough and _narrowed(kept, rough, 1.03, 0.004)


def _narrowed(kept: Callable[[float], bool], near: float, factor: float, width: float) -> float | None:
    """Where a level breaks the limits for the first time, to that relative width; None beyond the most there is."""
    low, high = _around(kept, near, factor)
    while math.isfinite(high) and high > RATE_MIN and high - low > width * high:
        middle = (low + high) / 2
        low, high = (middle, high) if kept(middle) else (low, middle)
    return (low + high) / 2 if math.isfinite(high) else None


def _around(kept: Callable[[float], bool], near: float, factor: float) -> tuple[float, float]:
    """A level that is kept (or 0) and one that is not (or infinity), in steps of the factor that grow."""
    if kept(near):
        low, high = near, near * factor
        while kept(high):
            low, high, factor = high, high * factor, factor**1.5 if factor < 2 else factor
            if high > LEVEL_MAX:
                return low, math.inf
        return low, high
    low, high = near / factor, near
    while low > RATE_MIN and not kept(low):
        low, high, factor = low / factor, low, factor**1.5 if factor < 2 else factor
    return (low if low > RATE_MIN else 0.0), high
