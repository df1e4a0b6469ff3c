"""What the server of `_truth.c` can do in the long run, found by playing it; nothing of the model dyno searches with.

Requests take one of the slots in the order they came, a first token after TTFT, each of the others after
ITL + SLOPE x sequences that run at that moment, prefill included.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.slo import Limit

Floats = npt.NDArray[np.float64]
USER_GAP_S = 0.001
"""Between the first requests of a closed loop's users."""
ARRIVALS = {"plain": 1_000_000, "slope": 200_000}
"""Of a Poisson process, in the long run; with a slope every token is an event."""
ROUNDS = 40
"""Answers of each user."""


@dataclass(frozen=True)
class Server:
    """A server, what is asked of it, and the limits."""

    name: str
    slo: str
    tokens: int = 100
    ttft_ms: float = 50.0
    itl_ms: float = 10.0
    slots: int = 0
    slope_ms: float = 0.0


@dataclass(frozen=True)
class Played:
    """Requests in the order they came, in seconds."""

    came: Floats
    first: Floats
    done: Floats


def play(server: Server, count: int, users: int = 0, arrivals: Floats | None = None) -> Played:
    """Plays `count` requests of a closed loop's users, or of arrivals."""
    return (_tokens if server.slope_ms else _slots)(server, count, users, arrivals)


def _slots(server: Server, count: int, users: int, arrivals: Floats | None) -> Played:
    """Every request holds its slot for the same time."""
    ttft, whole = server.ttft_ms / 1e3, (server.ttft_ms + (server.tokens - 1) * server.itl_ms) / 1e3
    free = [0.0] * (server.slots or count)
    coming = (arrivals.tolist() if arrivals is not None else [i * USER_GAP_S for i in range(users)])
    came, begun = [], []
    for i in range(count):
        at = coming[i] if arrivals is not None else heapq.heappop(coming)
        start = max(at, free[0])
        heapq.heapreplace(free, start + whole)
        if arrivals is None:
            heapq.heappush(coming, start + whole)
        came.append(at)
        begun.append(start)
    start_s = np.array(begun)
    return Played(np.array(came), start_s + ttft, start_s + whole)


def _tokens(server: Server, count: int, users: int, arrivals: Floats | None) -> Played:
    """Every token is an event, every arrival one with -1 tokens left."""
    ttft, itl, slope = server.ttft_ms / 1e3, server.itl_ms / 1e3, server.slope_ms / 1e3
    slots, length = server.slots or count, server.tokens
    came, first, done = np.zeros(count), np.zeros(count), np.zeros(count)
    due = iter(arrivals.tolist() if arrivals is not None else ())
    events = ([(next(due), 0, -1)] if arrivals is not None else [(i * USER_GAP_S, i, -1) for i in range(users)])
    numbers = itertools.count(len(events))
    waiting: deque[int] = deque()
    running = ended = 0
    while ended < count and events:
        at, i, left = events[0]
        if left > 1:
            if left == length:
                first[i] = at
            heapq.heapreplace(events, (at + itl + slope * running, i, left - 1))
            continue
        heapq.heappop(events)
        if left < 0:
            came[i] = at
            waiting.append(i)
            coming = next(due, None)
            if coming is not None:
                heapq.heappush(events, (coming, next(numbers), -1))
        else:
            done[i] = at
            ended, running = ended + 1, running - 1
            if arrivals is None and (number := next(numbers)) < count:
                heapq.heappush(events, (at, number, -1))
        while waiting and running < slots:
            running += 1
            heapq.heappush(events, (at + ttft, waiting.popleft(), length))
    return Played(came, first, done)


def keeps(server: Server, limits: tuple[Limit, ...], played: Played, skip: int) -> bool:
    """Whether all but the first `skip` requests keep the limits."""
    first_ms, whole_ms = (1e3 * (x - played.came)[skip:] for x in (played.first, played.done))
    values = {"ttft": first_ms, "e2e": whole_ms, "tpot": (whole_ms - first_ms) / (server.tokens - 1)}
    return all(_statistic(values[one.latency.split("_")[0]], one) <= one.at_most for one in limits)


def _statistic(values: Floats, limit: Limit) -> float:
    return float(values.mean() if limit.quantile is None else np.quantile(values, limit.quantile))


def largest_concurrency(server: Server, limits: tuple[Limit, ...]) -> int:
    """Returns the most users that keep the limits."""
    def kept(users: int) -> bool:
        return keeps(server, limits, play(server, ROUNDS * users, users), 2 * users)
    most = 1
    while kept(2 * most):
        most *= 2
    low, high = most, 2 * most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if kept(middle) else (low, middle)
    return low


def largest_rate(server: Server, limits: tuple[Limit, ...]) -> float:
    """Returns the largest rate of Poisson arrivals that keeps the limits, to 0.2 %: first in a short run, then about
    there in a long one."""
    full = ARRIVALS["slope" if server.slope_ms else "plain"]

    def kept_of(count: int) -> Callable[[float], bool]:
        gaps = np.random.Generator(np.random.PCG64(20)).exponential(1, count)
        return lambda rate: keeps(server, limits, play(server, count, arrivals=np.cumsum(gaps) / rate), count // 50)
    rough, exact, high = kept_of(full // 20), kept_of(full), 1.0
    while rough(high):
        high *= 2
    low, high = _narrow(rough, high / 2 if high > 1 else 1e-3, high, 0.02)
    while not exact(low):
        low /= 1.03
    while exact(high):
        high *= 1.03
    return math.sqrt(math.prod(_narrow(exact, low, high, 0.004)))


def _narrow(kept: Callable[[float], bool], low: float, high: float, width: float) -> tuple[float, float]:
    while high / low > 1 + width:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if kept(middle) else (low, middle)
    return low, high
