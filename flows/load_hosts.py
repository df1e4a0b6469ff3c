"""Load from several machines: Prefect's workers in the pool `load` each take a part of it (workloads.hosts).

    dyno worker --pool load --server URL        on each machine that is to send load
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from models.errors import UserError
from models.progress import Progress
from workloads import peers
from workloads.peers import Host

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.schemas.objects import FlowRun

POOL = "load"
COME_S = 180.0
"""A worker polls every few seconds, and starts Python and Prefect for each run."""


@contextlib.contextmanager
def gathered(number: int, home: Path, progress: Progress) -> Iterator[Sequence[Host]]:
    """Has so many workers take part in the loads inside the `with`, and lets them go; none where `number` is 0.

    This machine listens meanwhile, where they reach it: at DYNO_LOAD_LISTEN, else at the address that faces Prefect's
    server. Raises UserError without a server that workers have joined, or when they do not come.
    """
    if not number:
        yield ()
        return
    from flows import server

    url = server.shared(home)
    if url is None:
        raise UserError(f"load_hosts: {number} machines need a Prefect server that their workers have joined: set "
                        f"PREFECT_API_URL, and on each of them: dyno worker --pool {POOL} --server URL")
    come: list[Host] = []
    with server.at(url), peers.gathering(os.environ.get("DYNO_LOAD_LISTEN") or _facing(url)) as gathering:
        try:
            runs = [_start(url, *gathering.address, gathering.ticket) for _ in range(number)]
            try:
                come = gathering.hosts(number, COME_S, partial(_said, progress, number))
            except BaseException:
                _cancel(runs)
                raise
            yield come
        finally:
            for host in come:
                host.end()


def _said(progress: Progress, number: int, come: int) -> None:
    progress("load hosts", come / number, f"{come} of {number} have come")


def _start(url: str, host: str, port: int, ticket: str) -> UUID:
    """The ticket is in the run's parameters: it is good for this load alone, and only until its hosts have come."""
    import httpx
    from prefect.deployments import run_deployment
    from prefect.exceptions import ObjectNotFound

    try:
        run = cast("FlowRun", run_deployment(f"load/{POOL}", parameters={"host": host, "port": port, "ticket": ticket},
                                             timeout=0, flow_run_name=f"load for {host}", as_subflow=False))
    except ObjectNotFound:
        raise UserError(f"{url} has no deployment load/{POOL}: no worker has joined that pool yet "
                        f"(dyno worker --pool {POOL} --server {url})") from None
    except httpx.HTTPError as error:
        raise UserError(f"Prefect's server at {url} does not answer: {error}") from None
    return run.id


def _cancel(runs: Sequence[UUID]) -> None:
    """What no worker took is taken by none later."""
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelled

    with contextlib.suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        for run in runs:
            client.set_flow_run_state(run, Cancelled(), force=True)


def _facing(url: str) -> str:
    """This machine's address on the way to Prefect's server; loopback where that is on this machine."""
    where = urlsplit(url)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # nothing is sent
        try:
            probe.connect((where.hostname or "127.0.0.1", where.port or 443))
        except OSError as error:
            raise UserError(f"load_hosts: no way to Prefect's server at {where.hostname} ({error}); DYNO_LOAD_LISTEN="
                            "ADDRESS says where load hosts reach this machine") from None
        address = str(probe.getsockname()[0])
    return "127.0.0.1" if ipaddress.ip_address(address).is_loopback else address
