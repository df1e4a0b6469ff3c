"""HTTP/1.1 over raw asyncio transports: the hot path only stamps reads and keeps bytes; everything else comes after.

llhttp (httptools) finds the ends of headers, chunks and messages: string ends in a stream lie.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from array import array
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools

from models.errors import UserError

perf_counter_ns = time.perf_counter_ns


@dataclass(frozen=True)
class Target:
    """Where requests go. `key` is sent as a bearer token and shows in no repr."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    head: bytes

    def request(self, path: str, body: bytes) -> bytes:
        """One whole HTTP request, ready to be written."""
        return (b"POST " + path.encode() + self.head + b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n"
                + body)

    def __repr__(self) -> str:
        return f"Target({self.host}:{self.port})"


def target(url: str, api_key: str | None = None) -> Target:
    """Parses a URL. Raises UserError when it is no http or https one."""
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        port = 0
    if parts.scheme not in ("http", "https") or not parts.hostname or not port:
        raise UserError(f"{url!r} is no URL that can be measured: write http://host:port")
    head = f" HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\nContent-Type: application/json\r\n"
    head += "Accept: text/event-stream\r\n" + (f"Authorization: Bearer {api_key}\r\n" if api_key else "")
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    return Target(parts.hostname, port, tls, head.encode())


class Exchange:
    """One request and its answer: instants in ns of the monotonic clock, and the de-chunked body with the instant and
    the length reached at each read. `failure` is an outcome (models.frames.OUTCOMES) when the transport failed."""

    __slots__ = ("body", "done_ns", "ends", "failure", "finished", "first_byte_ns", "index", "planned_ns", "reason",
                 "sent_ns", "stamps", "status")

    def __init__(self, index: int, planned_ns: int, finished: asyncio.Future[None]) -> None:
        self.index, self.planned_ns, self.finished = index, planned_ns, finished
        self.sent_ns = self.first_byte_ns = self.done_ns = 0
        self.status = 0
        self.body = bytearray()
        self.stamps, self.ends = array("q"), array("q")
        self.failure: str | None = None
        self.reason = ""

    @property
    def unanswered(self) -> bool:
        """Whether the connection was lost before a byte of the answer came."""
        return self.failure == "reset" and not self.status

    def end(self, now_ns: int, failure: str | None = None, reason: str = "") -> None:
        """Settles the exchange once; later calls change nothing."""
        if not self.finished.done():
            self.done_ns, self.failure, self.reason = now_ns, failure, reason
            self.finished.set_result(None)


class Connection(asyncio.Protocol):
    """One keep-alive connection; at most one exchange at a time."""

    __slots__ = ("exchange", "now_ns", "parser", "transport", "until_close", "usable", "uses")

    def __init__(self) -> None:
        self.exchange: Exchange | None = None
        self.transport: asyncio.Transport | None = None
        self.parser = httptools.HttpResponseParser(self)
        self.now_ns = 0
        self.until_close = False
        self.usable = True
        self.uses = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, exchange: Exchange, request: bytes) -> None:
        """Writes a request; `exchange.finished` resolves when its answer has ended in any way."""
        self.exchange = exchange
        assert self.transport is not None  # noqa: S101  connection_made came before anyone could call this
        self.uses += 1
        exchange.sent_ns = exchange.sent_ns or perf_counter_ns()
        self.transport.write(request)

    @property
    def used_before(self) -> bool:
        """Whether its last exchange was not its first."""
        return self.uses > 1

    def close(self) -> None:
        """Closes it in good order; nothing is under way."""
        self.usable = False
        if self.transport is not None:
            self.transport.close()

    def abort(self, failure: str, reason: str = "") -> None:
        """Drops the connection; an exchange under way ends with that outcome."""
        self.usable = False
        if self.exchange is not None:
            self.exchange.end(perf_counter_ns(), failure, reason)
            self.exchange = None
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self.now_ns = perf_counter_ns()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.abort("malformed", f"not HTTP: {error}")

    def on_headers_complete(self) -> None:
        if self.exchange is not None:
            self.exchange.status = self.parser.get_status_code()
            self.exchange.first_byte_ns = self.now_ns
            self.until_close = not self.parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        exchange = self.exchange
        if exchange is not None:
            exchange.body += body
            exchange.stamps.append(self.now_ns)
            exchange.ends.append(len(exchange.body))

    def on_message_complete(self) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is None or exchange.status == 100:
            self.exchange = exchange
            return
        if self.until_close:
            self.usable = False
        exchange.end(self.now_ns)
        self.parser = httptools.HttpResponseParser(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.usable = False
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        now_ns = perf_counter_ns()
        if error is None and self.until_close and exchange.status:
            exchange.end(now_ns)  # without a length, the end of the connection is the end of the message
        else:
            exchange.end(now_ns, "reset", f"connection lost: {error or 'closed by the server'}")


async def connect(where: Target) -> Connection:
    """Opens a connection. Raises OSError when nobody answers."""
    loop = asyncio.get_running_loop()
    name = where.host if where.tls else None
    _, connection = await loop.create_connection(Connection, where.host, where.port, ssl=where.tls,
                                                 server_hostname=name)
    return connection
