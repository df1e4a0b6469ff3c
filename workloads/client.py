"""The streaming client: HTTP/1.1 over keep-alive connections, raw bytes, nanosecond stamps, only framing parsed.

What a token costs here is one read, one stamp and one pass of llhttp over its bytes. Server-sent events and JSON are
looked at after the run (workloads.answer).
"""

from __future__ import annotations

import asyncio
import socket
from array import array
from time import perf_counter_ns
from typing import Any, Literal, Protocol

from httptools import HttpParserError, HttpResponseParser

Ending = Literal["complete", "closed", "reset", "timeout", "refused", "malformed", "cancelled"]
"""How the exchange ended, as HTTP saw it: `closed` is an orderly end of the connection before the end of the answer."""


_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
"""Linux: acknowledge at once, asked for anew after each read. Otherwise a server without TCP_NODELAY holds its next
small write back until our delayed acknowledgement, 40 ms, and what is measured is that. It costs a packet a token, so
it is done until the first token, after gaps that may be such a delay, and always once DELAYS_MAX of these came in an
answer (one may be our own)."""
_MAYBE_DELAYED_NS = 30_000_000
DELAYS_MAX = 4


class Recording:
    """One request as it went over the wire. Stamps are perf_counter_ns.

    stamps[i] is the instant of the i-th read, ends[i] the length of `body` (de-chunked) after it.
    """

    __slots__ = ("body", "connection", "done_ns", "ending", "ends", "index", "note", "payload", "planned_ns", "sent_ns",
                 "stamps", "status", "timer")

    def __init__(self, index: int, payload: bytes, planned_ns: int) -> None:
        self.index, self.payload, self.planned_ns = index, payload, planned_ns
        self.sent_ns: int | None = None
        self.done_ns = 0
        self.ending: Ending = "cancelled"
        self.status: int | None = None
        self.note = ""
        self.stamps = array("q")
        self.ends = array("q")
        self.body = bytearray()
        self.connection: Connection | None = None
        self.timer: asyncio.TimerHandle | None = None


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
        self._over = self._framed = self._keep = False
        self._whole = 0
        self._status: int | None = None
        self._body = recording.body
        self.on_body = recording.body.extend
        self._calm_until_ns = self._delays = 0
        self._stamp, self._end = recording.stamps.append, recording.ends.append
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
        if self.recording is None:  # an answer to nothing
            self.transport.abort()
            return
        try:
            self._feed(data)
        except HttpParserError as error:
            self._stamp(now)
            self._end(len(self._body))
            self.finish("malformed", now, f"not HTTP: {error}")
            return
        self._stamp(now)
        self._end(len(self._body))
        if now > self._calm_until_ns:
            self._acknowledge(now)
        else:
            self._calm_until_ns = now + _MAYBE_DELAYED_NS
        if self._over:
            self.finish("complete", now)

    def _acknowledge(self, now: int) -> None:
        if self._calm_until_ns:
            self._delays += 1
            self.owner.eager |= self._delays >= DELAYS_MAX
        if self._body and not self.owner.eager:
            self._calm_until_ns = now + _MAYBE_DELAYED_NS
        if _QUICKACK is not None:
            self.sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._framed = True

    def on_headers_complete(self) -> None:
        if not self._over:
            self._status = self._parser.get_status_code()

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
        elif not self.fresh and not recording.stamps:  # closed while idle, as the request was on its way
            self.recording = None
            self.owner.dial(recording)
        else:
            self.finish("closed" if exc is None and recording.stamps else "reset", now, str(exc or ""))

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
