"""The command `dyno` as a process of its own: what it printed, what it wrote, when it started and what it cost."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from models.errors import DynoError

PROGRAM = Path(sys.executable).with_name("dyno")


@dataclass(frozen=True)
class Ran:
    """One command. cpu_s: user and system time of all its processes, start-up included; started_ns: CLOCK_MONOTONIC."""

    said: dict[str, Any]
    started_ns: int
    wall_s: float
    cpu_s: float
    out: Path | None = None

    def requests(self) -> pl.DataFrame:
        """The requests it wrote, as models.frames.REQUESTS."""
        assert self.out
        return pl.read_parquet(self.out / "requests.parquet")

    @property
    def verdicts(self) -> list[str]:
        """Names of its verdicts."""
        return [one["name"] for one in self.said["verdicts"]]


def run(command: str, options: dict[str, object], out: Path | None = None) -> Ran:
    """Runs `dyno COMMAND --json` with those options (`_` for `-`). Raises DynoError with its last words if it fails."""
    argv = [str(PROGRAM), command, "--json", *([] if out is None else ["--out", str(out)])]
    for name, value in options.items():
        argv += [f"--{name.replace('_', '-')}", str(value)]
    cpu_before, started_ns = _children_cpu_s(), time.monotonic_ns()
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    wall_s, cpu_s = (time.monotonic_ns() - started_ns) / 1e9, _children_cpu_s() - cpu_before
    if done.returncode:
        raise DynoError(f"{' '.join(argv)}: exit code {done.returncode}: {done.stderr.strip()[-600:]}")
    return Ran(json.loads(done.stdout), started_ns, wall_s, cpu_s, out)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
