"""Drives a plan: sends each request at its instant, records the answers, stops when the last measured one has ended.

One thread, one event loop of its own. Open loop: an absolute schedule from the start, never re-anchored, so that a
late send is late and says so. Closed loop: as many users as the concurrency, each taking the next session when its last
has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import datetime as dt
import gc
import heapq
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter_ns

import polars as pl

from models.records import Endpoint
from models.specs import Load, Workload
from workloads import dialects, validity
from workloads.address import Address, bearer
from workloads.alarm import alarm
from workloads.client import Recording
from workloads.columns import frame
from workloads.pool import Pool, allow_connections
from workloads.schedule import Plan

OnProgress = Callable[[int, int, int], None]
TICK_S = 0.2
OPEN_LOOP_CONNECTIONS = 4096
"""Files to be allowed for where nobody knows how many requests will be in flight."""
RAMP_GAP_NS, RAMP_NS_MAX = 1_000_000, 2_000_000_000
"""Users of a closed loop come a millisecond apart, the last after two seconds at most: all at once they would stay in
step, and every answer would queue behind all others in sockets that are read one by one."""
_USER = -1
SWITCH_INTERVAL_S = 0.0005
"""How long another thread of this process may hold the interpreter while a stamp waits (CPython's default is ten times
as long)."""


@dataclass(frozen=True)
class Drive:
    """What a run gave. Stamps count from t = 0, whose wall clock is `started_at` (UTC, ISO 8601).

    client_cpu_s: CPU of the driving thread while the load ran. truncated: requests that were to be measured were not
    sent, because of duration_s_max or because `should_stop` said so; they have no row.
    """

    requests: pl.DataFrame
    started_at: str
    duration_s: float
    client_cpu_s: float
    truncated: bool


def drive(plan: Plan, bodies: Sequence[bytes], workload: Workload, endpoint: Endpoint, load: Load, *,
          api_key: str | None = None, t0_ns: int | None = None, on_progress: OnProgress | None = None,
          should_stop: Callable[[], bool] | None = None) -> Drive:
    """Sends the plan's requests and returns what came back. Works in any thread that runs no event loop.

    t0_ns: the perf_counter_ns that counts as t = 0 (default: the start). on_progress(done, total, tokens so far) and
    should_stop() are called up to five times a second from a thread of their own; an exception in one ends the run.
    Raises UserError when this process may not open as many connections, EndpointError when the host does not resolve.
    """
    if len(bodies) != plan.height:
        raise ValueError(f"{len(bodies)} bodies for {plan.height} planned requests")
    key = bearer(api_key)
    allow_connections(load.concurrency or 1, load.concurrency or OPEN_LOOP_CONNECTIONS)
    path = dialects.of(workload.api).path(endpoint)
    validity.checker(workload)  # a schema that cannot be used is found before anything is sent
    with asyncio.Runner(loop_factory=_new_loop) as runner:  # leaves no task and no loop behind
        loop = runner.get_loop()
        run = _Run(loop, plan, bodies, workload, load)
        pool = Pool(loop, Address.parse(endpoint.url), path, key, load.timeout_s, run.ended,
                    spare=load.concurrency is None)
        try:
            loop.run_until_complete(pool.open(load.concurrency or 1))
            with _undisturbed(), _watched(run, on_progress, should_stop):
                start_ns, cpu_s = perf_counter_ns(), time.thread_time()
                run.go(pool, start_ns)
                duration_s, cpu_s = (perf_counter_ns() - start_ns) / 1e9, time.thread_time() - cpu_s
        finally:
            loop.run_until_complete(pool.close())
    t0_ns = start_ns if t0_ns is None else t0_ns
    anchor = dt.datetime.now(dt.UTC) - dt.timedelta(microseconds=(perf_counter_ns() - t0_ns) / 1000)
    requests = frame(plan, workload, run.recordings, t0_ns, key)
    return Drive(requests, anchor.isoformat(), duration_s, cpu_s, run.truncated)


class _Run:
    """The state of one run; everything but `go`, `done` and `tokens` runs in callbacks of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, plan: Plan, bodies: Sequence[bytes], workload: Workload,
                 load: Load) -> None:
        table = plan.requests
        self._loop, self._bodies, self._load = loop, bodies, load
        self._phase: list[str] = table["phase"].to_list()
        self._offset: list[int | None] = table["offset_ns"].to_list()
        sessions: list[int] = table["session"].to_list()
        self._goes_on = [a == b for a, b in itertools.pairwise(sessions)] + [False] * bool(sessions)
        self._sessions = iter([i for i, turn in enumerate(table["turn"].to_list()) if turn == 0])
        self._think_ns = round(workload.think_time_s * 1e9)
        self._due: list[tuple[int, int]] = []
        self._unsent = self._phase.count("measured")
        self._measured_busy = 0
        self._failure: BaseException | None = None
        self._over = False
        self.recordings: list[Recording] = []
        self.total = table.height - self._phase.count("tail")
        self.done = self._reads_done = 0
        self.stop = False
        """Set by another thread: no more requests, whatever is in flight is cancelled."""

    @property
    def truncated(self) -> bool:
        return self._unsent > 0

    @property
    def tokens(self) -> int:
        """Reads so far, which are about the tokens; safe from another thread."""
        return self._reads_done + sum(len(r.stamps) for r in list(self._pool.busy))

    def go(self, pool: Pool, start_ns: int) -> None:
        """Runs the load to its end. Raises whatever a callback or another thread raised."""
        self._pool, self._start_ns = pool, start_ns
        self._stop_ns = start_ns + round(self._load.duration_s_max * 1e9)
        self._loop.set_exception_handler(self._failed)
        self._alarm = alarm(self._loop, self._ring)
        try:
            users = self._load.concurrency
            if users is None:
                self._due = [(start_ns + o, i) for i, o in enumerate(self._offset) if o is not None]
            else:
                gap_ns = min(RAMP_GAP_NS, RAMP_NS_MAX // users)
                self._due = [(start_ns + user * gap_ns, _USER) for user in range(users)]
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
        if self.stop or (perf_counter_ns() >= self._stop_ns and not self._measured_busy):
            self._finish()
        else:
            self._loop.call_later(TICK_S / 2, self._beat)

    def _finish(self) -> None:
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
        if self._phase[index] == "measured":
            self._unsent -= 1
            self._measured_busy += 1
        self._pool.send(Recording(index, self._bodies[index], planned_ns))

    def ended(self, recording: Recording) -> None:
        """A request ended, well or not: its session or its user goes on."""
        self.recordings.append(recording)
        self._reads_done += len(recording.stamps)
        index = recording.index
        if self._phase[index] != "tail":
            self.done += 1
        if self._phase[index] == "measured":
            self._measured_busy -= 1
        if self._over:
            return
        if not self._unsent and not self._measured_busy:
            self._finish()
        elif self._goes_on[index]:
            if self._think_ns:
                self._at(recording.done_ns + self._think_ns, index + 1)
            else:
                self._send(index + 1, recording.done_ns)
        elif self._load.concurrency is not None:
            self._next_session(recording.done_ns)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """No garbage collection (it would stop every stream for as long as it takes), and short turns for other threads."""
    enabled, interval = gc.isenabled(), sys.getswitchinterval()
    gc.disable()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        if enabled:
            gc.enable()


@contextlib.contextmanager
def _watched(run: _Run, on_progress: OnProgress | None, should_stop: Callable[[], bool] | None) -> Iterator[None]:
    """Asks and tells from a thread of its own, with the caller's context, so that neither ever delays a stamp."""
    ended = threading.Event()

    def watch() -> None:
        try:
            while not ended.wait(TICK_S):
                if on_progress:
                    on_progress(run.done, run.total, run.tokens)
                if should_stop and should_stop():
                    run.stop = True
            if on_progress:
                on_progress(run.done, run.total, run.tokens)
        except BaseException as error:
            run.fail(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(watch,), name="dyno-progress", daemon=True)
    if on_progress or should_stop:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()
