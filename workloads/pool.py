"""Connections to one endpoint: opened, kept, replaced and closed, so that a request finds one without waiting."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from models.errors import EndpointError, UserError
from workloads.address import Address, tls_context
from workloads.client import Connection, Ending, Recording
from workloads.sockets import Sockets

DIALS_AT_ONCE = 64
"""Connections being opened together: more would overflow short listen queues, which costs a second each."""
SPARE_FILES = 256
CLOSING_S = 5.0


class Pool:
    """A pool of connections to one path of one address, for one event loop.

    `on_end` is called with each recording as it ends, in the loop's thread. `spare`: one connection more than are in
    use is kept open, for requests that come whenever they come.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, address: Address, path: str, api_key: str | None,
                 timeout_s: float, on_end: Callable[[Recording], None], spare: bool = False) -> None:
        self._loop, self._address, self._timeout_s, self._on_end = loop, address, timeout_s, on_end
        self._tls = tls_context() if address.tls else None
        self._sockets = Sockets(loop, self._dialling) if self._tls is None and sys.platform == "linux" else None
        lines = [f"POST {address.prefix}{path} HTTP/1.1", f"Host: {address.host_header}", "User-Agent: dyno",
                 "Accept: text/event-stream", "Content-Type: application/json",
                 *([f"Authorization: Bearer {api_key}"] if api_key else []), "Content-Length: "]
        self._head = "\r\n".join(lines).encode()
        self._idle: list[Connection] = []
        self._connections: set[Connection] = set()
        self._dials: dict[Recording, asyncio.Task[None]] = {}
        self._spares: set[asyncio.Task[None]] = set()
        self._single_use, self._spare = False, spare
        self._where: tuple[int, Any] = (socket.AF_INET, (address.host, address.port))
        self.busy: set[Recording] = set()
        self.eager = False

    @property
    def readers(self) -> Sockets | asyncio.AbstractEventLoop:
        """What watches a file with the least delay."""
        return self._sockets or self._loop

    @property
    def late_share(self) -> float:
        """Share of the reads that had to wait for this process, as far as that is known."""
        if self._sockets is None:
            return 0.0
        return self._sockets.reads.late / max(1, self._sockets.reads.reads)

    def _dialling(self) -> bool:
        return bool(self._dials or self._spares)

    async def open(self, count: int) -> None:
        """Finds the address and opens `count` connections beforehand; those refused are dialled again when needed.

        Raises EndpointError when the host's name does not resolve.
        """
        try:
            found = await self._loop.getaddrinfo(self._address.host, self._address.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise EndpointError(f"{self._address.url}: the host name does not resolve: {error.strerror}") from None
        for family, _, _, _, where in found:  # localhost may be two addresses, only one of which serves
            self._where = (family, where)
            await self._stock()
            if self._idle:
                break
        else:
            return
        gate = asyncio.Semaphore(DIALS_AT_ONCE)

        async def one() -> None:
            async with gate:
                await self._stock()
        await asyncio.gather(*(one() for _ in range(count - 1)))

    async def _stock(self) -> None:
        """Opens one connection for later; the server may close it again before its first request."""
        with contextlib.suppress(OSError):
            connection = await self._connect()
            connection.fresh = False
            self._idle.append(connection)

    def send(self, recording: Recording) -> None:
        """Sends on an idle connection, or opens one."""
        self.busy.add(recording)
        while self._idle:
            connection = self._idle.pop()
            if not connection.transport.is_closing():
                self._start(connection, recording)
                return
        self.dial(recording)

    def dial(self, recording: Recording) -> None:
        """Sends on a connection opened for it."""
        task = self._loop.create_task(self._dialled(recording))
        self._dials[recording] = task
        task.add_done_callback(asyncio.Task.result)  # an error that nobody foresaw reaches the loop's handler

    async def _dialled(self, recording: Recording) -> None:
        ending: Ending
        try:
            connection = await self._connect()
        except (OSError, asyncio.CancelledError) as error:
            ending = (recording.ending if isinstance(error, asyncio.CancelledError) else
                      "timeout" if isinstance(error, TimeoutError) else "refused")
            self._dials.pop(recording, None)
            self.ended(recording, ending, perf_counter_ns(), str(error), None)
        else:
            self._dials.pop(recording, None)
            self._start(connection, recording)

    async def _connect(self) -> Connection:
        family, where = self._where
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(self._timeout_s):
                await self._loop.sock_connect(sock, where)
                connection = Connection(self, sock, direct=self._tls is None)
                if self._sockets:
                    self._sockets.adopt(sock, connection)
                else:
                    await self._loop.create_connection(lambda: connection, sock=sock, ssl=self._tls,
                                                       server_hostname=self._address.host if self._tls else None)
        except BaseException:
            sock.close()
            raise
        self._connections.add(connection)
        return connection

    def _start(self, connection: Connection, recording: Recording) -> None:
        if recording.timer is None:
            recording.timer = self._loop.call_later(self._timeout_s, self._expired, recording)
        connection.start(recording, self._head)
        if self._single_use or (self._spare and not self._idle):
            spare = self._loop.create_task(self._stock())
            self._spares.add(spare)
            spare.add_done_callback(self._spares.discard)

    def _expired(self, recording: Recording) -> None:
        self._give_up(recording, "timeout", f"no end of the answer within {self._timeout_s:g} s")

    def _give_up(self, recording: Recording, ending: Ending, note: str = "") -> None:
        if dial := self._dials.get(recording):
            recording.ending = ending
            dial.cancel()
        elif recording.connection and recording.connection.recording is recording:
            recording.connection.finish(ending, perf_counter_ns(), note)

    def ended(self, recording: Recording, ending: Ending, now: int, note: str, reusable: Connection | None) -> None:
        """Books a request's end and tells the driver, which may send the next one at once."""
        recording.ending, recording.done_ns, recording.note = ending, now, note
        if recording.timer:
            recording.timer.cancel()
        recording.connection = recording.timer = None
        recording.payload = b""
        self.busy.discard(recording)
        if reusable and self._single_use:
            reusable.transport.abort()
        elif reusable:
            self._idle.append(reusable)
        elif ending == "complete":
            self._single_use = True
        self._on_end(recording)

    def forget(self, connection: Connection) -> None:
        """A connection is gone. Where a server closes after one answer (llama-server does, while promising keep-alive),
        the next connection is opened while an answer runs, so that opening it delays nothing."""
        self._single_use |= connection.answers == 1
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def cancel(self) -> None:
        """Ends every request in flight by closing its connection."""
        for recording in list(self.busy):
            self._give_up(recording, "cancelled")

    async def close(self) -> None:
        """Closes every connection."""
        self.cancel()
        for spare in self._spares:
            spare.cancel()
        await asyncio.gather(*self._dials.values(), *self._spares, return_exceptions=True)
        self._idle.clear()
        for connection in list(self._connections):
            connection.transport.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_S):
                while self._connections:
                    await asyncio.sleep(0)
        if self._sockets:
            self._sockets.close()


def allow_connections(needed: int, wanted: int) -> None:
    """Lets this process open as many files as the connections wanted take, or as many as it may.

    Raises UserError when that is too few for those needed.
    """
    try:
        import resource
    except ImportError:  # no such limit on Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = float("inf") if hard == resource.RLIM_INFINITY else hard
    if needed + SPARE_FILES > most:
        raise UserError(f"concurrency: {needed} connections need {needed + SPARE_FILES} open files, and this account"
                        f" may have {hard}: raise `ulimit -n`")
    files = min(wanted + SPARE_FILES, most)
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(files), hard))
