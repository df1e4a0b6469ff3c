"""One evaluation at a time on a device: a lock that every dyno of this machine sees, and a limit that Prefect shows.

The lock decides on one machine, whatever user, home, worker or server an evaluation belongs to; the limit, also where
two machines would load the same endpoint.
"""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.concurrency.sync import concurrency

from flows import server
from models.progress import Progress
from models.specs import Setup

LEASE_S = 60.0
"""How long a limit stays taken after a host that held it went silent; the least that Prefect allows."""
_SAY_EVERY_S = 30.0


def names(setups: Iterable[Setup]) -> list[str]:
    """What an evaluation has for itself: this machine, and what serves already at each URL that it measures."""
    served = {urlsplit(s.engine.url).netloc for s in setups if s.engine.url}
    return [f"dyno machine {platform.node()}", *sorted(f"dyno endpoint {n}" for n in served if n)]


@contextmanager
def alone(setups: Iterable[Setup], progress: Progress) -> Iterator[None]:
    """Waits until nobody else measures on these devices, and keeps them for as long as the `with`."""
    wanted = names(setups)
    with ExitStack() as held:
        for name in wanted:
            held.enter_context(_lock(name, progress))
        if not server.is_private():  # of which nobody else could hold a limit
            _limits(wanted)
            held.enter_context(concurrency(wanted, lease_duration=LEASE_S))
        yield


def _limits(wanted: list[str]) -> None:
    """This machine's is freed: whoever has its lock knows that it was left taken by a run that died."""
    with get_client(sync_client=True) as client:
        for name in wanted:
            client.upsert_global_concurrency_limit_by_name(name, 1)
        client.update_global_concurrency_limit(wanted[0], GlobalConcurrencyLimitUpdate(active_slots=0))


@contextmanager
def _lock(name: str, progress: Progress) -> Iterator[None]:
    file = _folder() / f"dyno-{hashlib.sha256(name.encode()).hexdigest()[:12]}.lock"
    lock = FileLock(file, mode=0o666)  # of whichever user comes first, and for all
    patience_s = 0.0
    while True:
        try:
            lock.acquire(timeout=patience_s, poll_interval=0.1)
            break
        except Timeout:
            progress("waiting", None, f"another evaluation is running on {name.removeprefix('dyno ')}")
            patience_s = _SAY_EVERY_S
    try:
        yield
    finally:
        lock.release()


def _folder() -> Path:
    """`DYNO_LOCKS` (containers of one machine share it), else where this machine's locks lie."""
    if chosen := os.environ.get("DYNO_LOCKS"):
        Path(chosen).mkdir(parents=True, exist_ok=True)
        return Path(chosen)
    usual = Path("/run/lock")
    return usual if os.access(usual, os.W_OK) else Path(tempfile.gettempdir())
