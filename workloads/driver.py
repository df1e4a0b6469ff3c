"""Drives a plan at an endpoint, closed or open loop, and returns one row a request.

Everything that can be done before or after the timed part is: bodies come prepared, streams are parsed afterwards.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from models.errors import EndpointError
from models.records import Endpoint
from models.specs import Load, Workload
from workloads.client import Connection, Exchange, Target, connect, target
from workloads.rows import rows
from workloads.schedule import MEASURED, Plan

perf_counter_ns = time.perf_counter_ns

POLL_S = 0.2
SPIN_NS = 1_200_000
"""Event loops keep time to a millisecond: the last of the wait for an instant is spent yielding."""


@dataclass(frozen=True)
class Drive:
    """What came of it. `requests` has the columns of models.frames.REQUESTS, without requests that were never sent;
    `truncated` says that measured ones are among those."""

    requests: pl.DataFrame
    started_at: str
    duration_s: float
    client_cpu_s: float
    truncated: bool


def drive(plan: Plan, bodies: Sequence[bytes], workload: Workload, endpoint: Endpoint, load: Load, *,
          api_key: str | None = None, t0_ns: int | None = None, should_stop: Callable[[], bool] = lambda: False,
          on_progress: Callable[[int, int, int], None] | None = None) -> Drive:
    """Sends a plan's requests and waits for the last measured answer; requests still under way then are cancelled.

    `on_progress(ended, measured, events)` is called a few times a second. `should_stop` is polled; when it says so,
    everything under way is cancelled. Raises EndpointError when nothing listens before the first request is sent.
    """
    where = target(endpoint.url, api_key)
    path = endpoint.chat_path if workload.api == "chat" else endpoint.completions_path
    requests = [where.request(path, body) for body in bodies]
    run = _Run(plan, requests, workload, load, where, should_stop, on_progress)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        started, cpu = dt.datetime.now(dt.UTC), time.process_time()
        t0_ns = t0_ns or perf_counter_ns()
        runner.run(run.run())
        end_ns = perf_counter_ns()
        cpu_s = time.process_time() - cpu
    frame = rows(plan, run.exchanges, run.start_ns)
    sent = sum(1 for e in run.exchanges if plan.phase[e.index] == MEASURED)
    return Drive(frame, (started + dt.timedelta(microseconds=(run.start_ns - t0_ns) / 1e3)).isoformat(),
                 (end_ns - run.start_ns) / 1e9, cpu_s, sent < run.measured)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # Windows
        return None
    return uvloop.new_event_loop


class _Run:
    """One drive: which session is next, what was exchanged, when it is over."""

    def __init__(self, plan: Plan, requests: Sequence[bytes], workload: Workload, load: Load, where: Target,
                 should_stop: Callable[[], bool], on_progress: Callable[[int, int, int], None] | None) -> None:
        self.plan, self.requests, self.workload, self.load, self.where = plan, requests, workload, load, where
        self.should_stop, self.on_progress = should_stop, on_progress
        self.exchanges: list[Exchange] = []
        self.measured = int((plan.phase == MEASURED).sum())
        self.ended = 0
        self.start_ns = 0
        self.over = asyncio.Event()
        self.connections: set[Connection] = set()
        self.idle: list[Connection] = []
        self.keep_alive = True
        self.sessions = iter(range(plan.height // workload.turns))

    async def run(self) -> None:
        """Runs to the last measured answer, or to the end of the plan or of the time allowed."""
        users = self.load.concurrency or 1
        await self._preconnect(users)
        self.start_ns = perf_counter_ns()
        body = self._closed(users) if self.load.concurrency else self._open()
        tasks = [asyncio.ensure_future(c) for c in (body, self.over.wait(), self._watch())]
        try:
            await asyncio.wait(tasks[:2], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.over.set()
            for connection in list(self.connections):
                connection.abort("cancelled")
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for error in results:
            if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
                raise error

    async def _preconnect(self, count: int) -> None:
        """Connections are made before the clock starts. Raises EndpointError when nobody listens."""
        for _ in range(count):
            try:
                connection = await connect(self.where)
            except OSError as error:
                raise EndpointError(f"{self.where.host}:{self.where.port} does not answer: {error}") from None
            self.connections.add(connection)
            self.idle.append(connection)

    async def _closed(self, users: int) -> None:
        await asyncio.gather(*(self._user() for _ in range(users)))

    async def _user(self) -> None:
        """Takes session after session; each request is meant to be sent the instant the user is free for it."""
        free_ns = self.start_ns
        for session in self.sessions:
            free_ns = await self._session(session, free_ns)
            if self.over.is_set():
                return

    async def _open(self) -> None:
        """Starts each session at its instant, however many are under way."""
        arrivals = self.plan.arrival_ns
        running: set[asyncio.Task[int]] = set()
        for session in self.sessions:
            due_ns = self.start_ns + (int(arrivals[session]) if arrivals is not None else 0)
            if due_ns - self.start_ns > self.load.duration_s_max * 1e9:
                break
            await self._until(due_ns)
            task = asyncio.ensure_future(self._session(session, due_ns))
            running.add(task)
            task.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running)

    async def _session(self, session: int, planned_ns: int) -> int:
        """Sends a session's turns one after another; returns when it ended."""
        turns = self.workload.turns
        for index in range(session * turns, (session + 1) * turns):
            if index % turns and self.workload.think_time_s:
                planned_ns += round(self.workload.think_time_s * 1e9)
                await self._until(planned_ns)
            if self.over.is_set() or perf_counter_ns() - self.start_ns > self.load.duration_s_max * 1e9:
                return planned_ns
            planned_ns = await self._request(index, planned_ns)
        return planned_ns

    async def _request(self, index: int, planned_ns: int) -> int:
        """Sends one request and waits for its end; returns that instant."""
        loop = asyncio.get_running_loop()
        exchange = Exchange(index, planned_ns, loop.create_future())
        self.exchanges.append(exchange)
        connection = await self._exchange(exchange, self.idle)
        if exchange.unanswered and connection and connection.used_before:
            # A server may close a kept connection as the request goes out: RFC 9110, 9.2.2 sends it again on a new one.
            self.keep_alive = False
            exchange.finished, exchange.failure = loop.create_future(), None
            await self._exchange(exchange, [])
        if self.plan.phase[index] == MEASURED:
            self.ended += 1
            if self.ended == self.measured:
                self.over.set()
        return exchange.done_ns

    async def _exchange(self, exchange: Exchange, idle: list[Connection]) -> Connection | None:
        """Sends on an idle connection or a new one, and waits for the end. None when nobody listens."""
        try:
            connection = await self._connection(idle)
        except OSError as error:
            exchange.sent_ns = exchange.sent_ns or perf_counter_ns()
            exchange.end(perf_counter_ns(), "refused", str(error))
            return None
        connection.send(exchange, self.requests[exchange.index])
        deadline = asyncio.get_running_loop().call_later(
            self.load.timeout_s, connection.abort, "timeout", f"no end within {self.load.timeout_s:g} s")
        await exchange.finished
        deadline.cancel()
        if connection.usable and self.keep_alive:
            self.idle.append(connection)
        else:
            connection.close()
            self.connections.discard(connection)
        return connection

    async def _connection(self, idle: list[Connection]) -> Connection:
        while idle:
            connection = idle.pop()
            if connection.usable:
                return connection
            self.connections.discard(connection)
        connection = await connect(self.where)
        self.connections.add(connection)
        return connection

    async def _until(self, due_ns: int) -> None:
        while (left_ns := due_ns - perf_counter_ns()) > 0:
            await asyncio.sleep((left_ns - SPIN_NS) / 1e9 if left_ns > SPIN_NS else 0)

    async def _watch(self) -> None:
        while not self.over.is_set():
            await asyncio.sleep(POLL_S)
            if self.should_stop():
                self.over.set()
            if self.on_progress:
                self.on_progress(self.ended, self.measured, sum(len(e.stamps) for e in self.exchanges))
