"""A container or pod, seen from the `with` that owns it; a process beside dyno keeps it (see `_keeper`)."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engines import _ports, _running
from engines._process import Process, supervise

GRACE_S = 60.0
"""Seconds that a keeper has to remove what it keeps: a daemon or an API server is asked for it."""


@contextlib.contextmanager
def keep(spec: Mapping[str, Any], log_path: Path, *, label: str, command: str, seen: bool) -> Iterator[Kept]:
    """Has `spec` started and kept for as long as the `with`; its log is appended to `log_path`. `seen`: its processes
    and its port are on this machine, in this process's sight."""
    mine, theirs = socket.socketpair()
    with mine, contextlib.ExitStack() as owned:
        owned.enter_context(theirs)
        argv = [sys.executable, "-m", "engines._keeper", str(theirs.fileno())]
        process = owned.enter_context(supervise(argv, log_path=log_path, grace_s=GRACE_S,
                                                pass_fds=(theirs.fileno(),)))
        mine.sendall(json.dumps(spec).encode() + b"\n")
        mine.setblocking(False)
        yield Kept(process, mine, label, command, seen)


class Kept:
    """Made by `keep` only."""

    def __init__(self, process: Process, talk: socket.socket, label: str, command: str, seen: bool) -> None:
        self.log_path = process.log_path
        self._label, self._command, self._seen = label, command, seen
        self._process, self._talk = process, talk
        self._pending = b""
        self._state: dict[str, Any] = {}

    @property
    def exit_code(self) -> int | None:
        """Of the program inside."""
        code: int | None = self._told("exit")
        return code

    @property
    def label(self) -> str:
        return self._label

    @property
    def command(self) -> str:
        return self._command

    @property
    def started_s(self) -> float | None:
        began: float | None = self._told("started_s")
        return began

    @property
    def image(self) -> str | None:
        image: str | None = self._told("image")
        return image

    @property
    def ending(self) -> str:
        if (error := self._told("error")) is not None:
            return str(error)
        if said := self._told("ending"):
            return str(said)
        if self._process.exit_code is not None and self.exit_code is None:
            return "the process that kept it ended"
        return _running.of_signal(code - 128) if (code := self.exit_code or 0) > 128 else ""

    def alive(self) -> bool:
        ended = self._told("exit") is not None or self._told("error") is not None
        return not ended and self._process.alive()

    def pids(self) -> list[int]:
        pid, mark = self._told("pid"), self._told("id")
        return _running.tree(pid, mark) if self._seen and pid and mark else []

    def address(self, port: int) -> tuple[str, int] | None:
        host, own = self._told("address") or (_ports.HOST, port)
        return (host, own) if self.started_s is not None else None

    def owns(self, port: int) -> bool:
        pids = self.pids()
        return not pids or _ports.listens(port, pids)

    def log_tail(self, lines: int = 20) -> str:
        return self._process.log_tail(lines)

    def _told(self, name: str) -> Any:
        """What the keeper said last of it."""
        with contextlib.suppress(OSError):  # nothing new, or closed
            while data := self._talk.recv(65536):
                *complete, self._pending = (self._pending + data).split(b"\n")
                for line in complete:
                    self._state |= json.loads(line)
        return self._state.get(name)
