"""The Prefect API that runs are recorded in: the one configured, or a local one owned for as long as the work lasts.

Prefect's own temporary server outlives a parent that was killed; this one is owned like an engine and does not.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from filelock import FileLock, Timeout

from engines._process import supervise
from models.errors import DynoError, UserError
from models.progress import Progress, silent

START_S = 120.0
_UNUSED = ("CANCELLATION_CLEANUP", "CLEANUP_RECONCILER", "DB_VACUUM", "FOREMAN", "PAUSE_EXPIRATIONS", "REPOSSESSOR",
           "TRIGGERS")
"""Services for schedules, workers and automations, which would only wake up between measurements. Events and task runs
are recorded by services, too, and those stay."""


@contextmanager
def recorded(home: Path, progress: Progress = silent) -> Iterator[str]:
    """Yields the URL of a Prefect API that every flow run inside records to.

    `PREFECT_API_URL` (environment or profile) wins; otherwise a server on loopback keeps its database under `home`.
    Raises UserError when another evaluation is using this home: two at once would spoil each other's figures.
    """
    home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home / "evaluate.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"another evaluation is running on {home}; wait for it, or set DYNO_HOME elsewhere") from None
    try:
        from prefect.settings import PREFECT_API_URL, temporary_settings

        configured = PREFECT_API_URL.value()
        if configured:
            yield str(configured)
            return
        with _local(home, progress) as url, temporary_settings({PREFECT_API_URL: url}):
            yield url
    finally:
        lock.release()


@contextmanager
def _local(home: Path, progress: Progress) -> Iterator[str]:
    folder = home / "prefect"
    folder.mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder / 'prefect.db'}",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1",
        **{f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in _UNUSED},
    }
    argv = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port),
            "--no-scheduler", "--no-late-runs", "--no-ui", "--log-level", "WARNING"]
    url = f"http://127.0.0.1:{port}/api"
    with supervise(argv, {**os.environ, **env}, folder / "server.log") as server:
        deadline = time.monotonic() + START_S
        while not _answers(url):
            progress("Prefect: starting")
            if not server.alive() or time.monotonic() > deadline:
                raise DynoError(f"Prefect's server did not start; its log ends:\n{server.log_tail()}")
            time.sleep(0.2)
        try:
            yield url
        finally:
            _flush()


def _flush() -> None:
    """Logs and events are sent in the background: they must be out before their server is stopped."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()
    EventsWorker.drain_all(timeout=5)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
