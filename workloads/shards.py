"""One load from several processes: one schedule, one clock, one result.

Each process drives every n-th session (and in a closed loop every n-th user). The clock is CLOCK_MONOTONIC, the same
in every process of a machine, so that all start at one instant and stamps need no conversion. The load of each goes on
until the last measured answer of all has come.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import polars as pl

from models.errors import DynoError, UserError
from models.records import Endpoint
from models.specs import Load, Workload
from workloads import driver
from workloads.driver import Drive, Gate, OnProgress
from workloads.run import TICK_S, Part
from workloads.schedule import Plan

START_AFTER_NS = 50_000_000
"""From the word to start to the start: all processes have read it by then."""


@dataclass(frozen=True)
class Job:
    """What one process does of a load."""

    plan: Plan
    bodies: list[bytes]
    workload: Workload
    endpoint: Endpoint
    load: Load
    api_key: str | None
    part: Part
    t0_ns: int | None


def drive(processes: int, plan: Plan, bodies: Sequence[bytes], workload: Workload, endpoint: Endpoint, load: Load, *,
          api_key: str | None = None, t0_ns: int | None = None, on_progress: OnProgress | None = None,
          should_stop: Callable[[], bool] | None = None) -> Drive:
    """As driver.drive, from `processes` processes. With t0_ns None, t = 0 is the common start.

    Raises UserError where clocks of processes cannot be compared or there are more processes than users, DynoError when
    a process dies.
    """
    if not sys.platform.startswith(("linux", "darwin")):
        raise UserError("processes: only Linux and macOS have one monotonic clock for all processes")
    if load.concurrency is not None and processes > load.concurrency:
        raise UserError(f"processes: {processes} are more than the {load.concurrency} users they would share")
    shards = [_Shard(Job(part, [bodies[i] for i in places], workload, endpoint, load, api_key,
                          Part(number, processes), t0_ns))
              for number in range(processes) for part, places in [plan.part(number, processes)]]
    try:
        for shard in shards:
            shard.hear("ready")
        start_ns = time.perf_counter_ns() + START_AFTER_NS
        for shard in shards:
            shard.pipe.send(start_ns)
        _watch(shards, on_progress, should_stop)
        for shard in shards:
            shard.pipe.send("stop")
        return merged([shard.hear("done") for shard in shards])
    finally:
        for shard in shards:
            shard.end()


class _Shard:
    """A process and the pipe to it."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_child, args=(theirs,), daemon=True, name="dyno-load")
        self.process.start()
        theirs.close()
        self.pipe.send(job)
        self.measured = False
        self.progress = (0, 0, 0)

    def hear(self, wanted: str) -> Any:
        """Takes what comes until that word, and returns what came with it."""
        while True:
            try:
                word, said = self.pipe.recv()
            except (EOFError, OSError):
                self.process.join(1)
                raise DynoError(f"a process of the load generator died (exit code {self.process.exitcode})") from None
            if word == "error":
                raise said
            if word == "progress":
                self.measured, *counts = said
                self.progress = (counts[0], counts[1], counts[2])
            if word == wanted:
                return said

    def end(self) -> None:
        """Leaves no process behind."""
        self.pipe.close()
        self.process.join(0.5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _watch(shards: Sequence[_Shard], on_progress: OnProgress | None, should_stop: Callable[[], bool] | None) -> None:
    """Returns when all have their measured answers, or should_stop says so."""
    while not all(shard.measured for shard in shards):
        for pipe in wait([shard.pipe for shard in shards], TICK_S):
            next(shard for shard in shards if shard.pipe is pipe).hear("progress")
        if on_progress:
            done, total, tokens = (sum(counts) for counts in zip(*(s.progress for s in shards), strict=True))
            on_progress(done, total, tokens)
        if should_stop and should_stop():
            return


def merged(drives: Sequence[Drive]) -> Drive:
    """One result of several; each has the rows of its own requests."""
    requests = pl.concat([one.requests for one in drives]).sort("request_index")
    return replace(drives[0], requests=requests, duration_s=max(one.duration_s for one in drives),
                   client_cpu_s=sum(one.client_cpu_s for one in drives), truncated=any(one.truncated for one in drives),
                   processes=len(drives), late_share=max(one.late_share for one in drives),
                   waited_s=max(one.waited_s for one in drives))


def _child(pipe: Connection) -> None:
    """One process of a load. Ctrl-C is the parent's to handle; when the parent is gone, so is this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    job: Job = pipe.recv()
    lock = threading.Lock()

    def say(word: str, said: object) -> None:
        with lock:
            pipe.send((word, said))

    def until_told() -> None:
        try:
            pipe.recv()
        except (EOFError, OSError):
            os._exit(1)

    def gate() -> int:
        say("ready", None)
        return int(pipe.recv())

    try:
        say("done", work(job, gate, until_told, say))
    except DynoError as error:
        say("error", error)
    except (EOFError, OSError):
        os._exit(1)


def work(job: Job, gate: Gate, until_told: Callable[[], None], say: Callable[[str, object], None]) -> Drive:
    """Drives a part of a load until `until_told` returns, which is called in a thread of its own once the load is on;
    `say("progress", …)` tells meanwhile how far it is."""
    stop = threading.Event()

    def listen() -> None:
        until_told()
        stop.set()

    def started() -> int:
        start_ns = gate()
        threading.Thread(target=listen, name="dyno-listen", daemon=True).start()
        return start_ns

    return driver.drive(job.plan, job.bodies, job.workload, job.endpoint, job.load, api_key=job.api_key,
                        t0_ns=job.t0_ns, part=job.part, gate=started, should_stop=stop.is_set,
                        on_tick=lambda run: say("progress", (run.measured, run.done, run.total, run.tokens)))
