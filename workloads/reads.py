"""Which files are ready, and who is told: an epoll, with the decoding of chunked answers where `_reads.c` is compiled.

At 50 000 tokens a second what Python does for each is most of what a token costs, so the C loop decodes the chunks
of answers and stamps them with the instant at which the kernel had them: a client that is busy reads late, but what it
says is not late. Without it (no compiler, no headers of Python at installation) the same is done here and in
workloads.client, for some 5 µs more a token, and what is read is stamped when it is seen.
"""

from __future__ import annotations

import os
import select
from time import perf_counter_ns, sleep
from typing import Protocol

try:
    from workloads import _reads
except ImportError:
    _reads = None  # type: ignore[assignment]

READ_BYTES = 4096
LATE_NS = 2_000_000
"""A round of reads that took longer kept the next ones waiting for as long: their stamps are late."""
FEW, NAP_NS = 16, 50_000
"""In a crowd it sleeps a little after rounds of few reads: with what else a sleep takes, stamps are then up to 0.1 ms
late, but a wake-up serves several; a full processor makes them far later."""
DELAYED_NS, DELAYS_MAX = 30_000_000, 4
"""A gap between reads that may be a delayed acknowledgement; how many of them in an answer tell that it is."""
WHOLE, MALFORMED, CLOSED = -1, -3, -1000
"""What `wait` says of a decoded answer: whole; whole and followed by more (-2); no chunks; the connection was closed
(CLOSED - errno)."""


class Reads(Protocol):
    """`wait` blocks until something is ready and returns who is to be told what: (target, events of epoll, instant), or
    what became of an answer that was handed over to `decode`."""

    slow: bool
    """The last round took long."""
    crowded: bool

    @property
    def reads(self) -> int: ...

    @property
    def late(self) -> int:
        """Reads whose stamps are late, as the round before took long."""

    @property
    def stamped(self) -> int:
        """Reads that the kernel stamped."""

    def fileno(self) -> int: ...

    def add(self, fd: int, target: object, /) -> None: ...

    def modify(self, fd: int, events: int, /) -> None: ...

    def remove(self, fd: int, /) -> None: ...

    def receive(self, fd: int, now_ns: int, /) -> tuple[bytes, int]:
        """Reads what is there, as `socket.recv` does, and returns when it had arrived: now_ns where nobody knows."""

    def wait(self, once: bool, /) -> list[tuple[object, int, int]]: ...

    def close(self) -> None: ...


def reads() -> Reads:
    """Returns the compiled one where there is one. Linux only."""
    if _reads is not None:
        return _reads.Reader(LATE_NS, FEW, NAP_NS, DELAYED_NS, DELAYS_MAX)
    return PlainReads()


def compiled() -> bool:
    """Whether answers are decoded in C."""
    return _reads is not None


class PlainReads:
    """In Python, without `decode`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._targets: dict[int, object] = {}
        self.reads = self.late = self.stamped = 0
        self.slow = self.crowded = False
        self._found = FEW
        self.fileno = self._epoll.fileno
        self.modify = self._epoll.modify

    def add(self, fd: int, target: object, /) -> None:
        self._epoll.register(fd, select.EPOLLIN)
        self._targets[fd] = target

    def remove(self, fd: int, /) -> None:
        self._epoll.unregister(fd)
        del self._targets[fd]

    def receive(self, fd: int, now_ns: int, /) -> tuple[bytes, int]:
        return os.read(fd, READ_BYTES), now_ns

    def wait(self, once: bool, /) -> list[tuple[object, int, int]]:
        if self.crowded and self._found < FEW:
            sleep(NAP_NS / 1e9)
        found = self._epoll.poll()
        now_ns = perf_counter_ns()
        self._found = len(found)
        self.reads += len(found)
        self.late += len(found) if self.slow else 0
        return [(self._targets[fd], events, now_ns) for fd, events in found]

    def close(self) -> None:
        self._targets.clear()
        self._epoll.close()
