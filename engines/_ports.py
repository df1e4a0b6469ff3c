"""Ports on this machine's loopback address: choosing a free one, and knowing whose a busy one is."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from typing import Any

import psutil

from models.errors import UserError

HOST = "127.0.0.1"
ANY = "0.0.0.0"  # noqa: S104  inside a container or pod, whose runtime says from where it can be reached
_TAKEN = re.compile(r"address already in use|couldn't bind|failed to bind|EADDRINUSE|port is already allocated",
                    re.IGNORECASE)


def free_port() -> int:
    """A port nobody listens on just now; somebody may take it before it is used, so a launch must be ready to retry."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def require_free(port: int, field: str) -> None:
    """Raises UserError naming the field, the port and, where it can be seen, the program that has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a connection still closing is no listener
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(f"{field}: port {port} is in use{_by_whom(port)}: choose another, or leave it out and dyno "
                            "finds a free one") from error


def answers(port: int, host: str = HOST) -> bool:
    """Whether somebody accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def listens(port: int, pids: Iterable[int]) -> bool:
    """Whether one of these processes listens on the port; believed where the system does not let us look."""
    for pid in pids:
        try:
            connections = psutil.Process(pid).net_connections("tcp")
        except psutil.AccessDenied:
            return True
        except psutil.Error:
            continue
        if any(_is_listener(c, port) for c in connections):
            return True
    return False


def says_taken(log: str) -> bool:
    """Whether a log says that the port could not be had."""
    return bool(_TAKEN.search(log))


def _is_listener(connection: Any, port: int) -> bool:
    return bool(connection.status == psutil.CONN_LISTEN and connection.laddr[1] == port)


def _by_whom(port: int) -> str:
    try:
        pid = next(c.pid for c in psutil.net_connections("tcp") if c.pid and _is_listener(c, port))
        return f" by {psutil.Process(pid).name()} (process {pid})"
    except (StopIteration, psutil.Error):
        return ""
