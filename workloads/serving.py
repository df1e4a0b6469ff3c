"""Which processes of this machine serve at a URL, as far as it can be known without asking anybody."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable

import psutil

from workloads.address import Address

FORWARDERS = frozenset((
    "docker-proxy", "rootlessport", "rootlesskit", "slirp4netns", "pasta", "gvproxy", "com.docker.backend", "conmon",
    "kubectl", "ssh", "sshd", "socat", "nginx", "haproxy", "envoy", "caddy", "traefik"))
"""Programs that pass on what others answer: who these are is not known."""
LOOK_EVERY_S = 5.0
"""Looking through every process takes some milliseconds, which are taken from the load generator."""


def pids(url: str) -> Callable[[], list[int]]:
    """Returns what gives the processes that serve there: none where they are on another machine, cannot be seen, or
    only pass on what others answer. Raises UserError for a bad URL.

    They are whoever listens and all below it; below its parent too (TGI's launcher has router and shards side by side),
    unless that is init, or this process runs below it (the shell that started both).
    """
    roots = _roots(Address.parse(url))
    seen: list[int] = []
    next_s = 0.0

    def look() -> list[int]:
        nonlocal seen, next_s
        if roots and time.monotonic() >= next_s:
            seen = sorted({pid for root in roots for pid in _tree(root)})
            next_s = time.monotonic() + LOOK_EVERY_S
        return seen
    return look


def _roots(address: Address) -> list[psutil.Process]:
    ours = {p.pid for p in [psutil.Process(), *psutil.Process().parents()]}
    found = []
    for pid in _listeners(address):
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if pid in ours or process.name() in FORWARDERS:
                return []
            parent = process.parent()
            found.append(process if parent is None or parent.pid in ours | {0, 1} else parent)
    return found


def _listeners(address: Address) -> set[int]:
    """Processes that listen at an address of this machine; none where one of them is hidden from this user."""
    try:
        wanted = {str(info[4][0]) for info in socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)}
        here = {a.address.partition("%")[0] for each in psutil.net_if_addrs().values() for a in each}
        there = {one for one in wanted if one in here or one.startswith("127.")}
        there |= {"0.0.0.0", "::"} if there else set()  # noqa: S104
        listening = [c for c in psutil.net_connections("tcp") if there and c.status == psutil.CONN_LISTEN
                     and c.laddr and c.laddr.port == address.port and c.laddr.ip in there]
    except (OSError, psutil.Error):
        return set()
    found = {c.pid for c in listening}
    return set() if None in found else {pid for pid in found if pid}


def _tree(root: psutil.Process) -> list[int]:
    try:
        return [root.pid, *(child.pid for child in root.children(recursive=True))]
    except psutil.Error:
        return []
