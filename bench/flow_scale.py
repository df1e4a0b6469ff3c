"""What dyno itself takes for a trial: python -m bench.flow_scale [--trials N] [--json]

A real evaluation, through Prefect and all, of an engine that takes no time: the server of `_truth.c` answers a request
of one token at once, so that what is left is dyno's own (schedule, driver, verdicts, bundle, warehouse, Prefect). Two
figures have marks: seconds a trial, all of them counted, and whether the last tenth of the trials took longer than the
first. Beside it, `dyno evaluate --dry-run` of a matrix of a million combinations: answered or refused in 5 s.
10 000 trials take about twenty minutes on two cores.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

from bench._dyno import PROGRAM
from bench._marks import Line, at_most, table
from bench._truth import Truth
from engines._process import supervise
from models.errors import DynoError

POINTS = 100
"""Of one launch: workload, load and repeat."""


def experiment(url: str, trials: int) -> dict[str, Any]:
    """So many trials on the server, `POINTS` a setup."""
    slots = range(1, trials // POINTS + 1)
    return {"name": "scale", "models": [{"name": "truth", "source": "served"}], "quality": False, "limits":
            "ttft_ms_p95<=500", "engines": [{"engine": "llama_cpp", "runtime": "endpoint", "url": url}],
            "batching": [{"max_sequences": n} for n in slots],
            "workloads": [{"name": "chat", "scale": {"input": 0.05, "output": 0.01}}],
            "load": {"concurrency": list(range(1, 11)), "requests": 10, "warmup_requests": 0}, "repeats": 10}


def million() -> dict[str, Any]:
    """A matrix of 1 000 000 combinations: 10 models × 10 formats × 10 batchings × 10 workloads × 100 levels."""
    return {**experiment("http://127.0.0.1:1", POINTS), "name": "million",
            "models": [{"name": f"m{i}", "source": "served"} for i in range(10)],
            "quantizations": ["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q4_0"],
            "batching": [{"max_sequences": n} for n in range(1, 11)],
            "workloads": [{"name": "chat", "scale": {"output": n / 10}} for n in range(1, 11)],
            "load": {"concurrency": list(range(1, 101)), "requests": 4}, "repeats": 1}


def run(trials: int, folder: Path) -> list[Line]:
    """The evaluation, as a command; its marks."""
    home, file = folder / "home", folder / "scale.yaml"
    with Truth(ttft_ms=0, itl_ms=0) as server:
        file.write_text(yaml.safe_dump(experiment(server.url, trials)))
        started, peak = time.monotonic(), 0
        with supervise([str(PROGRAM), "evaluate", str(file), "--json"], {"DYNO_HOME": str(home)},
                       folder / "log") as process:
            watched = psutil.Process(process.pid)
            while not process.wait(1):
                peak = max(peak, _memory(watched))
        wall_s = time.monotonic() - started
    done = sorted(p.stat().st_mtime for p in (home / "bundles").glob("*/measurement.json"))
    if process.exit_code or len(done) != trials:
        raise DynoError(f"{len(done)} of {trials} trials; exit code {process.exit_code}:\n"
                        + (folder / "log").read_text()[-2000:])
    tenths = [(b - a) / (trials / 10) for a, b in itertools.pairwise(done[:: trials // 10] + done[-1:])]
    lines = [at_most(f"{trials} trials", "seconds a trial, all counted", wall_s / trials, 0.5),
             at_most(f"{trials} trials", "last tenth ÷ first tenth", tenths[-1] / tenths[0], 1.25)]
    lines += [Line(f"{trials} trials", f"seconds a trial, tenth {i}", s) for i, s in enumerate(tenths, 1)]
    return [*lines, Line(f"{trials} trials", "after the last trial, s", wall_s - (done[-1] - done[0])),
            Line(f"{trials} trials", "memory of dyno, MiB", peak / 2**20)]


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def dry_run(folder: Path) -> list[Line]:
    """`--dry-run` of a million combinations."""
    file = folder / "million.yaml"
    file.write_text(yaml.safe_dump(million()))
    started = time.monotonic()
    done = subprocess.run([PROGRAM, "evaluate", str(file), "--dry-run"], capture_output=True, text=True, check=False,
                          env={**os.environ, "DYNO_HOME": str(folder / "home")})
    wall_s = time.monotonic() - started
    said = (done.stdout + done.stderr).strip().splitlines()[-1]
    line = at_most("1 000 000 combinations", f"--dry-run, s (exit code {done.returncode})", wall_s, 5.0)
    print(said, file=sys.stderr)
    return [line]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--trials", type=int, default=10_000, help=f"a multiple of {POINTS}, at least 1000")
    options.add_argument("--json", action="store_true")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = [*dry_run(Path(folder)), *run(asked.trials, Path(folder))]
    print(json.dumps([line.flat() for line in lines], indent=1) if asked.json else table(lines))
    sys.exit(any(line.met is False for line in lines))


if __name__ == "__main__":
    main()
