"""Runs one load generator as a process tree of its own and finds out what it cost."""

from __future__ import annotations

import dataclasses
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench._peers_tools import Ask, Figures, Tool
from engines._packages import environment, installed_version
from engines._process import supervise
from models.errors import DynoError, EngineError
from models.paths import cache
from models.progress import Progress


class ToolFailed(DynoError):
    """A tool did not do what it was asked; one line that says why and where its log is."""


@dataclass(frozen=True)
class Ready:
    """A tool that can be run."""

    tool: Tool
    python: Path
    version: str


@dataclass(frozen=True)
class Ran:
    """One run. CPU is user and system time of every process it started; started_ns is CLOCK_MONOTONIC."""

    figures: Figures
    command: str
    started_ns: int
    wall_s: float
    cpu_s: float


def ready(tool: Tool, progress: Progress) -> Ready:
    """Returns the tool, installed now if need be. Raises ToolFailed."""
    try:
        python = environment(tool.package, progress) if tool.package else Path(sys.executable)
        return Ready(tool, python, installed_version(python, tool.package.distribution if tool.package else "llm-dyno"))
    except EngineError as error:
        raise ToolFailed(f"{error.reason}; log: {error.log_path}: {_last_words(error.log_tail)}") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolFailed(f"its environment in {cache()} does not work, remove it: {error}") from error


def run(one: Ready, ask: Ask, timeout_s: float) -> Ran:
    """Runs it to its end; nothing of it is left afterwards. Raises ToolFailed.

    The supervising process waits for everything below it, also for what detached itself, so that the kernel's sum for
    this process's children holds the whole tree (and the supervisor's own 20 ms).
    """
    log = cache() / "logs" / f"peer-run-{one.tool.name}-{ask.streams}.log"
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="dyno-peers-") as folder:
        ask = dataclasses.replace(ask, out=Path(folder))
        argv = one.tool.command(one.python, ask)
        cpu_before, started_ns = _children_cpu_s(), time.monotonic_ns()
        with supervise(argv, one.tool.environment, log, ask.out) as process:
            ended = process.wait(timeout_s)
            wall_s = (time.monotonic_ns() - started_ns) / 1e9
        cpu_s = _children_cpu_s() - cpu_before
        if not ended:
            raise ToolFailed(f"still running after {timeout_s:.0f} s; log: {log}")
        try:
            figures = one.tool.read(ask)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ToolFailed(f"exit code {process.exit_code}, no report to read ({type(error).__name__}); log: {log}, "
                             f"which ends: {_last_words(process.log_tail())}") from error
    if figures.requests_ok < ask.requests:
        short = f"{figures.requests_ok} of {ask.requests} requests succeeded; log: {log}"
        if not figures.requests_ok:
            raise ToolFailed(f"exit code {process.exit_code}, {short}")
        figures = figures._replace(note="; ".join(filter(None, (short, figures.note))))
    return Ran(figures, shlex.join(argv), started_ns, wall_s, cpu_s)


def _children_cpu_s() -> float:
    """User and system seconds of the children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _last_words(log: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in log.splitlines() if any(c.isalnum() for c in line)]
    return lines[-1][:200] if lines else "it said nothing"
