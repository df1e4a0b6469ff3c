"""A small event simulation of an engine that batches continuously: what queues, and how long.

Sequences wait in the order they came for one of `slots`, take the time to their first token, then decode together:
with n sequences a token of each takes a + b·n^K seconds (K = 0.73 is the median over 467 public curves). Decoding is
processor sharing, so that one virtual clock, which counts tokens a sequence, serves all of them.
"""

from __future__ import annotations

import heapq
import math
from bisect import insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
K = 0.73
USER_GAP_S, USERS_WITHIN_S = 0.001, 2.0
"""Between the first requests of a closed loop's users, and until the last at most, as the load generator has it."""


@dataclass(frozen=True)
class Stack:
    """An engine as the simulation sees it. slots: None where nothing was seen to wait. first_s: to the first token
    without a queue; token_s(n) = a + b·n^K."""

    slots: int | None
    first_s: float
    a: float
    b: float

    def token_s(self, sequences: int) -> float:
        """Seconds a token of each sequence takes."""
        return float(self.a + self.b * max(1, sequences) ** K)


def closed(stack: Stack, users: int, tokens: Sequence[int]) -> tuple[Floats, Floats]:
    """Returns TTFT and E2E in seconds of requests with that many output tokens, asked by users who wait for answers."""
    gap_s = min(USER_GAP_S, USERS_WITHIN_S / users)
    return _Run(stack, tokens, [user * gap_s for user in range(min(users, len(tokens)))], loop=True).play()


def open_loop(stack: Stack, arrivals_s: Sequence[float], tokens: Sequence[int]) -> tuple[Floats, Floats]:
    """Returns TTFT and E2E in seconds of requests that come at those instants, ascending."""
    if stack.b == 0:
        return _alike(stack, arrivals_s, tokens)
    return _Run(stack, tokens, list(arrivals_s), loop=False).play()


def _alike(stack: Stack, arrivals_s: Sequence[float], tokens: Sequence[int]) -> tuple[Floats, Floats]:
    """The same where sequences do not slow one another, ten times faster: whoever comes next takes the slot that is
    free the soonest (Kiefer and Wolfowitz, Trans. AMS 78, 1955)."""
    came, decodes = np.asarray(arrivals_s, dtype=float), (np.asarray(tokens) - 1) * stack.a
    if not stack.slots or stack.slots >= len(came):
        first = np.full(len(came), stack.first_s)
        return first, first + decodes
    free = [0.0] * stack.slots
    begun = []
    for at, lasts in zip(came.tolist(), (stack.first_s + decodes).tolist(), strict=True):
        start = at if at > free[0] else free[0]
        heapq.heapreplace(free, start + lasts)
        begun.append(start)
    first = np.array(begun) + stack.first_s - came
    return first, first + decodes


class _Run:
    def __init__(self, stack: Stack, tokens: Sequence[int], starts_s: list[float], loop: bool) -> None:
        self._first_s, self._tokens, self._loop = stack.first_s, tokens, loop
        self._slots = stack.slots or len(tokens)
        running = np.arange(min(self._slots, len(tokens)) + 1)
        self._token_s: list[float] = (stack.a + stack.b * np.maximum(1, running) ** K).tolist()
        self._came: list[float] = starts_s
        self._prefill: deque[tuple[float, int]] = deque()  # all take as long: they end in the order they began
        self._decode: list[tuple[float, int]] = []
        self.first_s, self.last_s = [0.0] * len(tokens), [0.0] * len(tokens)

    def play(self) -> tuple[Floats, Floats]:
        """Returns TTFT and E2E, in seconds."""
        came, prefill, decode, speeds, inf = self._came, self._prefill, self._decode, self._token_s, math.inf
        waiting: deque[int] = deque()
        coming, many = 0, len(self._tokens)
        now = clock = 0.0
        while True:
            token_s = speeds[len(decode)]
            arrival = came[coming] if coming < len(came) and coming < many else inf
            first = prefill[0][0] if prefill else inf
            ends = now + (decode[0][0] - clock) * token_s if decode else inf
            soonest = min(arrival, first, ends)
            if soonest == inf:
                break
            if decode:
                clock += (soonest - now) / token_s
            now = soonest
            if soonest == ends:
                clock, index = heapq.heappop(decode)
                self.last_s[index] = now
                if self._loop:
                    insort(came, now, coming)  # users who have yet to come for the first time may be later
            elif soonest == first:
                _, index = prefill.popleft()
                self.first_s[index] = now
                heapq.heappush(decode, (clock + self._tokens[index] - 1, index))
            else:
                waiting.append(coming)
                coming += 1
            while waiting and len(prefill) + len(decode) < self._slots:
                prefill.append((now + self._first_s, waiting.popleft()))
        since = np.array(came[:many])
        return np.array(self.first_s) - since, np.array(self.last_s) - since
