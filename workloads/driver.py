"""Drives a plan: sends each request at its instant, records the answers, stops when the last measured one has ended.

One thread and one event loop a process (workloads.run has the rules, workloads.shards several processes).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import datetime as dt
import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns

import polars as pl

from models.records import Endpoint, LoadHost
from models.specs import Load, Workload
from workloads import dialects, validity
from workloads.address import Address, bearer
from workloads.columns import frame
from workloads.interim import Interim, Judge, Say
from workloads.pool import Pool, allow_connections
from workloads.run import TICK_S, Part, Run
from workloads.schedule import Plan

OnProgress = Callable[[int, int, int], None]
Gate = Callable[[], int]
OPEN_LOOP_CONNECTIONS = 4096
"""Files to be allowed for where nobody knows how many requests will be in flight."""
SWITCH_INTERVAL_S = 0.0005
"""How long another thread of this process may hold the interpreter while a stamp waits (CPython's default is ten times
as long)."""


@dataclass(frozen=True)
class Drive:
    """What a run gave. Stamps count from t = 0, whose wall clock is `started_at` (UTC, ISO 8601).

    client_cpu_s: CPU of the driving threads while the load ran, of all `processes` together. truncated: requests that
    were to be measured were not sent, because of duration_s_max or because `should_stop` or `judge` said so; they have
    no row. judged: what `judge` said last. late_share: of the reads, those that waited over 2 ms as others were seen
    to; waited_s: how long a driving thread wanted a processor and got none (the most of any process; Linux). hosts: the
    machines that the load came from, where it was not this one alone.
    """

    requests: pl.DataFrame
    started_at: str
    duration_s: float
    client_cpu_s: float
    truncated: bool
    processes: int = 1
    judged: Say = "go on"
    late_share: float = 0.0
    waited_s: float = 0.0
    hosts: tuple[LoadHost, ...] = ()


def drive(plan: Plan, bodies: Sequence[bytes], workload: Workload, endpoint: Endpoint, load: Load, *,
          api_key: str | None = None, t0_ns: int | None = None, on_progress: OnProgress | None = None,
          should_stop: Callable[[], bool] | None = None, judge: Judge | None = None, part: Part = Part(),  # noqa: B008
          gate: Gate | None = None, on_tick: Callable[[Run], None] | None = None) -> Drive:
    """Sends the plan's requests and returns what came back. Works in any thread that runs no event loop.

    t0_ns: the perf_counter_ns that counts as t = 0 (default: the start). on_progress(done, total, tokens so far),
    should_stop() and on_tick(run) are called up to five times a second from a thread of their own, judge(interim
    results) as often as that costs little; an exception in one ends the run. `gate` is called when all connections are
    open and returns the instant of the start; with it, the load is kept up until should_stop.
    Raises UserError when this process may not open as many connections, EndpointError when the host does not resolve.
    """
    if len(bodies) != plan.height:
        raise ValueError(f"{len(bodies)} bodies for {plan.height} planned requests")
    key = bearer(api_key)
    users = len(part.users(load.concurrency)) if load.concurrency else 1
    allow_connections(users, users if load.concurrency else OPEN_LOOP_CONNECTIONS)
    path = dialects.of(workload.api).path(endpoint)
    validity.checker(workload)  # a schema that cannot be used is found before anything is sent
    with asyncio.Runner(loop_factory=_new_loop) as runner:  # leaves no task and no loop behind
        loop = runner.get_loop()
        run = Run(loop, plan, bodies, workload, load, part, linger=gate is not None)
        pool = Pool(loop, Address.parse(endpoint.url), path, key, load.timeout_s, run.ended,
                    spare=load.concurrency is None)
        try:
            loop.run_until_complete(pool.open(users))
            start_ns = gate() if gate else perf_counter_ns()
            zero_ns = start_ns if t0_ns is None else t0_ns
            interim = Interim(run, plan, workload, zero_ns, judge) if judge else None
            with _undisturbed(), _watched(run, on_progress, should_stop, interim, on_tick):
                cpu_s, waited_s = time.thread_time(), _waited_s()
                run.go(pool, start_ns)
                duration_s, cpu_s = (perf_counter_ns() - start_ns) / 1e9, time.thread_time() - cpu_s
                waited_s = _waited_s() - waited_s
        finally:
            loop.run_until_complete(pool.close())
    anchor = dt.datetime.now(dt.UTC) - dt.timedelta(microseconds=(perf_counter_ns() - zero_ns) / 1000)
    with _undisturbed():  # millions of short-lived objects without a cycle among them
        requests = frame(plan.phased(run.phases), workload, run.recordings, zero_ns, key)
    return Drive(requests, anchor.isoformat(), duration_s, cpu_s, run.truncated, part.of,
                 interim.said if interim else "go on", pool.late_share, waited_s)


def _waited_s() -> float:
    """Seconds this thread has been ready to run without running; 0 where the system does not say."""
    try:
        return int(Path(f"/proc/self/task/{threading.get_native_id()}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


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
def _watched(run: Run, on_progress: OnProgress | None, should_stop: Callable[[], bool] | None,
             interim: Interim | None, on_tick: Callable[[Run], None] | None) -> Iterator[None]:
    """Asks and tells from a thread of its own, with the caller's context, so that neither ever delays a stamp."""
    ended = threading.Event()

    def watch() -> None:
        try:
            while not ended.wait(TICK_S):
                if on_progress:
                    on_progress(run.done, run.total, run.tokens)
                if should_stop and should_stop():
                    run.stop = True
                if interim:
                    interim.look()
                if on_tick:
                    on_tick(run)
            if on_progress:
                on_progress(run.done, run.total, run.tokens)
        except BaseException as error:
            run.fail(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(watch,), name="dyno-progress", daemon=True)
    if on_progress or should_stop or interim or on_tick:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()
