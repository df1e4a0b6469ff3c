"""One load from several machines: one schedule, clocks related, one result. Whoever starts the others' part of it.

The API key is not sent: each host takes its own from DYNO_API_KEY.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from time import perf_counter_ns, time_ns
from typing import Any

import polars as pl

from models.errors import DynoError, UserError
from models.records import Endpoint, LoadHost
from models.specs import Load, Workload
from workloads import clocks, peers, shards
from workloads.clocks import Related
from workloads.driver import Drive, OnProgress
from workloads.peers import PATIENCE_S, SILENCE_S, Host
from workloads.run import TICK_S, Part
from workloads.schedule import Plan
from workloads.shards import Job

Say = Callable[..., None]
STILL_S = 1.0
START_AFTER_NS = 100_000_000


def drive(hosts: Sequence[Host], plan: Plan, bodies: Sequence[bytes], workload: Workload, endpoint: Endpoint,
          load: Load, *, t0_ns: int | None = None, on_progress: OnProgress | None = None,
          should_stop: Callable[[], bool] | None = None) -> Drive:
    """As driver.drive, from these hosts. Stamps are in this machine's clock.

    The hosts wait for another load afterwards. Raises UserError where there are more hosts than users, and DynoError
    when a host is lost.
    """
    if load.concurrency is not None and len(hosts) > load.concurrency:
        raise UserError(f"load_hosts: {len(hosts)} are more than the {load.concurrency} users they would share")
    for number, host in enumerate(hosts):
        part, places = plan.part(number, len(hosts))
        asked = {"workload": workload, "endpoint": endpoint, "load": load}
        host.measured, host.progress = False, (0, 0, 0)
        host.tell("drive", {k: v.model_dump(mode="json") for k, v in asked.items()}
                  | {"number": number, "of": len(hosts), "text_seed": part.text_seed},
                  part.requests.with_columns(body=pl.Series([bodies[i] for i in places], dtype=pl.Binary)))
    for host in hosts:
        host.hear("ready", PATIENCE_S)
    before = [host.related() for host in hosts]
    start_ns = perf_counter_ns() + START_AFTER_NS + 4 * max(one.error_ns for one in before)
    for host, clock in zip(hosts, before, strict=True):
        host.tell("start", start_ns + clock.offset_ns)
    _watch(hosts, on_progress, should_stop)
    for host in hosts:
        host.tell("stop")
    drives = [_result(host) for host in hosts]
    after = [host.related() for host in hosts]
    zero_ns = start_ns if t0_ns is None else t0_ns
    every = list(zip(hosts, drives, before, after, strict=True))
    related = [_in_our_time(one, old, new, start_ns - zero_ns) for _, one, old, new in every]
    anchor = dt.datetime.now(dt.UTC) - dt.timedelta(microseconds=(perf_counter_ns() - zero_ns) / 1000)
    told = tuple(_told(*one) for one in every)
    return replace(shards.merged(related), started_at=anchor.isoformat(), hosts=told)


def _watch(hosts: Sequence[Host], on_progress: OnProgress | None, should_stop: Callable[[], bool] | None) -> None:
    """Returns when all have their measured answers, or should_stop says so. Raises DynoError when a host is lost."""
    spoke_s = 0.0
    while not all(host.measured for host in hosts):
        for pipe in wait([host.pipe for host in hosts], TICK_S):
            next(host for host in hosts if host.pipe is pipe).hear("progress")
        if (now := time.monotonic()) > spoke_s + STILL_S:
            spoke_s = now
            for host in hosts:
                host.tell("still")
        for host in hosts:
            if now > host.heard_s + SILENCE_S:
                raise DynoError(f"load host {host.name} was not heard for {SILENCE_S:g} s")
        if on_progress:
            done, total, tokens = (sum(counts) for counts in zip(*(h.progress for h in hosts), strict=True))
            on_progress(done, total, tokens)
        if should_stop and should_stop():
            return


def _result(host: Host) -> Drive:
    said = host.hear("done", PATIENCE_S)
    return Drive(requests=host.frame(), started_at="", **said)


def _in_our_time(one: Drive, before: Related, after: Related, shift_ns: int) -> Drive:
    """Stamps since the start by that host's clock, as instants since t = 0 by ours."""
    rate = 1 / (1 + clocks.drift(before, after))
    stamps = [c for c, kind in one.requests.schema.items() if c.endswith("_ns") and kind == pl.Int64]
    requests = one.requests.with_columns((pl.col(c) * rate).round().cast(pl.Int64) + shift_ns for c in stamps)
    return replace(one, requests=requests)


