"""Where a closed loop saturates: beyond the requests that an engine serves at once, the rest wait to be admitted.

Below the knee concurrency is what is served. Above it (slots, max_num_seqs, or a full KV cache) throughput and TPOT
stay what they are at the knee, and TTFT grows by the queue: (concurrency − knee) / requests a second, which is Little's
law (1961). The first point with a queue shows the knee the same way: of its requests, rate × time waited are queueing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from models.planning.points import CurvePoint


def served(points: Sequence[CurvePoint], steepness: float, max_sequences: float | None = None) -> float:
    """Returns the knee: how many requests are served at once at most; infinite where no point shows one.

    points: one a concurrency, ascending. steepness: how many times more than in proportion to concurrency TTFT has to
    grow from the last unsaturated point to count as a queue (a batch of prefills alone makes it grow in proportion).
    max_sequences: the engine's own limit, where it is known; a queue at a point below it shows a smaller one (memory).
    """
    limit = math.inf if max_sequences is None else float(max_sequences)
    count = _unsaturated(points, steepness, limit)
    if count == len(points) or points[count].concurrency > limit:
        return limit
    return min(limit, _knee(points, count, points[count]))


def _unsaturated(points: Sequence[CurvePoint], steepness: float, limit: float) -> int:
    """How many of the first points have no queue to speak of; at least one."""
    count = 1
    for before, one in itertools.pairwise(points):
        steep = one.ttft_ms > steepness * before.ttft_ms * one.concurrency / before.concurrency
        if steep or one.concurrency > limit:
            break
        count += 1
    return count


def _knee(points: Sequence[CurvePoint], count: int, one: CurvePoint) -> float:
    """Requests served at `one`: all but those that wait, by Little's law. The wait is TTFT less what it would be
    without a queue, which depends on the answer, hence the iteration (halved steps converge)."""
    last = points[count - 1]
    knee = one.concurrency
    for _ in range(50):
        wait_s = max(one.ttft_ms - _without_queue(points, count, knee), 0.0) / 1e3
        knee = (knee + max(one.concurrency - one.requests_per_second * wait_s, last.concurrency)) / 2
    return knee


def _without_queue(points: Sequence[CurvePoint], count: int, concurrency: float) -> float:
    """TTFT in ms from the last unsaturated point on: straight on, or at half of proportion where there is but one."""
    last = points[count - 1]
    slope = last.ttft_ms / last.concurrency / 2
    if count > 1:
        before = points[count - 2]
        slope = max((last.ttft_ms - before.ttft_ms) / (last.concurrency - before.concurrency), 0.0)
    return last.ttft_ms + slope * max(concurrency - last.concurrency, 0.0)
