"""Clocks of two machines related: how far apart they are, how sure that is, and how fast they drift.

As NTP does it (Mills, RFC 5905, 8): one asks, the other says its time; of many exchanges the fastest counts, as the
answer was given at some instant between question and reply, most likely in the middle, at the worst at either end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns, time_ns

ROUNDS = 40
"""Exchanges; the fastest of many saw no queue on its way."""


@dataclass(frozen=True)
class Related:
    """Another machine's clock at an instant of ours, both monotonic, and the same of its wall clock.

    offset_ns: add it to our instant to get theirs; error_ns: it is off by this at the most; wall_offset_ns: of the wall
    clocks, likewise.
    """

    at_ns: int
    offset_ns: int
    error_ns: int
    wall_offset_ns: int


def relate(ask: Callable[[], tuple[int, int]]) -> Related:
    """Asks another machine for its monotonic and wall clock, ROUNDS times. An error of `ask` goes through."""
    return min((_once(ask) for _ in range(ROUNDS)), key=lambda one: one.error_ns)


def _once(ask: Callable[[], tuple[int, int]]) -> Related:
    sent = perf_counter_ns()
    theirs, their_wall = ask()
    back = perf_counter_ns()
    wall, middle = time_ns(), (sent + back) // 2
    return Related(middle, theirs - middle, -(-(back - sent) // 2), their_wall - (wall - (back - middle)))


def drift(before: Related, after: Related) -> float:
    """How much faster the other clock runs than ours, as a share; 0 where the errors leave it open."""
    passed, moved = after.at_ns - before.at_ns, after.offset_ns - before.offset_ns
    if passed <= 0 or abs(moved) <= before.error_ns + after.error_ns:
        return 0.0
    return moved / passed
