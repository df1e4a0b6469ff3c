"""Does a rerun cry wolf, and is a slower engine found? A real llama-server, measured again and again.

    python -m bench.regressions [--reruns 10] [--slowdown 0.1] [--home FOLDER]

The same six points (a synthetic model of 15 M parameters, two batchings, three loads) are measured, then as often again
with nothing changed, then once more while the server is stopped for that share of the time, a few milliseconds at a
time (SIGSTOP and SIGCONT): a synthetic slowdown. Each time what `dyno regressions` would say is printed. About 30 s an
evaluation on two cores, on a machine that does nothing else. The marks: no rerun is told, the slowdown is.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

from engines._hardware import host_info
from flows import preflight
from flows.changes import look
from flows.measure import measure_setup
from models import experiment as experiments
from models.paired import FIGURES, Timed
from models.regression import Compared, compare
from warehouse import writer

PERIOD_S = 0.02
ASKED = {"name": "again", "models": ["synthetic-llama-15m"], "engines": [{"engine": "llama_cpp",
         "variant": "llama-server"}], "quantizations": ["Q4_K_M"], "quality": False,
         "batching": [{"max_sequences": 1, "threads": 1}, {"max_sequences": 4, "threads": 1}],
         "workloads": [{"name": "chat", "scale": {"input": 0.2, "output": 0.2}}],
         "load": {"concurrency": [1, 2, 4], "requests": 40}}


def evaluate(home: Path, slowdown: float = 0.0) -> Compared:
    """Measures all points, however often they were before, and compares them with the last time."""
    expansion = preflight.plan(experiments.parse(ASKED, "bench"), "bench")
    with slowed(slowdown) if slowdown else contextlib.nullcontext():
        for setup, trials in expansion.by_setup():
            measure_setup(setup, trials, home, host_info())
    writer.ingest(home)
    writer.publish(home)
    return look(home, [trial.trial_id for trial in expansion.trials])


@contextlib.contextmanager
def slowed(share: float) -> Iterator[None]:
    """Stops every llama-server below this process for that share of the time."""
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            servers = [p.pid for p in psutil.Process().children(recursive=True) if _is_server(p)]
            until = time.monotonic() + 1
            while time.monotonic() < until and not ended.is_set():
                _stop(servers, share * PERIOD_S)
                time.sleep((1 - share) * PERIOD_S)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _is_server(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.name() == "llama-server"
    return False


def _stop(pids: list[int], seconds: float) -> None:
    for sign in (signal.SIGSTOP, signal.SIGCONT):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
        time.sleep(seconds if sign == signal.SIGSTOP else 0)


def simulated(histories: int) -> None:
    """Prints how often nothing was told as something, and a tenth was found."""
    print(f"{'noise %':>8}{'false alarms':>14}{'of looks':>10}{'in histories':>14}{'found':>7}{'with no history':>17}")
    for noise in (0.0, 0.01, 0.02, 0.03):
        alarms, spoilt, found, at_once = 0, 0, 0, 0
        for seed in range(histories):
            rng = np.random.default_rng(seed)
            runs, before = _made(rng, 0, noise), alarms
            first, slower = list(runs), _made(rng, 11, noise, 1.1)
            for day in range(1, 11):
                runs += _made(rng, day, noise)
                alarms += bool(_told(runs))
            spoilt += alarms > before
            found += "slower" in _told(runs + slower)
            at_once += "slower" in _told(first + slower)
        print(f"{100 * noise:>8g}{alarms:>14}{10 * histories:>10}{spoilt:>14}{found:>7}{at_once:>17}", flush=True)


def _told(runs: list[Timed]) -> set[str]:
    return {one.verdict for one in Compared(at="", comparisons=tuple(compare(runs))).changed}


def _made(rng: np.random.Generator, day: int, noise: float, factor: float = 1.0) -> list[Timed]:
    """One evaluation; the same requests every time. What takes another time is of another version."""
    factor *= float(np.exp(noise * rng.standard_normal()))
    version = "1" if day <= 10 else "2"
    long = np.geomspace(1, 10, 40)[np.random.default_rng(1).permutation(40)]
    return [Timed(series=f"{i}", trial_id=f"{i} {version}", launch=f"{day}", version=version, content="",
                  engine="made up", started_at=dt.datetime(2026, 1, 1) + dt.timedelta(days=day), model="m",
                  hardware="h", setup=f"{i}", workload="w", load="l", trusted=True, numbers=np.arange(40),
                  times={name: factor * long * np.exp(0.1 * rng.standard_normal(40)) for name in FIGURES})
            for i in range(6)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reruns", type=int, default=10)
    parser.add_argument("--slowdown", type=float, default=0.1)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--simulated", type=int, metavar="HISTORIES")
    asked = parser.parse_args()
    if asked.simulated:
        simulated(asked.simulated)
        return
    home = asked.home or Path(tempfile.mkdtemp(prefix="dyno-again-"))
    wrong = compared = 0
    for number in range(asked.reruns + 2):
        last = number > asked.reruns
        found = evaluate(home, asked.slowdown if last else 0.0)
        told = [one for one in found.changed if one.verdict == "slower" or not last]
        compared += bool(found.comparisons)
        wrong += last != bool(told) if found.comparisons else 0
        name = "first" if not number else f"slowed by {100 * asked.slowdown:g} %" if last else f"rerun {number}"
        means = "  ".join(f"{one.figure.split('_')[0]} {one.percent:+.1f} % (by chance {one.chance:.2g}, noise "
                          f"{one.noise_percent:.1f} %)" for one in found.comparisons if one.setup is None)
        if number and not means:
            means = "nothing to compare: something disturbed every point; leave the machine alone"
        print(f"{name:<16}{'told' if told else 'silent':<8}{means}", flush=True)
    print(f"{wrong} of {compared} comparisons wrong; {asked.reruns + 1 - compared} evaluations had nothing to compare")


if __name__ == "__main__":
    main()
