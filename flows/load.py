"""`dyno load`: the instrument pointed at any URL."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import orjson
from pydantic import ValidationError

from models.errors import UserError
from models.progress import Progress
from models.records import Endpoint, Summary, Verdict
from models.specs import Lengths, Load, Workload
from models.summary import summarise
from models.verdicts import judge
from workloads import catalogue, control, driver, prompts, schedule
from workloads.telemetry import Sampler

MANY = 20_000
"""Requests planned when only a duration is given."""


@dataclass(frozen=True)
class Loaded:
    """What a load run gave: the summary, its verdicts, and the client's own cost."""

    endpoint: Endpoint
    workload: Workload
    load: Load
    summary: Summary
    verdicts: tuple[Verdict, ...]
    client_cpu_s: float
    duration_s: float

    def flat(self) -> dict[str, object]:
        """One flat object for --json: counts, every metric, verdicts."""
        outcomes = {f"requests_{k}": n for k, n in self.summary.outcomes.items()}
        return {"url": self.endpoint.url, "model": self.endpoint.model, "workload": self.workload.label,
                "load": self.load.label, **outcomes, "requests_ok": self.summary.requests_ok,
                "requests_failed": self.summary.requests_failed, **self.summary.metrics,
                "window_s": self.summary.window_s, "duration_s": self.duration_s,
                "client_cpu_seconds": self.client_cpu_s, "verdicts": [v.model_dump() for v in self.verdicts]}


def load_url(options: dict[str, Any], progress: Progress) -> Loaded:
    """Drives a URL as the options of `dyno load` say. Raises UserError or EndpointError."""
    workload, load = _workload(options), _load(options)
    out: Path | None = options["out"]
    if out and out.exists() and any(out.iterdir()):
        raise UserError(f"--out {out}: the folder is not empty; nothing was sent")
    key = os.environ.get("DYNO_API_KEY")
    progress("asking the server")
    endpoint = control.discover(options["url"], options["model"], key, workload.api)
    plan = schedule.plan(workload, load, options["seed"])
    progress(f"preparing {plan.height} prompts")
    bodies = prompts.bodies(plan, workload, endpoint, prompts.learn(endpoint, workload.api, key))
    with Sampler(list, None) as sampler:
        drive = driver.drive(plan, bodies, workload, endpoint, load, api_key=key,
                             on_progress=lambda n, of, tokens: progress("load", n / of, f"{n} sent, {tokens} tokens"))
    summary = summarise(drive.requests)
    verdicts = judge(drive.requests, sampler.frame(), summary, workload, load, drive.client_cpu_s, drive.duration_s,
                     stopped_early=drive.truncated and options["duration"] is None)
    result = Loaded(endpoint, workload, load, summary, verdicts, drive.client_cpu_s, drive.duration_s)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        drive.requests.write_parquet(out / "requests.parquet")
        (out / "summary.json").write_bytes(orjson.dumps(result.flat(), option=orjson.OPT_INDENT_2))
    return result


def _workload(options: dict[str, Any]) -> Workload:
    if options["workload"]:
        return catalogue.load({"name": options["workload"], "scale": options["scale"], "api": options["api"]})
    return Workload(name=f"{options['input_tokens']} in, {options['output_tokens']} out", api=options["api"],
                    input_tokens=Lengths(mean=options["input_tokens"]),
                    output_tokens=Lengths(mean=options["output_tokens"]))


def _load(options: dict[str, Any]) -> Load:
    kind, _, variation = options["arrivals"].partition(":")
    if kind not in {"poisson", "constant", "gamma"}:
        raise UserError(f"--arrivals {options['arrivals']}: write poisson, constant or gamma:CV, such as gamma:2")
    if (options["concurrency"] is None) == (options["rate"] is None):
        raise UserError("give either --concurrency (users that wait) or --rate (requests a second)")
    try:
        burstiness = float(variation) if variation else 1.0
    except ValueError:
        raise UserError(f"--arrivals {options['arrivals']}: {variation!r} is not a number") from None
    requests = options["requests"] or (MANY if options["duration"] else 100)
    if options["duration"] and options["rate"]:
        requests = min(requests, max(1, round(options["rate"] * options["duration"])))
    try:
        return Load(concurrency=options["concurrency"], request_rate=options["rate"], burstiness=burstiness,
                    arrivals=cast(Literal["poisson", "constant", "gamma"], kind), requests=requests,
                    timeout_s=options["timeout"], duration_s_max=options["duration"] or 3600.0)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"--{first['loc'][-1] if first['loc'] else 'load'}: {first['msg']}") from None
