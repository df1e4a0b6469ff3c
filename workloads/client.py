"""The streaming client: HTTP/1.1 over keep-alive connections, raw bytes, nanosecond stamps, only framing parsed.

What a token costs here is one read, one stamp and one pass of llhttp over its bytes. Server-sent events and JSON are
looked at after the run (workloads.answer).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from time import perf_counter_ns
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from httptools import HttpParserError, HttpResponseParser

from workloads.reads import DELAYED_NS, DELAYS_MAX, MALFORMED, WHOLE

Ending = Literal["complete", "closed", "reset", "timeout", "refused", "malformed", "cancelled"]
"""How the exchange ended, as HTTP saw it: `closed` is an orderly end of the connection before the end of the answer."""


_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
"""Linux: acknowledge at once, asked for anew after each read. Otherwise a server without TCP_NODELAY holds its next
small write back until our delayed acknowledgement, 40 ms, and what is measured is that. It costs a packet a token, so
it is done until the first token, after gaps that may be such a delay, and always once DELAYS_MAX of these came in an
answer (one may be our own)."""
_ROW = struct.Struct("=qq")
_HEADERS_END = b"\r\n\r\n"


class Recording:
    """One request as it went over the wire. Stamps are perf_counter_ns.

    `reads` holds a row for each read: its instant, and the length of `body` (de-chunked) after it.
    """

    __slots__ = ("body", "connection", "done_ns", "ending", "index", "note", "payload", "planned_ns", "reads",
                 "sent_ns", "status", "timer")

    def __init__(self, index: int, payload: bytes, planned_ns: int) -> None:
        self.index, self.payload, self.planned_ns = index, payload, planned_ns
        self.sent_ns: int | None = None
        self.done_ns = 0
        self.ending: Ending = "cancelled"
        self.status: int | None = None
        self.note = ""
        self.reads = bytearray()
        self.body = bytearray()
        self.connection: Connection | None = None
        self.timer: asyncio.TimerHandle | None = None

    @property
    def reads_len(self) -> int:
        """Reads so far; safe from another thread, as is `rows`."""
        return len(self.reads) // _ROW.size

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """(reads, 2): instants and lengths of the body after them."""
        return np.frombuffer(bytes(self.reads), np.int64).reshape(-1, 2)


class Owner(Protocol):
    """Who opened a connection, and is told what becomes of it."""

    def ended(self, recording: Recording, ending: Ending, now: int, note: str, reusable: Connection | None) -> None:
        """A request ended; `reusable` is its connection where that can take another."""

    def dial(self, recording: Recording) -> None:
        """A request was lost to a connection that the server had closed meanwhile: it needs one of its own."""

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""

    eager: bool
    """Acknowledge every read at once."""


class Connection(asyncio.Protocol):
    """One connection, one request at a time. `direct`: its socket may be written to past the transport (no TLS)."""

    def __init__(self, owner: Owner, sock: socket.socket, direct: bool) -> None:
        self.owner, self.sock, self.direct = owner, sock, direct
        self.recording: Recording | None = None
        self.fresh = True
        """Opened for the request it carries, so its loss is no keep-alive race."""
        self.answers = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def start(self, recording: Recording, head: bytes) -> None:
        """Sends a request. Plain sockets are written to at once: a loop may write only after its pending reads."""
        self.recording, recording.connection = recording, self
        self._over = self._framed = self._keep = self._chunked = False
        self._decode = getattr(self.transport, "decode", None)
        self._seen = b""
        self._whole = 0
        self._status: int | None = None
        self._body = recording.body
        self.on_body = recording.body.extend
        self._calm_until_ns = self._delays = 0
        self._read = recording.reads.extend
        self._parser = HttpResponseParser(self)
        self._feed = self._parser.feed_data
        data = b"%b%d\r\n\r\n%b" % (head, len(recording.payload), recording.payload)
        recording.sent_ns = perf_counter_ns()
        sent = 0
        if self.direct:
            try:
                sent = self.sock.send(data)
            except BlockingIOError:
                pass
            except OSError:  # lost: connection_lost says what that means
                self.transport.abort()
                return
        if sent < len(data):
            self.transport.write(data[sent:] if sent else data)

    def data_received(self, data: bytes) -> None:
        self.received(data, perf_counter_ns())

    def received(self, data: bytes, now: int) -> None:
        """Takes a part of the answer that was there at that instant."""
        recording = self.recording
        if recording is None:  # an answer to nothing
            self.transport.abort()
            return
        try:
            if self._decode:
                rest = self._fed_headers(data)
                if rest is not None:
                    self._decode(recording.body, recording.reads, rest, now)
                    return
            else:
                self._feed(data)
        except HttpParserError as error:
            self._read(_ROW.pack(now, len(self._body)))
            self.finish("malformed", now, f"not HTTP: {error}")
            return
        self._read(_ROW.pack(now, len(self._body)))
        if now > self._calm_until_ns:
            self._acknowledge(now)
        else:
            self._calm_until_ns = now + DELAYED_NS
        if self._over:
            self.finish("complete", now)

    def _fed_headers(self, data: bytes) -> bytes | None:
        """Parses what belongs to the headers. Returns what follows them where that is chunks, for the receive loop to
        decode; anything else is parsed here, to the end of the answer."""
        while data:
            end = (self._seen + data).find(_HEADERS_END)
            if end < 0:
                self._seen = (self._seen + data)[-3:]
                self._feed(data)
                break
            end += len(_HEADERS_END) - len(self._seen)
            self._feed(data[:end])
            self._seen, data = b"", data[end:]
            if self._status and self._status >= 200:
                if self._chunked and not self._over:
                    return data
                self._decode = None
                self._feed(data)
                break
        if self._status and self._status >= 200:
            self._decode = None
        return None

    def decoded(self, code: int, now: int) -> None:
        """The receive loop came to the end of the chunks."""
        if code == MALFORMED:
            self.finish("malformed", now, "not HTTP: a chunk of the answer is malformed")
        else:
            self._keep &= code == WHOLE  # after it came an answer to nothing that was asked
            self.finish("complete", now)

    def _acknowledge(self, now: int) -> None:
        if self._calm_until_ns:
            self._delays += 1
            self.owner.eager |= self._delays >= DELAYS_MAX
        if self._body and not self.owner.eager:
            self._calm_until_ns = now + DELAYED_NS
        if _QUICKACK is not None:
            self.sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._framed, self._chunked = True, value.lower() == b"chunked"

    def on_headers_complete(self) -> None:
        if not self._over:
            self._status = self._parser.get_status_code()
            self._keep = self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        if self._over:  # a second answer in one read, to nothing that was asked
            del self._body[self._whole:]
            self._keep = False
        elif self._status is not None and self._status >= 200:  # after a 1xx comes the answer
            self._over, self._whole = True, len(self._body)
            self._keep = self._parser.should_keep_alive()  # llhttp forgets it afterwards

    def connection_lost(self, exc: Exception | None) -> None:
        now = perf_counter_ns()
        self.owner.forget(self)
        recording = self.recording
        if recording is None:
            return
        if exc is None and self._status and not self._framed:  # the end of the connection is the end of the answer
            self.finish("complete", now)
        elif not self.fresh and not recording.reads:  # closed while idle, as the request was on its way
            self.recording = None
            self.owner.dial(recording)
        else:
            self.finish("closed" if exc is None and recording.reads else "reset", now, str(exc or ""))

    def finish(self, ending: Ending, now: int, note: str = "") -> None:
        """Ends the request; the connection is kept only after a whole answer whose server allows it."""
        recording, self.recording = self.recording, None
        if recording is None:
            return
        recording.status = self._status
        self.fresh = False
        self.answers += ending == "complete"
        keep = ending == "complete" and self._keep and not self.transport.is_closing()
        if not keep:
            self.transport.abort()
        self.owner.ended(recording, ending, now, note, self if keep else None)
