"""The ground-truth server of `_truth.c`, compiled once and kept in dyno's cache."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any, Self

from models.errors import MissingTool
from models.paths import cache

SOURCE = Path(__file__).with_name("_truth.c")


def program() -> Path:
    """Returns the compiled server. Raises MissingTool without a C compiler."""
    path = cache() / "truth" / hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    if not path.exists():
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise MissingTool("the ground-truth server needs a C compiler: install gcc")
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_suffix(f".{id(path)}")
        subprocess.run([compiler, "-O2", "-o", made, SOURCE], check=True)
        made.rename(path)  # whole or not there, whoever else compiles it
    return path


class Truth:
    """`with Truth(ttft_ms=20, itl_ms=10) as server`: serves OpenAI completions and chat on `server.url`.

    slots: sequences that run together, 0 for any number; slope_ms is added to the time between tokens for each running
    sequence. fault (reset, close, unfinished, error, busy, fail, stall) befalls every fault_every-th request.
    """

    def __init__(self, ttft_ms: float = 20.0, itl_ms: float = 10.0, slots: int = 0, slope_ms: float = 0.0,
                 fault: str = "none", fault_every: int = 0, cpu: int | None = None) -> None:
        self._argv = [str(program()), *(str(round(ms * 1000)) for ms in (ttft_ms, itl_ms)), str(slots),
                      str(round(slope_ms * 1000)), fault, str(fault_every)]
        if cpu is not None and (taskset := shutil.which("taskset")):
            self._argv = [taskset, "--cpu-list", str(cpu), *self._argv]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._argv, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def stats(self) -> dict[str, Any]:
        """What it counted since the start or the last reset: requests, tokens, its own lateness in µs, connections,
        the instant of the first request (`first_request_ns`, CLOCK_MONOTONIC)."""
        with urllib.request.urlopen(f"{self.url}/stats", timeout=30) as answer:
            return dict(json.load(answer))

    def reset(self) -> None:
        """Forgets what was counted."""
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/reset", method="POST"), timeout=30).close()
