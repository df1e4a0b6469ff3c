"""The state of one run of a plan: who is sent when, what goes on after an answer, when it is over.

Open loop: an absolute schedule from the start, never re-anchored, so that a late send is late and says so. Closed loop:
as many users as the concurrency, each taking the next session when its last has ended.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter_ns

from models.specs import Load, Workload
from workloads.alarm import alarm
from workloads.client import Recording
from workloads.pool import Pool
from workloads.schedule import Plan

TICK_S = 0.2
RAMP_GAP_NS, RAMP_NS_MAX = 1_000_000, 2_000_000_000
"""Users of a closed loop come a millisecond apart, the last after two seconds at most: all at once they would stay in
step, and every answer would queue behind all others in sockets that are read one by one."""
_USER = -1


@dataclass(frozen=True)
class Part:
    """Which part of a load one process takes: users `number`, `number + of`, … of those of the whole load."""

    number: int = 0
    of: int = 1

    def users(self, concurrency: int) -> range:
        """The users of this part."""
        return range(self.number, concurrency, self.of)


class Run:
    """One run; everything but `go`, `fail`, `done` and `tokens` runs in callbacks of the loop.

    linger: goes on with the tail after the last measured answer, until `stop` is set (`measured` says that it came).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, plan: Plan, bodies: Sequence[bytes], workload: Workload,
                 load: Load, part: Part = Part(), linger: bool = False) -> None:
        table = plan.requests
        self._loop, self._bodies, self._load, self._part, self._linger = loop, bodies, load, part, linger
        self.phases: list[str] = table["phase"].to_list()
        """As they came to be: what was planned as measured and sent after `enough` is tail."""
        self._offset: list[int | None] = table["offset_ns"].to_list()
        sessions: list[int] = table["session"].to_list()
        self._goes_on = [a == b for a, b in itertools.pairwise(sessions)] + [False] * bool(sessions)
        self._sessions = iter([i for i, turn in enumerate(table["turn"].to_list()) if turn == 0])
        self._think_ns = round(workload.think_time_s * 1e9)
        self._due: list[tuple[int, int]] = []
        self._unsent = self.phases.count("measured")
        self._measured_busy = 0
        self._failure: BaseException | None = None
        self._over = False
        self.recordings: list[Recording] = []
        self.total = table.height - self.phases.count("tail")
        self.done = self._reads_done = 0
        self.measured = not self._unsent
        self.stop = False
        """Set by another thread: no more requests, whatever is in flight is cancelled."""
        self.enough = False
        """Set by another thread: what is sent from now on is tail."""

    @property
    def truncated(self) -> bool:
        return self._unsent > 0

    @property
    def tokens(self) -> int:
        """Reads so far, which are about the tokens; safe from another thread."""
        return self._reads_done + sum(r.reads_len for r in self.busy)

    @property
    def busy(self) -> list[Recording]:
        """What is in flight; safe from another thread."""
        return list(self._pool.busy)

    def go(self, pool: Pool, start_ns: int) -> None:
        """Runs the load to its end. Raises whatever a callback or another thread raised."""
        self._pool, self._start_ns = pool, start_ns
        self._stop_ns = start_ns + round(self._load.duration_s_max * 1e9)
        self._loop.set_exception_handler(self._failed)
        self._alarm = alarm(self._loop, self._ring, pool.readers)
        try:
            users = self._load.concurrency
            if users is None:
                self._due = [(start_ns + o, i) for i, o in enumerate(self._offset) if o is not None]
                heapq.heapify(self._due)
            else:
                gap_ns = min(RAMP_GAP_NS, RAMP_NS_MAX // users)
                self._due = [(start_ns + user * gap_ns, _USER) for user in self._part.users(users)]
            self._ring()
            self._beat()
            if not self._over:
                self._loop.run_forever()
        finally:
            self._over = True
            self._alarm.close()
            pool.cancel()
        if self._failure:
            raise self._failure

    def fail(self, error: BaseException) -> None:
        """From another thread: ends the run, and `go` raises the error."""
        self._failure, self.stop = error, True

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """A callback raised. What befell a connection is in its recording; all else ends the run."""
        error = context.get("exception")
        if isinstance(error, BaseException) and not isinstance(error, OSError):
            self._failure = error
            self._finish()

    def _beat(self) -> None:
        """Twice in a tick: obeys the other thread, and lets an exception set for this one be raised."""
        if self._over:
            return
        if self.enough:
            self._unsent = 0
        out_of_time = perf_counter_ns() >= self._stop_ns
        if self.stop:
            self._finish()
        elif not self._measured_busy and (out_of_time or not self._unsent):
            self._complete()
        if not self._over:
            self._loop.call_later(TICK_S / 2, self._beat)

    def _complete(self) -> None:
        """The last measured answer has come."""
        self.measured = True
        if not self._linger:
            self._finish()

    def _finish(self) -> None:
        if not self._over:  # a second stop would end the loop's next run
            self._over = True
            self._loop.stop()

    def _ring(self) -> None:
        """Sends what is due, then sets the alarm for what is next."""
        while self._due:
            due_ns, index = self._due[0]
            if due_ns > perf_counter_ns():
                self._alarm.set(due_ns)
                return
            heapq.heappop(self._due)
            if index == _USER:
                self._next_session(due_ns)
            else:
                self._send(index, due_ns)

    def _at(self, due_ns: int, index: int) -> None:
        heapq.heappush(self._due, (due_ns, index))
        self._alarm.set(self._due[0][0])

    def _next_session(self, free_ns: int) -> None:
        """A user of the closed loop is free."""
        index = next(self._sessions, None)
        if index is not None:
            self._send(index, free_ns)

    def _send(self, index: int, planned_ns: int) -> None:
        if self.stop or self._over or perf_counter_ns() >= self._stop_ns:
            return
        if self.phases[index] == "measured":
            if self.enough:
                self.phases[index] = "tail"
                self.total -= 1
            else:
                self._unsent -= 1
                self._measured_busy += 1
        self._pool.send(Recording(index, self._bodies[index], planned_ns))

    def ended(self, recording: Recording) -> None:
        """A request ended, well or not: its session or its user goes on."""
        self.recordings.append(recording)
        self._reads_done += recording.reads_len
        index = recording.index
        if self.phases[index] != "tail":
            self.done += 1
        if self.phases[index] == "measured":
            self._measured_busy -= 1
        if self._over:
            return
        if not self._unsent and not self._measured_busy and not self.measured:
            self._complete()
        if self._over:
            return
        if self._goes_on[index]:
            if self._think_ns:
                self._at(recording.done_ns + self._think_ns, index + 1)
            else:
                self._send(index + 1, recording.done_ns)
        elif self._load.concurrency is not None:
            self._next_session(recording.done_ns)
