"""The event simulation beside a real llama-server under Poisson load: python -m bench.simulation [--day] [--json]

Launches llama-server, measures closed loops of one user up to as many as it has slots, fits step times on these alone,
and then measures Poisson arrivals at two shares of what the fullest closed loop gave. Each is simulated with the very
arrivals and lengths that were planned (what the simulation itself is off by), and as a planner would, with others drawn
over an hour (that, and what is chance in a run of some minutes). And it times a simulated day at 10 requests a second.

    python -m bench.simulation               # about three minutes on two cores
    python -m bench.simulation --day         # the simulated day alone
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from bench._marks import Line, at_most, near, table
from engines import launch
from engines._checkpoints import resolve_model
from engines._hardware import detect, host_info
from engines.launch import Engine
from flows import simulate, step_times
from flows.measure import measure_trial
from flows.step_times import Point
from models.errors import DynoError
from models.planning.simulation import Scheduling
from models.planning.step_fit import Fitted
from models.planning.steps import StepTimes
from models.specs import Batching, EngineSpec, Load, Setup, Trial, Workload
from warehouse import bundles
from workloads import catalogue, prompts

DAY_S, DAY_RATE = 86_400.0, 10.0
DAY_MARK_S, TTFT_PERCENT, THROUGHPUT_PERCENT = 10.0, 20.0, 5.0
DAY_TIMES = StepTimes(base_s=0.010, per_sequence_s=1e-4, per_prompt_s=0.001, per_prefill_token_s=2e-5,
                      per_kv_token_s=2e-8, overhead_s=0.001)
"""About what an 8B model takes on one large GPU."""
SHARES, USERS = (0.5, 0.75), (0.375, 0.5, 0.75, 1.0)
"""Of what the fullest closed loop gave; of the slots."""
HOUR_S = 3600.0


def day_s(name: str) -> tuple[float, dict[str, float]]:
    """Seconds that a day at 10 requests a second takes to draw, simulate and sum up, and what it says."""
    started = time.perf_counter()
    question = simulate.Question(workload(name), DAY_S, DAY_RATE)
    answer = simulate.given(DAY_TIMES, Scheduling(slots=128, step_tokens=8192, kv_tokens=500_000, kv_full="preempts"),
                            question)
    return time.perf_counter() - started, answer.metrics


def workload(name: str, scale: object = None) -> Workload:
    """`fixed` is 500 tokens in and 200 out."""
    if name == "fixed":
        return catalogue.load({"name": "fixed", "input_tokens": 500, "output_tokens": 200})
    return catalogue.load({"name": name, "scale": scale})


class Server:
    """A llama-server that runs, and the points measured of it."""

    def __init__(self, engine: Engine, setup: Setup, work: Workload, home: Path, log: Path) -> None:
        self._engine, self._setup, self._work, self._home, self._log = engine, setup, work, home, log
        self._words, self._host = prompts.learn(engine.endpoint), host_info()

    def point(self, load: Load) -> Point:
        trial = Trial(setup=self._setup, workload=self._work, load=load)
        told(f"measuring {load.label}, {load.requests} requests")
        measurement = measure_trial(trial, self._engine, self._words, self._home, self._host, self._log,
                                    lambda step, done=None, detail="": None)
        return Point(measurement, bundles.read(bundles.folder(self._home) / trial.trial_id).requests)


def against_llama_server(options: argparse.Namespace) -> tuple[list[Line], Fitted]:
    """Lines for every Poisson load, and the fit that they rest on."""
    setup = Setup(model=resolve_model(options.model), hardware=detect("cpu"), engine=EngineSpec(
        engine="llama_cpp", variant="llama-server", quantization="Q8_0",
        batching=Batching(max_sequences=options.slots, context_tokens=2048)))
    work = workload(options.workload, {"input": options.input_scale, "output": options.output_scale})
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "engine.log"
        with launch.launch(setup, log, lambda step, done=None, detail="": told(step), timeout_s=120) as engine:
            server = Server(engine, setup, work, Path(folder), log)
            users = sorted({max(1, round(options.slots * share)) for share in USERS} | {1, 2})
            closed = [server.point(Load(concurrency=n, requests=options.requests)) for n in users]
            found = step_times.fitted(closed)
            most = closed[-1].measurement.summary.metrics["requests_per_second"]
            opened = [server.point(Load(request_rate=round(share * most, 3), requests=options.requests * 3))
                      for share in SHARES]
    return [line for share, one in zip(SHARES, opened, strict=True) for line in lines(f"{share:.0%}", one, found)
            ], found


def lines(share: str, point: Point, found: Fitted) -> list[Line]:
    """One Poisson load: simulated (`measured` of a line) beside measured (its `truth`)."""
    trial, metrics = point.measurement.trial, point.measurement.summary.metrics
    replayed, trust = step_times.replayed(point, found), point.measurement.trust
    rate = trial.load.request_rate or 0.0
    planned = simulate.given(found.times, step_times.scheduling(point.measurement),
                             simulate.Question(trial.workload, HOUR_S, rate)).metrics
    result = []
    for how, said in ((f"{share}, {rate:.2f}/s", replayed), (f"{share}, other arrivals", planned)):
        for row in step_times.compared(said, metrics):
            name, value, truth = str(row["metric"]), float(row["simulated"]), float(row["measured"])
            percent = TTFT_PERCENT if "ttft" in name else THROUGHPUT_PERCENT if "second" in name else None
            line = (near(how, name, value, truth, percent) if percent and said is replayed else
                    Line(how, name, value, truth, relative=True))
            result.append(dataclasses.replace(line, note="" if trust == "ok" else f"measured: {trust}"))
    return result


def told(text: str) -> None:
    """Progress goes to standard error."""
    print(text, file=sys.stderr, flush=True)


def main(argv: list[str]) -> int:
    """Returns 1 when a mark is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulation", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--day", action="store_true", help="the simulated day alone")
    parser.add_argument("--model", default="synthetic-llama-15m", help="[default: synthetic-llama-15m]")
    parser.add_argument("--slots", type=int, default=8, help="of llama-server [default: 8]")
    parser.add_argument("--workload", default="chat", help="[default: chat]")
    parser.add_argument("--input-scale", type=float, default=0.1, help="[default: 0.1]")
    parser.add_argument("--output-scale", type=float, default=0.2, help="[default: 0.2]")
    parser.add_argument("--requests", type=int, default=100, help="of each closed loop, a third of a Poisson load")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    before = os.getloadavg()[0]
    found: list[Line] = []
    fit: Fitted | None = None
    if not options.day:
        found, fit = against_llama_server(options)
    for name in ("fixed", "chat"):
        told(f"simulating a day of {name}")
        seconds, said = day_s(name)
        found.append(at_most(f"a day of {name}, {said['requests']:,.0f} requests".replace(",", " "), "seconds", seconds,
                             DAY_MARK_S))
    after = os.getloadavg()[0]
    if options.json:
        print(json.dumps({"load_average_before": before, "load_average_after": after,
                          "fit": fit.model_dump() if fit else None, "rows": [one.flat() for one in found]}, indent=1))
    else:
        print(table(found))
        if fit:
            print(f"step times: {fit.times}\nfitted on {', '.join(fit.loads)}: {100 * fit.error:.1f} % off,"
                  f" {100 * fit.error_left_out:.1f} % on requests left out")
        print(f"load average: {before:.2f} before, {after:.2f} after, on {os.cpu_count()} cores")
    return int(any(one.met is False for one in found))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except DynoError as error:
        sys.exit(f"bench.simulation: {error}")
