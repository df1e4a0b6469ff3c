"""`dyno capacity`: as few and as short probes as tell the largest load that keeps the limits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from flows import load as loads
from flows import point
from models import capacity, probing, queueing, simulated, slo
from models.capacity import Capacity
from models.probing import Kind, Probe
from models.progress import Progress
from models.queueing import Stack
from models.records import Summary, Verdict
from models.slo import Limit
from models.specs import Load, Workload
from workloads import control, schedule
from workloads.interim import Now, Say

REQUESTS_ABOVE = 6
"""Requests above a percentile that a probe near the limit should have, if the limit is just kept."""
ROUNDS = 4
"""Answers of each user at the least, then."""
OPEN_E2E = 7
"""Length of an open loop's probe in mean E2E, at the least."""
OPEN_REQUESTS = 240
"""Of an open loop at the least, or as many as the percentile needs: on a slow engine more would take too long."""
OVERLOAD = 0.05
"""That a queue shows: at so much more than an engine bears it takes 1/OVERLOAD times a wait until that is waited."""
FAR_BELOW = 0.8
"""Of the guess: an open loop nearer to it is measured to its end, as its schedule is typical only as a whole."""
BURST_WORTH = 0.2
"""Of a request: near saturation those that wait wait together, so that five say little more than one."""
SCHEDULES = 24
"""Arrival schedules of which the most typical is driven."""
QUEUE_WORTH, SPEED_WORTH, CHANCE_WORTH = 1.0, 0.07, 0.04
"""Of a request, by how many independent ones a share above a limit spreads like: under the schedule that a simulation
found typical, where waiting breaks the limits, or speed too; and under one that chance made. The first two were chosen
on played servers; with other seeds 45 of 48 intervals of a rate held the truth, those of `slots-8` 6 of 8."""


@dataclass(frozen=True)
class Known:
    """What a driven load gave, or one that was driven before (`reused`)."""

    requests: pl.DataFrame
    summary: Summary
    verdicts: tuple[Verdict, ...]
    seconds: float
    hopeless: bool
    reused: bool = False
    trial_id: str | None = None


Take = Callable[[Load, int, Callable[[Now], Say]], Known]
"""Drives a load with a seed, or takes it from the warehouse."""


@dataclass
class Found:
    """What a search gave: label, limits, capacities, every probe; or why there was none (failed: it should have been
    possible)."""

    label: str
    limits: tuple[Limit, ...]
    probes: list[Probe] = field(default_factory=list)
    capacities: list[Capacity] = field(default_factory=list)
    wall_s: float = 0.0
    notes: list[str] = field(default_factory=list)
    error: str = ""
    failed: bool = False

    @property
    def engine_s(self) -> float:
        """Seconds that the engine was kept busy for this search."""
        return sum(p.seconds for p in self.probes if not p.reused)

    @property
    def reused(self) -> int:
        """Probes that had been measured before."""
        return sum(p.reused for p in self.probes)

    def flat(self) -> dict[str, object]:
        """One object for --json."""
        return {"label": self.label, "limits": [str(limit) for limit in self.limits], "error": self.error or None,
                **{one.kind: one.model_dump() for one in self.capacities}, "engine_seconds": self.engine_s,
                "wall_seconds": self.wall_s, "probes": [p.model_dump() | {"keeps": p.keeps} for p in self.probes],
                "notes": self.notes}


def search_url(options: dict[str, Any], progress: Progress) -> list[Found]:
    """Searches what serves at a URL. Raises UserError or EndpointError."""
    start_s = time.monotonic()
    limits = slo.parse(options["slo"], stored=False)
    asked = loads.workload(options | {"trace": None})
    target = loads.reach(options, asked, progress)

    def take(load: Load, seed: int, judge: Callable[[Now], Say]) -> Known:
        got = point.take(target, asked, load, seed=seed, label=load.label, progress=progress, judge_now=judge, until=0,
                         steady=False)
        control.settle(target.endpoint, target.api_key)
        return Known(got.requests, got.summary, got.verdicts, got.drive.duration_s, got.drive.judged == "hopeless")
    found = search(f"{target.endpoint.url} · {target.endpoint.model} · {asked.label}", asked, limits, take,
                   only=options["only"], seed=options["seed"], max_s=options["max_seconds"],
                   timeout_s=options["timeout"])
    found.wall_s = time.monotonic() - start_s
    return [found]


