"""Machines that share a load find one another and talk: a listener, a ticket, messages. What they say is in hosts.py.

The coordinator listens; each host calls it with a ticket that proves, both ways and without being sent, that it is of
this load (HMAC, as multiprocessing.connection does it). Messages are JSON, frames Arrow's; nothing that a peer sends is
ever run.
"""

from __future__ import annotations

import contextlib
import io
import json
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

import polars as pl

from models.errors import DynoError, UserError
from workloads import clocks
from workloads.clocks import Related
from workloads.run import TICK_S

SILENCE_S = 20.0
"""While a load is on both sides speak every second: after so long a silence the other is gone, or the link is."""
PATIENCE_S = 600.0
"""Before and after it: for prompts to be made, and results to be sent."""


@dataclass(frozen=True)
class Gathering:
    """Where hosts come together: the address they call and the ticket they need."""

    address: tuple[str, int]
    ticket: str = field(repr=False)
    listener: Listener

    def hosts(self, number: int, timeout_s: float, progress: Callable[[int], None] = lambda come: None) -> list[Host]:
        """Waits until so many have called, and listens no more. Raises UserError when they have not in time."""
        come: list[Host] = []
        thread = threading.Thread(target=self._accept, args=(number, come), name="dyno-hosts", daemon=True)
        thread.start()
        deadline = time.monotonic() + timeout_s
        while thread.is_alive() and time.monotonic() < deadline:
            thread.join(TICK_S)
            progress(len(come))
        self.listener.close()
        if len(come) == number:
            return come
        for host in come:
            host.end()
        raise UserError(f"load_hosts: {len(come)} of {number} came within {timeout_s:g} s: are as many workers in the "
                        f"pool, and do they reach {self.address[0]}:{self.address[1]}?")

    def _accept(self, number: int, come: list[Host]) -> None:
        while len(come) < number:
            try:
                connection = self.listener.accept()
                come.append(Host(connection, str(json.loads(connection.recv_bytes()))))
            except (AuthenticationError, EOFError, ConnectionError, ValueError):
                continue  # somebody else's call
            except OSError:
                return  # closed: time is over


@contextlib.contextmanager
def gathering(host: str, port: int = 0) -> Iterator[Gathering]:
    """Listens on an address of this machine while the `with` lasts. Raises UserError when that is not possible."""
    ticket = secrets.token_hex(16)
    try:
        listener = Listener((host, port), authkey=ticket.encode())
    except OSError as error:
        raise UserError(f"load_hosts: cannot listen on {host}: {error.strerror}") from None
    with listener:
        yield Gathering((host, int(listener.address[1])), ticket, listener)


class Host:
    """A machine that takes part, as the coordinator has it."""

    def __init__(self, pipe: Connection, name: str) -> None:
        self.pipe, self.name = pipe, name
        self.measured, self.progress = False, (0, 0, 0)
        self.heard_s = time.monotonic()

    def tell(self, word: str, said: object = None, frame: pl.DataFrame | None = None) -> None:
        """Sends a message. Raises DynoError when the host is gone."""
        try:
            tell(self.pipe, word, said, frame)
        except OSError as error:
            raise DynoError(f"load host {self.name} is gone: {error.strerror or error}") from None

    def hear(self, wanted: str, within_s: float = SILENCE_S) -> Any:
        """Takes what comes until that word, and returns what came with it. Raises what the host says went wrong there,
        and DynoError when it is gone or says nothing for so long."""
        while True:
            word, said = self._next(within_s)
            if word == "error":
                kind = UserError if said["kind"] == "UserError" else DynoError
                raise kind(f"load host {self.name}: {said['text']}")
            if word == "progress":
                self.measured, *counts = said
                self.progress = (counts[0], counts[1], counts[2])
            if word == wanted:
                return said

    def _next(self, within_s: float) -> tuple[str, Any]:
        try:
            if not self.pipe.poll(within_s):
                raise TimeoutError
            self.heard_s = time.monotonic()
            return hear(self.pipe)
        except (EOFError, OSError):
            raise DynoError(f"load host {self.name} is gone: it ended, or the link to it broke") from None

    def related(self) -> Related:
        """Relates its clock to this machine's."""
        def ask() -> tuple[int, int]:
            self.tell("clock")
            now, wall = self.hear("clock")
            return now, wall
        return clocks.relate(ask)

    def frame(self) -> pl.DataFrame:
        """The frame that follows a message."""
        return frame_from(self.pipe)

    def end(self) -> None:
        """Lets it go; what it still does for this load it stops."""
        self.pipe.close()


@contextlib.contextmanager
def called(address: tuple[str, int], ticket: str, timeout_s: float) -> Iterator[Connection]:
    """On a host: a connection to the coordinator. Raises UserError when it cannot be reached."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            pipe = Client(address, authkey=ticket.encode())
            break
        except AuthenticationError:
            raise UserError(f"{address[0]}:{address[1]} is not the coordinator of this load") from None
        except (OSError, EOFError) as error:
            if time.monotonic() > deadline:
                raise UserError(f"the coordinator of this load does not answer at {address[0]}:{address[1]}: "
                                f"{error}") from None
            time.sleep(TICK_S)
    with pipe:
        pipe.send_bytes(json.dumps(socket.gethostname()).encode())
        yield pipe


def tell(pipe: Connection, word: str, said: object, frame: pl.DataFrame | None = None) -> None:
    """Sends a message, and a frame after it."""
    pipe.send_bytes(json.dumps([word, said]).encode())
    if frame is not None:
        buffer = io.BytesIO()
        frame.write_ipc(buffer, compression="zstd")
        pipe.send_bytes(buffer.getvalue())


def hear(pipe: Connection) -> tuple[str, Any]:
    """Takes the next message: its word, and what came with it."""
    word, said = json.loads(pipe.recv_bytes())
    return str(word), said


def frame_from(pipe: Connection) -> pl.DataFrame:
    """Takes the frame that follows a message."""
    return pl.read_ipc(pipe.recv_bytes())
