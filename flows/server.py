"""The Prefect API that runs are recorded in: the one configured, that of a `dyno up` on this home, or one of our own.

Prefect's own temporary server outlives a parent that was killed; ours is owned like an engine and does not.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
from filelock import FileLock, Timeout

from engines._process import supervise
from models.errors import DynoError, UserError
from models.progress import Progress, silent

START_S = 120.0
BUSY_S = 30.0
"""Beside an engine that has all cores, a server answers late: late is not absent."""
_UNUSED = ("CANCELLATION_CLEANUP", "CLEANUP_RECONCILER", "DB_VACUUM", "FOREMAN", "PAUSE_EXPIRATIONS", "REPOSSESSOR",
           "TRIGGERS")
"""Services for schedules, workers and automations, which would only wake up between measurements. Events and task runs
are recorded by services, too, and those stay."""
_private: str | None = None
"""The URL of the server that this process owns for the length of one job, if it has one."""


@contextmanager
def recorded(home: Path, progress: Progress = silent) -> Iterator[str]:
    """Yields the URL of a Prefect API that every flow run inside records to.

    `PREFECT_API_URL` (environment or profile) wins, then the server of a `dyno up` on this home; otherwise a server on
    loopback keeps its database under `home`.
    Raises UserError when another evaluation is using this home: two at once would spoil each other's figures.
    """
    home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home / "evaluate.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"another evaluation is running on {home}; wait for it, or set DYNO_HOME elsewhere") from None
    try:
        url = shared(home)
        if url:
            with at(url):
                yield url
        else:
            with _for_this_job(home, progress) as own, at(own):
                yield own
    finally:
        lock.release()


@contextmanager
def at(url: str) -> Iterator[None]:
    """Everything of Prefect inside talks to this API."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: url}):
        yield


def shared(home: Path) -> str | None:
    """The API of a server that outlives this process: `PREFECT_API_URL`, or that of a `dyno up` on this home."""
    from prefect.settings import PREFECT_API_URL

    configured = PREFECT_API_URL.value()
    if configured and str(configured) != _private:
        return str(configured)
    try:
        url = _address(home).read_text().strip()
    except OSError:
        return None
    return url if _answers(url, BUSY_S) else None


def is_private() -> bool:
    """Whether this process owns a server for the length of the job that is under way."""
    return _private is not None


@contextmanager
def serve(home: Path, host: str, port: int, progress: Progress = silent) -> Iterator[str]:
    """Runs a whole Prefect server with its pages, schedules and automations, and yields its API's URL.

    Its database is under `home` unless `PREFECT_API_DATABASE_CONNECTION_URL` names another (PostgreSQL). Raises
    DynoError with its log's end.
    """
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104
    url, address = f"http://{shown}:{port}/api", _address(home)
    with _running(home, host, port, url, {"PREFECT_UI_API_URL": "/api", "PREFECT_SERVER_UI_API_URL": "/api"}, (),
                  progress):
        address.write_text(url)
        try:
            yield url
        finally:
            address.unlink(missing_ok=True)


def _address(home: Path) -> Path:
    return home / "prefect" / "url"


@contextmanager
def _for_this_job(home: Path, progress: Progress) -> Iterator[str]:
    global _private
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in _UNUSED}
    url = f"http://127.0.0.1:{port}/api"
    with _running(home, "127.0.0.1", port, url, env, ("--no-scheduler", "--no-late-runs", "--no-ui"), progress):
        _private = url
        try:
            yield url
        finally:
            _private = None
            _flush()


@contextmanager
def _running(home: Path, host: str, port: int, url: str, env: Mapping[str, str], options: tuple[str, ...],
             progress: Progress) -> Iterator[None]:
    folder = home / "prefect"
    folder.mkdir(parents=True, exist_ok=True)
    # Leases of limits live in memory unless told: a server that starts again would leave limits taken for ever.
    env = {"PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder / 'prefect.db'}",
           "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
           **os.environ, "PREFECT_HOME": str(folder), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1",
           **env}
    argv = [sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", str(port),
            "--log-level", "WARNING", *options]
    with supervise(argv, env, folder / "server.log") as server:
        deadline = time.monotonic() + START_S
        while not _answers(url):
            progress("Prefect: starting")
            if not server.alive() or time.monotonic() > deadline:
                raise DynoError(f"Prefect's server did not start; its log ends:\n{server.log_tail()}")
            time.sleep(0.2)
        yield


def _flush() -> None:
    """Logs and events are sent in the background: they must be out before their server is stopped."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()
    EventsWorker.drain_all(timeout=5)


def _answers(url: str, timeout_s: float = 2) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=timeout_s).status_code in (200, 401)  # 401: it wants a password
    except httpx.HTTPError:
        return False
