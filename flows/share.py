"""What a team's machines give each other through the place that DYNO_BUNDLES names. Without it, nothing happens."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from models import paths
from models.errors import PlaceError
from models.progress import Progress, silent
from warehouse import exchange, place
from warehouse.exchange import Exchanged

PUSH_EVERY_S = 60.0


def push(home: Path, progress: Progress = silent, again: bool = False) -> Exchanged:
    """Sends what waits. Raises PlaceError when the link is down: what is left waits."""
    url = paths.bundles()
    return exchange.push(home, place.connect(url), progress, again) if url else Exchanged()


def pull(home: Path, progress: Progress = silent, only: Collection[str] | None = None) -> Exchanged:
    """Fetches what others sent, of all or of some trials. Raises PlaceError when the link is down."""
    url = paths.bundles()
    return exchange.pull(home, place.connect(url), progress, only) if url else Exchanged()


@contextmanager
def pushing(home: Path, every_s: float = PUSH_EVERY_S) -> Iterator[None]:
    """Sends what waits every so often while the `with` lasts, and at its end: what a broken link left is sent when it
    is back, though nothing more is measured. Why it could not, whoever pushes by name is told."""
    ended = threading.Event()

    def work() -> None:
        while True:
            last = ended.wait(every_s)
            with suppress(PlaceError, OSError):
                push(home)
            if last:
                return

    thread = threading.Thread(target=work, name="dyno-push", daemon=True)
    if paths.bundles():
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if thread.ident is not None:
            thread.join(timeout=every_s)