def search(label: str, asked: Workload, limits: tuple[Limit, ...], take: Take, *, only: str | None = None,
           seed: int = 0, max_s: float = 300.0, timeout_s: float = 120.0, known: Sequence[Probe] = ()) -> Found:
    """Searches both capacities (or one) with the probes that `take` drives. `known`: points measured before."""
    found = Found(label, limits, probes=list(known))
    start_s = time.monotonic()
    tokens = schedule.lengths(asked.output_tokens, asked.output_scale, 2000, schedule.generator("capacity", seed))
    kinds: list[Kind] = [kind for kind in ("concurrency", "request_rate") if only in (None, kind.split("_")[-1])]
    for kind in kinds:
        guess, stack = None, None
        unsure: list[Probe] = []
        while True:
            stack = simulated.fit(found.probes)
            guess = (simulated.crossing(stack, kind, tokens.tolist(), limits, found.probes, guess) if stack else None)
            level = capacity.propose(kind, found.probes, guess, _first_rate(found, kind))
            if level is None:
                break
            if found.engine_s > max_s:
                found.notes.append(f"stopped after {max_s:g} engine seconds (--max-seconds): the bracket is wider than"
                                   " it would be")
                break
            probe = _probe(found, kind, level, guess, asked, stack, take, seed, timeout_s)
            if probe.fatal and not unsure:
                unsure.append(probe)  # something else may have taken the processor: once more
                continue
            if probe.fatal:
                found.notes.append(f"stopped at {level:g}: {', '.join(probe.fatal)}: what the engine can do beyond is"
                                   " hidden by it")
                break
            found.probes.append(probe)
            unsure.clear()
        found.capacities.append(capacity.found(kind, found.probes, guess))
    found.wall_s = time.monotonic() - start_s
    return found


def _first_rate(found: Found, kind: Kind) -> float | None:
    """Where a rate is looked for first: what the largest concurrency gave, less what chance arrivals take."""
    best = [p for p in found.probes if p.kind == "concurrency" and p.keeps and p.requests_per_second]
    if kind == "concurrency" or not best:
        return None
    top = max(best, key=lambda p: p.level)
    return top.requests_per_second * (1 - 1 / (1 + math.sqrt(top.level)))


def _probe(found: Found, kind: Kind, level: float, guess: float | None, asked: Workload, stack: Stack | None,
           take: Take, seed: int, timeout_s: float) -> Probe:
    limits = found.limits
    lasts_s = max((p.e2e_ms_mean or 0.0 for p in found.probes if p.keeps), default=0.0) / 1e3
    said = " ".join(f"{one.metric}<={one.at_most:g}" for one in limits)
    load = _load(kind, level, limits, lasts_s, timeout_s, simulated.tells(stack, limits)).model_copy(
        update={"limits": said})
    quick_s = OPEN_E2E * lasts_s if guess is None or level < FAR_BELOW * guess else math.inf
    if guess is None:
        quick_s = max(quick_s, _queue_shows_s(limits))
    if kind == "request_rate":
        seed = _typical(asked, load, stack, limits, seed)

    def judge(now: Now) -> Say:
        # An overloaded closed loop also tells how fast the engine can be: that is worth two answers' time.
        wait_s, clear_s = (2.2 * lasts_s + 0.1, 0.0) if kind == "concurrency" else (0.0, quick_s)
        return probing.decide(now.requests, now.in_flight, now.now_ns, limits, round(wait_s * 1e9),
                              clear_s * 1e9, worth=1.0 if kind == "concurrency" else BURST_WORTH)
    got = take(load, seed, judge)
    probe = probing.probe(kind, level, got.requests, limits, got.summary.metrics, got.seconds,
                          worth(kind, stack, limits), hopeless=got.hopeless, reused=got.reused,
                          trial_id=got.trial_id)
    # What keeps the limits although the load generator was slow would keep them the better without that.
    return probe if probe.keeps else probe.model_copy(update={"fatal": doubted(got.verdicts)})


