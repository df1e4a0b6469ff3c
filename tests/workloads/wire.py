"""A connection that is fed reads by hand: what comes of an answer that came in these pieces."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Self, cast

from workloads import reads
from workloads.client import Connection, Ending, Recording


class Wire(asyncio.Transport):
    """Takes what is written and notes whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written, self.closed = b"", False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    def feed(self, piece: bytes) -> None:
        self.connection.data_received(piece)


class Sock:
    """Takes what is set on it."""

    def __init__(self) -> None:
        self.options: list[tuple[int, int, int]] = []

    def setsockopt(self, level: int, name: int, value: int) -> None:
        self.options.append((level, name, value))


class Book:
    """An owner of connections that only keeps what it is told."""

    eager = False

    def __init__(self) -> None:
        self.over: list[tuple[Recording, bool]] = []

    def ended(self, recording: Recording, ending: Ending, now: int, note: str, reusable: Connection | None) -> None:
        recording.ending, recording.done_ns, recording.note = ending, now, note
        self.over.append((recording, reusable is not None))

    def dial(self, recording: Recording) -> None:
        raise AssertionError("nothing was lost")

    def forget(self, connection: Connection) -> None:
        pass


def received(pieces: list[bytes], sock: Sock | None = None) -> Recording:
    """The recording of an answer that came in these reads; the same as the compiled receive loop makes of them."""
    recording, kept = _received(pieces, Wire(), sock or Sock())
    if reads.compiled():
        with _Fed() as wire:
            other, also_kept = _received(pieces, wire, Sock())
        assert (other.ending, other.status, other.body) == (recording.ending, recording.status, recording.body)
        assert also_kept == kept
        assert other.rows[:, 1].tolist() == recording.rows[:, 1].tolist() or other.ending == "malformed"
    return recording


def _received(pieces: list[bytes], wire: Any, sock: Sock) -> tuple[Recording, bool]:
    book = Book()
    connection = wire.connection = Connection(book, cast(socket.socket, sock), direct=False)
    connection.connection_made(wire)
    recording = Recording(0, b"{}", 0)
    connection.start(recording, b"POST / HTTP/1.1\r\nContent-Length: ")
    for piece in pieces:
        if piece and not book.over:
            wire.feed(piece)
    if not book.over:
        connection.connection_lost(None)
        return recording, False
    return recording, book.over[0][1]


class _Fed(Wire):
    """A wire whose chunks the compiled receive loop reads from a socket."""

    def __enter__(self) -> Self:
        self._ours, self._theirs = socket.socketpair()
        self._reads = cast(Any, reads.reads())
        self._reads.add(self._ours.fileno(), self)
        self._decoding = False
        return self

    def decode(self, body: bytearray, rows: bytearray, rest: bytes, now_ns: int) -> None:
        self._decoding = True
        self._told(self._reads.decode(self._ours.fileno(), body, rows, rest, now_ns), now_ns)

    def feed(self, piece: bytes) -> None:
        if not self._decoding:
            super().feed(piece)
            return
        self._theirs.sendall(piece)
        for target, code, now_ns in self._reads.wait(True):
            assert target is self
            self._told(code, now_ns)

    def _told(self, code: int, now_ns: int) -> None:
        if code:
            self._decoding = False
            self.connection.decoded(code, now_ns)

    def __exit__(self, *_: object) -> None:
        self._reads.close()
        self._ours.close()
        self._theirs.close()
