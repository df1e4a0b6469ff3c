"""A small event simulation of an engine that batches continuously: what queues, and how long.

Sequences wait in the order they came for one of `slots`, take the time to their first token, then decode together:
with n sequences a token of each takes a + b·n^K seconds (K = 0.73 is the median over 467 public curves). Decoding is
processor sharing, so that one virtual clock, which counts tokens a sequence, serves all of them.
"""

from __future__ import annotations

import heapq
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
    return _Run(stack, tokens, list(arrivals_s), loop=False).play()


class _Run:
    def __init__(self, stack: Stack, tokens: Sequence[int], starts_s: list[float], loop: bool) -> None:
        self._stack, self._tokens, self._loop = stack, tokens, loop
        self._slots = stack.slots or len(tokens)
        self._came: list[float] = starts_s
        self._next = 0
        self._waiting: deque[int] = deque()
        self._prefill: list[tuple[float, int]] = []
        self._decode: list[tuple[float, int]] = []
        self._now = self._clock = 0.0
        self.first_s, self.last_s = np.zeros(len(tokens)), np.zeros(len(tokens))

    def play(self) -> tuple[Floats, Floats]:
        """Returns TTFT and E2E, in seconds."""
        while True:
            token_s = self._stack.token_s(len(self._decode))
            more = self._next < min(len(self._came), len(self._tokens))
            arrival = self._came[self._next] if more else float("inf")
            first = self._prefill[0][0] if self._prefill else float("inf")
            ends = self._now + (self._decode[0][0] - self._clock) * token_s if self._decode else float("inf")
            soonest = min(arrival, first, ends)
            if soonest == float("inf"):
                break
            if self._decode:
                self._clock += (soonest - self._now) / token_s
            self._now = soonest
            if soonest == ends:
                self._ended()
            elif soonest == first:
                self._began()
            else:
                self._waiting.append(self._next)
                self._next += 1
            while self._waiting and len(self._prefill) + len(self._decode) < self._slots:
                heapq.heappush(self._prefill, (self._now + self._stack.first_s, self._waiting.popleft()))
        came = np.array(self._came[:len(self._tokens)])
        return self.first_s - came, self.last_s - came

    def _began(self) -> None:
        _, index = heapq.heappop(self._prefill)
        self.first_s[index] = self._now
        heapq.heappush(self._decode, (self._clock + self._tokens[index] - 1, index))

    def _ended(self) -> None:
        self._clock, index = heapq.heappop(self._decode)
        self.last_s[index] = self._now
        if self._loop:
            insort(self._came, self._now, self._next)  # users who have yet to come for the first time may be later
