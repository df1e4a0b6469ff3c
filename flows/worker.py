"""Prefect workers for some pools in one process: `python -m flows.worker POOL…`. It comes back when the server does."""

from __future__ import annotations

import asyncio
import platform
import sys

import anyio
from prefect.logging import get_logger
from prefect.workers.process import ProcessWorker

AGAIN_S = 5.0


async def serve(pool: str) -> None:
    """Takes one run of a pool after the other, for ever: a machine measures one thing at a time."""
    while True:
        try:
            await ProcessWorker(work_pool_name=pool, name=f"{platform.node()} ({pool})", limit=1).start(
                printer=get_logger("dyno").info)
        except Exception as error:  # Prefect gives up after a while without its server; a node does not
            get_logger("dyno").warning("worker of pool %s: %r; again in %g s", pool, error, AGAIN_S)
        await asyncio.sleep(AGAIN_S)


async def _all(pools: list[str]) -> None:
    async with anyio.create_task_group() as group:
        for pool in pools:
            group.start_soon(serve, pool)


if __name__ == "__main__":
    anyio.run(_all, sys.argv[1:])
