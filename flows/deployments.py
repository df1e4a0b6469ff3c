"""What Prefect's server is told of dyno: pools, deployments (prefect.yaml) and automations, each made once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import httpx
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.flows import load_flow_from_entrypoint
from prefect.schedules import Cron, Interval, Schedule
from prefect.types.entrypoint import EntrypointType
from prefect.workers.process import ProcessWorker

from flows import automations, server
from flows.pools import WAREHOUSE
from models.errors import UserError

FILE = Path(__file__).with_name("prefect.yaml")


def ensure(url: str, pools: Iterable[str]) -> None:
    """Makes these pools, their deployments and dyno's automations on a server, and updates what another version of dyno
    made; what a person changed or paused since then stays. Raises UserError when the server does not answer."""
    with server.at(url):
        try:
            with get_client(sync_client=True) as client:
                for pool in pools:
                    _pool(client, pool)
                    for definition in definitions(pool):
                        _deploy(client, definition)
                automations.ensure(client)
        except httpx.TransportError as error:
            raise UserError(f"Prefect's server at {url} does not answer: {error}") from None


def definitions(pool: str) -> list[dict[str, Any]]:
    """The deployments of a pool, as prefect.yaml has them; a pool of one's own gets those of `cpu`."""
    listed: list[dict[str, Any]] = yaml.safe_load(FILE.read_text())["deployments"]
    mine = [d for d in listed if d["work_pool"]["name"] == pool]
    return mine or [{**d, "name": pool, "work_pool": {"name": pool}} for d in listed if d["work_pool"]["name"] == "cpu"]


def _pool(client: SyncPrefectClient, name: str) -> None:
    try:
        client.create_work_pool(WorkPoolCreate(
            name=name, type="process", description=f"dyno: {'where the warehouse lies' if name == WAREHOUSE else name}",
            base_job_template=ProcessWorker.get_default_base_job_template()))
    except ObjectAlreadyExists:
        return


def _deploy(client: SyncPrefectClient, definition: Mapping[str, Any]) -> None:
    made = cast(RunnerDeployment, load_flow_from_entrypoint(definition["entrypoint"]).to_deployment(
        name=definition["name"], tags=[*definition["tags"], definition["work_pool"]["name"]],
        description=definition.get("description"), parameters=definition.get("parameters"),
        schedules=[_schedule(s) for s in definition.get("schedules", ())], version=version("llm-dyno"),
        concurrency_limit=ConcurrencyLimitConfig(**limit) if (limit := definition.get("concurrency_limit")) else None,
        work_pool_name=definition["work_pool"]["name"], entrypoint_type=EntrypointType.MODULE_PATH))
    try:
        there = client.read_deployment_by_name(f"{made.flow_name}/{made.name}")
        if there.version == made.version:
            return
    except ObjectNotFound:
        pass
    made.apply()


def _schedule(given: Mapping[str, Any]) -> Schedule:
    if "cron" in given:
        return Cron(given["cron"], timezone=given.get("timezone"))
    return Interval(dt.timedelta(seconds=given["interval"]))