def worth(kind: Kind, stack: Stack | None, limits: tuple[Limit, ...]) -> float:
    """How many independent requests one of a probe is worth, at the most. stack: what its schedule was picked by."""
    if kind == "concurrency":
        return 1.0
    if simulated.queues(stack, limits):
        return QUEUE_WORTH
    return SPEED_WORTH if simulated.tells(stack, limits) else CHANCE_WORTH


def doubted(verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """Names of the verdicts that say that a probe shows something else than what the engine can do."""
    return tuple(v.name for v in verdicts if v.severity == "fatal" and v.name in ("client_bound", "engine_died"))


def _load(kind: Kind, level: float, limits: tuple[Limit, ...], lasts_s: float, timeout_s: float, known: bool) -> Load:
    """As many requests as tell a percentile near its limit; fewer are sent where that is far. known: what queues is,
    by a simulation; else an open loop lasts until a slight overload would be seen."""
    strictest = max((q for one in limits if (q := one.quantile)), default=0.5)
    needed = round(REQUESTS_ABOVE / (1 - strictest))
    if kind == "concurrency":
        return Load(concurrency=round(level), requests=max(needed, ROUNDS * round(level)), timeout_s=timeout_s)
    long = round(level * 2 * OPEN_E2E * max(lasts_s, 0.2))
    requests = min(2 * needed, max(min(needed, OPEN_REQUESTS), long))
    if not known:
        requests = min(4 * needed, max(requests, round(level * _queue_shows_s(limits))))
    return Load(request_rate=level, requests=requests, timeout_s=timeout_s)


def _queue_shows_s(limits: tuple[Limit, ...]) -> float:
    """How long a slight overload takes to break the limits on waiting."""
    return max((one.at_most / 1e3 for one in limits if one.latency.startswith(("ttft", "e2e"))), default=0.0) / OVERLOAD


def _typical(asked: Workload, load: Load, stack: Stack | None, limits: tuple[Limit, ...], seed: int) -> int:
    """Of several arrival schedules the one whose simulated outcome is nearest the long run's, so that a short probe is
    not decided by the luck of its arrivals; without a simulation, the one with the most exact rate."""
    rate = load.request_rate or 1.0
    aim = 0.0, 0.0
    plans = {s: schedule.plan(asked, load, s).requests.filter(pl.col("offset_ns").is_not_null())
             for s in range(seed * SCHEDULES, (seed + 1) * SCHEDULES)}
    known = stack if simulated.tells(stack, limits) else None
    if known:
        sample = schedule.lengths(asked.output_tokens, asked.output_scale, 2000, schedule.generator("capacity", seed))
        aim = simulated.predicted(known, "request_rate", rate, sample.tolist(), limits)

    def off(requests: pl.DataFrame) -> float:
        measured = requests.filter(pl.col("phase") != "tail")
        offsets_s = measured["offset_ns"].to_numpy() / 1e9
        real = (len(offsets_s) - 1) / max(1e-9, offsets_s[-1] - offsets_s[0])
        if not known:
            return float(abs(np.log(real / rate)))
        outputs = measured["output_tokens_planned"].to_numpy()
        first, whole = queueing.open_loop(known, offsets_s.tolist(), outputs.tolist())
        count = (measured["phase"] == "measured").to_numpy()
        said = simulated.outcome(first[count], whole[count], outputs[count], limits)
        apart = abs(said[0] - aim[0]) + (abs(said[1] - aim[1]) if simulated.queues(known, limits) else 0.0)
        return float(apart + 5 * abs(np.log(real / rate)))
    return min(plans, key=lambda s: off(plans[s]))
