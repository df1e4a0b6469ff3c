"""Plain sockets read past the event loop's transports: one epoll for all of them, which the loop watches as one file.

At 50 000 tokens a second the transports' and the loop's own work is half of what a token costs. Therefore the loop is
left waiting for up to STAY_NS while more keeps coming, unless it has something to do for us (`busy`). Linux only;
elsewhere, and under TLS, transports do it.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any, Protocol, cast

from workloads.alarm import ticker
from workloads.reads import CLOSED, LATE_NS, reads

STAY_NS = 5_000_000
CROWD = 100
"""Reads in that time (20 000 a second) from which on it sleeps a little after rounds of few reads."""


class Receiver(Protocol):
    """Who is told what comes: the part of asyncio.Protocol that counts here."""

    def connection_made(self, transport: Any) -> None: ...

    def received(self, data: bytes, now_ns: int) -> None:
        """What asyncio calls data_received, with the instant at which it was known to be there."""

    def decoded(self, code: int, now_ns: int) -> None:
        """An answer that was handed over to `Channel.decode` has ended (workloads.reads says how)."""

    def connection_lost(self, exc: Exception | None) -> None: ...


class Watched(Protocol):
    """Whoever is told that a file is ready."""

    def ready(self, events: int, now_ns: int) -> None: ...


class Sockets:
    """The plain sockets of one event loop, and other files that are as urgent. `busy` says whether the loop has
    something to do that cannot wait."""

    def __init__(self, loop: asyncio.AbstractEventLoop, busy: Callable[[], bool]) -> None:
        self.loop, self._busy = loop, busy
        self.reads = reads()
        loop.add_reader(self.reads.fileno(), self._ready)
        self._ticker = ticker(self, self._leave, STAY_NS)

    def adopt(self, sock: socket.socket, receiver: Receiver) -> None:
        """Takes a connected, non-blocking socket over, and closes it in the end."""
        channel = Channel(self, sock, receiver)
        self.reads.add(sock.fileno(), channel)
        receiver.connection_made(channel)

    def add_reader(self, fd: int, ready: Callable[[], None]) -> None:
        """As a loop has it."""
        self.reads.add(fd, _Reader(ready))

    def remove_reader(self, fd: int) -> None:
        """As a loop has it."""
        self.reads.remove(fd)

    def _ready(self) -> None:
        reads, self._stay, before = self.reads, True, self.reads.reads
        while self._stay:
            told = reads.wait(self._busy())
            for target, events, now_ns in told:
                cast(Watched, target).ready(events, now_ns)
            if told and perf_counter_ns() - told[0][2] > LATE_NS:
                reads.slow = True
            elif told:
                reads.slow = False
            if self._busy():
                break
        reads.crowded = reads.reads - before > CROWD

    def _leave(self) -> None:
        self._stay = False

    def close(self) -> None:
        """To be called when every channel has been closed."""
        self._ticker.close()
        self.loop.remove_reader(self.reads.fileno())
        self.reads.close()


class _Reader:
    def __init__(self, told: Callable[[], None]) -> None:
        self._told = told

    def ready(self, events: int, now_ns: int) -> None:
        self._told()


class Channel:
    """One socket; `write`, `abort` and `is_closing` as an asyncio transport has them. `decode` is None where chunks are
    to be decoded by the receiver."""

    def __init__(self, owner: Sockets, sock: socket.socket, receiver: Receiver) -> None:
        self._owner, self._sock, self._receiver = owner, sock, receiver
        self._fd, self._receive, self._received = sock.fileno(), owner.reads.receive, receiver.received
        self._unsent = b""
        self._closing = False
        self._decode = getattr(owner.reads, "decode", None)
        self.decode = self._decoded_from if self._decode else None

    def is_closing(self) -> bool:
        return self._closing

    def ready(self, events: int, now_ns: int) -> None:
        """Reads once; what is left is reported again."""
        if self._closing:
            return
        if events < 0:
            self._ended(events, now_ns)
            return
        if events & select.EPOLLOUT:
            self._flush()
            if events == select.EPOLLOUT:
                return
        try:
            data, now_ns = self._receive(self._fd, now_ns)
        except BlockingIOError:
            return
        except OSError as error:
            self._close(error)
            return
        if data:
            self._received(data, now_ns)
        else:
            self._close(None)

    def _decoded_from(self, body: bytearray, rows: bytearray, rest: bytes, now_ns: int) -> None:
        """Hands the chunks of an answer over, beginning with what was already read of them."""
        if self._decode and (code := self._decode(self._sock.fileno(), body, rows, rest, now_ns)):
            self._ended(code, now_ns)

    def _ended(self, code: int, now_ns: int) -> None:
        if code <= CLOSED:
            self._close(OSError(CLOSED - code, os.strerror(CLOSED - code)) if code < CLOSED else None)
        else:
            self._receiver.decoded(code, now_ns)

    def write(self, data: bytes) -> None:
        """Sends what the socket's buffer did not hold, as soon as it does."""
        if not self._closing:
            self._unsent += data
            self._owner.reads.modify(self._sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _flush(self) -> None:
        try:
            self._unsent = self._unsent[self._sock.send(self._unsent):]
        except BlockingIOError:
            return
        except OSError as error:
            self._close(error)
            return
        if not self._unsent:
            self._owner.reads.modify(self._sock.fileno(), select.EPOLLIN)

    def abort(self) -> None:
        self._close(None)

    def _close(self, error: OSError | None) -> None:
        if self._closing:
            return
        self._closing = True
        self._owner.reads.remove(self._sock.fileno())
        self._sock.close()
        self._owner.loop.call_soon(self._receiver.connection_lost, error)
