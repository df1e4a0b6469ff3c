"""One point: a plan driven at an endpoint, its steady part found, summed up and judged. Whoever owns the engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import polars as pl

from models import intervals
from models.energy import Kind, metered
from models.progress import Progress
from models.records import Endpoint, Summary, Verdict, Warmup
from models.specs import Load, Workload
from models.steady import settled
from models.summary import summarise
from models.verdicts import judge, of_hosts
from workloads import driver, hosts, prompts, schedule, shards
from workloads.driver import Drive
from workloads.interim import Judge, Now, Say
from workloads.peers import Host
from workloads.telemetry import Sampler


@dataclass(frozen=True)
class Target:
    """What is measured. pids: its processes, where they are known; alive: whether it is still there; meters: what
    tells its energy, if anything on this machine does."""

    endpoint: Endpoint
    words: prompts.Vocabulary
    api_key: str | None = None
    pids: Callable[[], list[int]] = list
    gauges: Callable[[], dict[str, float]] | None = None
    alive: Callable[[], bool] = lambda: True
    meters: Kind | None = None


@dataclass(frozen=True)
class Point:
    """What one load gave. cpu_s: CPU of this process and its shards, from the first request to the summary."""

    drive: Drive
    requests: pl.DataFrame
    telemetry: pl.DataFrame
    summary: Summary
    verdicts: tuple[Verdict, ...]
    warmup: Warmup | None
    cpu_s: float


def take(target: Target, workload: Workload, load: Load, *, seed: int = 0, repeat: int = 0, processes: int = 1,
         load_hosts: Sequence[Host] = (), label: str = "load", progress: Progress, judge_now: Judge | None = None,
         until: float | None = None, steady: bool = True) -> Point:
    """Plans, drives and judges one load. until: a duration asked for, so that ending then is no early stop. steady:
    warm-up beyond the planned one is looked for, except under ramps and traces, which are never steady. load_hosts:
    machines that send it, each with the key of its own DYNO_API_KEY.

    Raises UserError or EndpointError before anything is sent; a failed request is data.
    """
    plan = schedule.plan(workload, load, seed, repeat)
    progress(f"preparing {plan.height} prompts")
    bodies = prompts.bodies(plan, workload, target.endpoint,
                            prompts.fit(target.words, workload, target.endpoint, target.api_key))
    driven = _driven(load_hosts, processes, judge_now or _precise(load), target.api_key)
    start_ns = time.perf_counter_ns()
    with Sampler(target.pids, target.gauges, t0_ns=start_ns) as sampler:
        cpu_s = time.process_time()
        drive = driven(plan, bodies, workload, target.endpoint, load, t0_ns=start_ns,
                       should_stop=lambda: not target.alive(),
                       on_progress=lambda n, of, tokens: progress(label, n / max(1, of), f"{n} of {of}, {tokens} tok"))
    moving = load.request_rate_end is not None or load.arrivals == "trace"
    requests, warmup = settled(drive.requests) if steady and not moving else (drive.requests, None)
    summary = metered(summarise(requests), requests, sampler.frame(), target.meters)
    verdicts = judge(requests, sampler.frame(), summary, workload, load, drive.client_cpu_s, drive.duration_s,
                     stopped_early=drive.truncated and until is None, warmup=warmup, processes=drive.processes,
                     late_share=drive.late_share, waited_s=drive.waited_s)
    cpu_s = time.process_time() - cpu_s + (drive.client_cpu_s if drive.processes > 1 else 0.0)
    return Point(drive, requests, sampler.frame(), summary, (*verdicts, *of_hosts(drive.hosts)), warmup, cpu_s)


def _driven(load_hosts: Sequence[Host], processes: int, judge_now: Judge | None, key: str | None,
            ) -> Callable[..., Drive]:
    """Who sends: other machines, several processes, or this one."""
    if load_hosts:
        return partial(hosts.drive, load_hosts)
    if processes > 1:
        return partial(shards.drive, processes, api_key=key)
    return partial(driver.drive, judge=judge_now, api_key=key)


def _precise(load: Load) -> Judge | None:
    """Stops a run once its intervals are as narrow as asked for."""
    precision = load.precision
    if precision is None:
        return None

    def judge_now(now: Now) -> Say:
        return "enough" if intervals.narrow(settled(now.requests)[0], precision) else "go on"
    return judge_now
