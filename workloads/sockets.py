"""Plain sockets read past the event loop's transports: one epoll for all of them, which the loop watches as one file.

At 50 000 tokens a second the transports' and the loop's own work is half of what a token costs. Therefore the loop is
left waiting for up to STAY_NS while more keeps coming, unless it has something to do for us (`busy`). Linux only;
elsewhere, and under TLS, transports do it.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from time import perf_counter_ns, sleep
from typing import Any, Protocol

from workloads.alarm import ticker

READ_BYTES = 4096
STAY_NS = 5_000_000
CROWD, FEW, NAP_S = 100, 16, 50e-6
"""Reads in that time (20 000 a second) from which on it sleeps a little after rounds of few reads: with what else a
sleep takes, stamps are then up to 0.1 ms late, but a wake-up serves several; a full processor makes them far later."""
LATE_NS = 2_000_000
"""A round of reads that took longer kept the next ones waiting for as long: their stamps are late."""


class Receiver(Protocol):
    """Who is told what comes: the part of asyncio.Protocol that counts here."""

    def connection_made(self, transport: Any) -> None: ...

    def received(self, data: bytes, now_ns: int) -> None:
        """What asyncio calls data_received, with the instant at which it was known to be there."""

    def connection_lost(self, exc: Exception | None) -> None: ...


class Watched(Protocol):
    """Whoever is told that a file is ready."""

    def ready(self, events: int, now_ns: int) -> None: ...


class Sockets:
    """The plain sockets of one event loop, and other files that are as urgent. `busy` says whether the loop has
    something to do that cannot wait."""

    def __init__(self, loop: asyncio.AbstractEventLoop, busy: Callable[[], bool]) -> None:
        self.loop, self._busy = loop, busy
        self.epoll = select.epoll()
        self.channels: dict[int, Watched] = {}
        self._crowded = self._long = False
        self.reads = self.late = 0
        """Reads, and those of them that had to wait."""
        loop.add_reader(self.epoll.fileno(), self._ready)
        self._ticker = ticker(self, self._leave, STAY_NS)

    def adopt(self, sock: socket.socket, receiver: Receiver) -> None:
        """Takes a connected, non-blocking socket over, and closes it in the end."""
        channel = Channel(self, sock, receiver)
        self.channels[sock.fileno()] = channel
        self.epoll.register(sock.fileno(), select.EPOLLIN)
        receiver.connection_made(channel)

    def add_reader(self, fd: int, ready: Callable[[], None]) -> None:
        """As a loop has it."""
        self.channels[fd] = _Reader(ready)
        self.epoll.register(fd, select.EPOLLIN)

    def remove_reader(self, fd: int) -> None:
        """As a loop has it."""
        self.epoll.unregister(fd)
        del self.channels[fd]

    def _ready(self) -> None:
        channels, self._stay, count = self.channels, True, 0
        while self._stay:
            found = self.epoll.poll()
            start_ns = perf_counter_ns()
            count += len(found)
            if self._long:
                self.late += len(found)
            for fd, events in found:
                if channel := channels.get(fd):  # not closed by what came before it in this round
                    channel.ready(events, start_ns)
            self._long = perf_counter_ns() - start_ns > LATE_NS
            if self._busy():
                break
            if self._crowded and len(found) < FEW:
                sleep(NAP_S)
        self.reads += count
        self._crowded = count > CROWD

    def _leave(self) -> None:
        self._stay = False

    def close(self) -> None:
        """To be called when every channel has been closed."""
        self._ticker.close()
        self.loop.remove_reader(self.epoll.fileno())
        self.epoll.close()


class _Reader:
    def __init__(self, told: Callable[[], None]) -> None:
        self._told = told

    def ready(self, events: int, now_ns: int) -> None:
        self._told()


class Channel:
    """One socket; `write`, `abort` and `is_closing` as an asyncio transport has them."""

    def __init__(self, owner: Sockets, sock: socket.socket, receiver: Receiver) -> None:
        self._owner, self._sock, self._receiver = owner, sock, receiver
        self._recv, self._received = sock.recv, receiver.received
        self._unsent = b""
        self._closing = False

    def is_closing(self) -> bool:
        return self._closing

    def ready(self, events: int, now_ns: int) -> None:
        """Reads once; what is left is reported again."""
        if events & select.EPOLLOUT:
            self._flush()
            if events == select.EPOLLOUT:
                return
        try:
            data = self._recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._close(error)
            return
        if data:
            self._received(data, now_ns)
        else:
            self._close(None)

    def write(self, data: bytes) -> None:
        """Sends what the socket's buffer did not hold, as soon as it does."""
        if not self._closing:
            self._unsent += data
            self._owner.epoll.modify(self._sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _flush(self) -> None:
        try:
            self._unsent = self._unsent[self._sock.send(self._unsent):]
        except BlockingIOError:
            return
        except OSError as error:
            self._close(error)
            return
        if not self._unsent:
            self._owner.epoll.modify(self._sock.fileno(), select.EPOLLIN)

    def abort(self) -> None:
        self._close(None)

    def _close(self, error: OSError | None) -> None:
        if self._closing:
            return
        self._closing = True
        fd = self._sock.fileno()
        self._owner.epoll.unregister(fd)
        del self._owner.channels[fd]
        self._sock.close()
        self._owner.loop.call_soon(self._receiver.connection_lost, error)
