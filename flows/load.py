"""`dyno load`: the instrument pointed at any URL."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import orjson
import polars as pl
from pydantic import ValidationError

from flows import point
from flows.load_hosts import gathered
from flows.point import Point, Target
from models.errors import UserError
from models.frames import OUTCOMES
from models.paths import home
from models.progress import Progress
from models.specs import Lengths, Load, Workload
from workloads import catalogue, control, prompts, serving

MANY = 20_000
"""Requests planned when only a duration is given."""
WARMUP_S = 10.0
"""More than an open loop's warm-up takes."""
ARRIVALS = ("poisson", "constant", "gamma", "trace")


@dataclass(frozen=True)
class Loaded:
    """What a load run gave: the point, and the client's own cost from the first request to the file."""

    target: Target
    workload: Workload
    load: Load
    point: Point
    cpu_s: float

    def flat(self) -> dict[str, object]:
        """One flat object for --json: counts, every metric, its interval, verdicts.

        Counts are of all requests that were to be measured, latencies of those after the warm-up.
        """
        summary, drive = self.point.summary, self.point.drive
        sent = drive.requests.filter(pl.col("phase") == "measured")["outcome"].value_counts()
        outcomes = {f"requests_{name}": 0 for name in OUTCOMES} | {f"requests_{k}": int(n) for k, n in sent.iter_rows()}
        ok = outcomes["requests_ok"]
        return {"url": self.target.endpoint.url, "model": self.target.endpoint.model, "workload": self.workload.label,
                "load": self.load.label, **outcomes, "requests_ok": ok,
                "requests_failed": sum(outcomes.values()) - ok, **summary.metrics,
                "intervals": summary.intervals, "window_s": summary.window_s, "duration_s": drive.duration_s,
                "prompt_lengths": self.target.words.source, "processes": drive.processes,
                "load_hosts": [one.model_dump() for one in drive.hosts],
                "client_cpu_seconds": self.cpu_s, "client_cpu_seconds_sending": drive.client_cpu_s,
                "client_late_share": drive.late_share, "client_waited_seconds": drive.waited_s,
                "requests_found_warming_up": self.point.warmup.requests if self.point.warmup else 0,
                "warmup": self.point.warmup.model_dump() if self.point.warmup else None,
                "stopped_early": drive.judged == "enough", "verdicts": [v.model_dump() for v in self.point.verdicts]}


def load_url(options: dict[str, Any], progress: Progress) -> Loaded:
    """Drives a URL as the options of `dyno load` say. Raises UserError or EndpointError."""
    asked = workload(options)
    load = _load(options, asked)
    out: Path | None = options["out"]
    if out and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: there is something already; nothing was sent")
    if (options["processes"] > 1 or options["hosts"]) and load.precision:
        raise UserError("--precision needs one process: leave --processes and --hosts out")
    if options["processes"] > 1 and options["hosts"]:
        raise UserError("--hosts sends from one process on each machine: leave --processes out")
    target = reach(options, asked, progress)
    with gathered(options["hosts"], home(), progress) as senders:
        got = point.take(target, asked, load, seed=options["seed"], processes=options["processes"],
                         load_hosts=senders, progress=progress, until=options["duration"])
    cpu_s = time.process_time()
    if out:
        out.mkdir(parents=True, exist_ok=True)
        got.requests.write_parquet(out / "requests.parquet")
        got.telemetry.write_parquet(out / "telemetry.parquet")
    result = Loaded(target, asked, load, got, got.cpu_s + time.process_time() - cpu_s)
    if out:
        (out / "summary.json").write_bytes(orjson.dumps(result.flat(), option=orjson.OPT_INDENT_2))
    return result


def reach(options: dict[str, Any], asked: Workload, progress: Progress) -> Target:
    """Finds out how to talk to the URL, and words for its prompts. Raises UserError or EndpointError."""
    key = os.environ.get("DYNO_API_KEY")
    progress("asking the server")
    endpoint = control.discover(options["url"], options["model"], key, asked.api)
    return Target(endpoint, prompts.learn(endpoint, asked.api, key), key, serving.pids(endpoint.url))


def workload(options: dict[str, Any]) -> Workload:
    """What the options ask for. Raises UserError naming the option."""
    if options["workload"] and options["trace"]:
        raise UserError("--trace brings its own lengths: leave --workload out")
    named = {"name": options["workload"]} if options["workload"] else {"trace": str(options["trace"])}
    if options["workload"] or options["trace"]:
        api = {"api": options["api"]} if options["api"] else {}
        return catalogue.load({**named, "scale": options["scale"], **api})
    return Workload(name=f"{options['input_tokens']} in, {options['output_tokens']} out",
                    api=options["api"] or "completions", input_tokens=Lengths(mean=options["input_tokens"]),
                    output_tokens=Lengths(mean=options["output_tokens"]))


def _load(options: dict[str, Any], asked: Workload) -> Load:
    kind, _, variation = (options["arrivals"] or ("trace" if options["trace"] else "poisson")).partition(":")
    if kind not in ARRIVALS:
        raise UserError(f"--arrivals {options['arrivals']}: write poisson, constant, trace or gamma:CV, as in gamma:2")
    rate = options["rate"]
    for name in ("arrivals", "ramp_to"):
        if options["concurrency"] and options[name]:
            raise UserError(f"--{name.replace('_', '-')} is for --rate: users of a closed loop come when they are free")
    if kind == "trace" and not asked.trace:
        raise UserError("--arrivals trace: say which with --trace FILE")
    if asked.trace and rate is None and options["concurrency"] is None:
        rate = asked.trace.request_rate
    if (options["concurrency"] is None) == (rate is None):
        raise UserError("give either --concurrency (users that wait) or --rate (requests a second)")
    try:
        burstiness = float(variation) if variation else 1.0
    except ValueError:
        raise UserError(f"--arrivals {options['arrivals']}: {variation!r} is not a number") from None
    return _checked(options, rate, kind if rate else "poisson", burstiness)


def _checked(options: dict[str, Any], rate: float | None, kind: str, burstiness: float) -> Load:
    duration = most_s = options["duration"]
    requests = options["requests"] or (MANY if duration or options["precision"] else 100)
    if duration and rate:
        mean = (rate + (options["ramp_to"] or rate)) / 2
        requests = min(requests, max(1, round(mean * duration)))  # these last as long; the warm-up comes before them
        most_s = 1.5 * duration + WARMUP_S
    try:
        return Load(concurrency=options["concurrency"], request_rate=rate, request_rate_end=options["ramp_to"],
                    arrivals=cast(Literal["poisson", "constant", "gamma", "trace"], kind), burstiness=burstiness,
                    requests=requests, timeout_s=options["timeout"], duration_s_max=most_s or 3600.0,
                    precision=options["precision"])
    except ValidationError as error:
        first = error.errors()[0]
        where = f"--{first['loc'][-1]}: " if first["loc"] else ""
        raise UserError(where + first["msg"].removeprefix("Value error, ")) from None