def _told(host: Host, one: Drive, before: Related, after: Related) -> LoadHost:
    error = max(before.error_ns, after.error_ns)
    return LoadHost(host=host.name, requests=one.requests.height, clock_error_ms=error / 1e6,
                    clock_drift_ppm=1e6 * clocks.drift(before, after), wall_clock_off_ms=before.wall_offset_ns / 1e6,
                    late_share=one.late_share, waited_s=one.waited_s)


def take_part(address: tuple[str, int], ticket: str, timeout_s: float = 60.0) -> int:
    """On a host: calls the coordinator and drives its part of one load after another, until the coordinator hangs up;
    returns how many requests were sent.

    A load is stopped when the coordinator says so, or is not heard any more. Raises UserError when it cannot be
    reached, DynoError when it is lost in the middle of a load.
    """
    sent = 0
    with peers.called(address, ticket, timeout_s) as pipe:
        lock = threading.Lock()

        def say(word: str, said: object = None, frame: pl.DataFrame | None = None) -> None:
            with lock:
                peers.tell(pipe, word, said, frame)

        while (said := _next_load(pipe, say)) is not None:
            try:
                sent += _drive_part(pipe, _job(said, peers.frame_from(pipe)), say)
            except (EOFError, OSError) as error:
                raise DynoError(f"the coordinator of this load is gone: {error}") from None
    return sent


def _next_load(pipe: Connection, say: Say) -> dict[str, Any] | None:
    """What is to be driven next; None when the coordinator has hung up."""
    try:
        said: dict[str, Any] = _until(pipe, "drive", say, PATIENCE_S)
    except (EOFError, OSError):
        return None
    return said


def _job(said: dict[str, Any], requests: pl.DataFrame) -> Job:
    plan = Plan(requests.drop("body"), int(said["text_seed"]))
    return Job(plan, requests["body"].to_list(), Workload.model_validate(said["workload"]),
               Endpoint.model_validate(said["endpoint"]), Load.model_validate(said["load"]),
               os.environ.get("DYNO_API_KEY"), Part(int(said["number"]), int(said["of"])), None)


def _drive_part(pipe: Connection, job: Job, say: Say) -> int:
    def gate() -> int:
        say("ready")
        return int(_until(pipe, "start", say, PATIENCE_S))

    def until_told() -> None:
        with contextlib.suppress(EOFError, OSError):
            _until(pipe, "stop", say)

    try:
        done = shards.work(job, gate, until_told, say)
    except DynoError as error:
        with contextlib.suppress(OSError):
            say("error", {"kind": "UserError" if isinstance(error, UserError) else "DynoError", "text": str(error)})
        raise
    say("done", {"duration_s": done.duration_s, "client_cpu_s": done.client_cpu_s, "truncated": done.truncated,
                 "late_share": done.late_share, "waited_s": done.waited_s}, done.requests)
    return done.requests.height


def _until(pipe: Connection, wanted: str, say: Say, within_s: float = SILENCE_S) -> Any:
    """Answers questions for the time until that word comes. Raises TimeoutError after a silence."""
    while pipe.poll(within_s):
        word, said = peers.hear(pipe)
        if word == "clock":
            say("clock", (perf_counter_ns(), time_ns()))
        if word == wanted:
            return said
    raise TimeoutError(f"nothing was heard for {within_s:g} s")
