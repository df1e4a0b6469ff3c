"""What `dyno up` and `dyno worker` own: processes that live exactly as long as the command."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from sys import executable

import httpx

from engines._process import Process, supervise
from flows.automations import HEARTBEAT_S
from models.errors import DynoError

POLL_S = 5
"""Seconds between a worker's questions for work."""
GRACE_S = 15.0
"""What a run has to stop its engine and to tell Prefect's server that it did not end by itself."""


def api(server: str) -> str:
    """The API's URL of a server given by its address, as people know it: `http://host:4200`."""
    address = server.rstrip("/")
    address = address if "://" in address else f"http://{address}"
    return address if address.endswith("/api") else f"{address}/api"


@contextmanager
def working(url: str, pools: Sequence[str], home: Path) -> Iterator[Process]:
    """A worker of these pools for as long as the `with`; afterwards neither it nor a run of its is there."""
    env = {"PREFECT_API_URL": url, "DYNO_HOME": str(home), "DO_NOT_TRACK": "1",
           "PREFECT_WORKER_QUERY_SECONDS": str(POLL_S), "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S)}
    with running(f"worker-{'-'.join(pools)}", [executable, "-m", "flows.worker", *pools], env, home) as worker:
        yield worker


@contextmanager
def running(name: str, argv: Sequence[str], env: Mapping[str, str], home: Path) -> Iterator[Process]:
    """A program for as long as the `with`, its log in the home's."""
    with supervise(argv, env, home / "logs" / f"{name}.log", grace_s=GRACE_S) as process:
        yield process


@contextmanager
def showing(argv: Sequence[str], env: Mapping[str, str], home: Path, url: str, within_s: float = 60.0,
            ) -> Iterator[Process]:
    """The explorer, once it answers. Raises DynoError with its log's end when it does not."""
    with running("explorer", argv, env, home) as explorer:
        deadline = time.monotonic() + within_s
        while not _answers(f"{url}/_stcore/health"):
            if not explorer.alive() or time.monotonic() > deadline:
                raise DynoError(f"the explorer did not start; its log ends:\n{explorer.log_tail()}")
            time.sleep(0.2)
        yield explorer


def stay(children: Mapping[str, Process]) -> None:
    """Returns never; raises DynoError naming the first of these that ended, with its log's end."""
    while True:
        for name, child in children.items():
            if not child.alive():
                raise DynoError(f"{name} ended (exit code {child.exit_code}); its log, {child.log_path}, ends:\n"
                                f"{child.log_tail()}")
        time.sleep(1.0)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
