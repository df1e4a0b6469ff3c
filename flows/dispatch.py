"""Starts evaluations where their hardware is: as runs of Prefect's deployments, or in this process without a server."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, cast

import httpx

from flows import pools, preflight, server
from models import experiment as experiments
from models.errors import DynoError, UserError
from models.experiment import Experiment
from models.identity import Record
from models.paths import home

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

    from flows.report import Report


class Forgotten(UserError):
    """A run that the server knows nothing of: it was deleted, or the server's database is another one."""


class Outcome(Record):
    """How far an evaluation is that was started. detail: Prefect's last word on it."""

    state: Literal["waiting", "running", "evaluated", "failed"]
    detail: str = ""


_here: dict[str, Outcome] = {}
"""Evaluations that ran in this process; no server remembers them for long."""


def start(raw: object, source: str, pool: str | None = None, *, again: preflight.Again = "none",
          key: str | None = None, tags: Iterable[str] = ()) -> str:
    """Starts the evaluation of an experiment (plain data, as in its file) and returns its run's id at once.

    It goes to the workers of `pool` (None: the pool of hardware like this machine's) through Prefect's server. Without
    one, it is measured in this process before this returns. key: two starts with the same key are one run.
    Raises ExperimentError, and UserError where the server is away or knows no such pool.
    """
    experiment = experiments.parse(raw, source)
    url = server.shared(home())
    if url is None:
        return _in_process(experiment, source, again)
    return str(_submit(url, experiment, source, pool or pools.own(), again, key, tags).id)


def outcome(run_id: str) -> Outcome:
    """Asks how far a started evaluation is. Raises UserError where the server is away, Forgotten
    where it does not know it."""
    if run_id in _here:
        return _here[run_id]
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    url = server.shared(home())
    if url is None:
        raise UserError(f"run {run_id} was started on a Prefect server: set PREFECT_API_URL to its address")
    with server.at(url), get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(run_id).state  # type: ignore[arg-type]  # a UUID's text is taken, too
        except ObjectNotFound:
            raise Forgotten(f"{url} has no run {run_id}: it was deleted, or started on another server") from None
        except httpx.HTTPError as error:
            raise UserError(f"Prefect's server at {url} does not answer: {error}") from None
    kind = state.type.value if state else "SCHEDULED"
    detail = ": ".join(filter(None, (state.name, state.message))) if state else ""
    if kind in ("RUNNING", "CANCELLING", "PAUSED"):
        return Outcome(state="running", detail=detail)
    if kind == "COMPLETED":
        return Outcome(state="evaluated", detail=detail)
    if kind in ("FAILED", "CANCELLED"):
        return Outcome(state="failed", detail=detail)
    return Outcome(state="waiting", detail=detail)  # also a crashed one: it is started again (flows.automations)


def page(run_id: str, url: str) -> str:
    """The address of a run in Prefect's own pages."""
    return f"{url.removesuffix('/').removesuffix('/api')}/runs/flow-run/{run_id}"


def _submit(url: str, experiment: Experiment, source: str, pool: str, again: preflight.Again, key: str | None,
            tags: Iterable[str]) -> FlowRun:
    from prefect.deployments import run_deployment
    from prefect.exceptions import ObjectNotFound

    asked = {"experiment": experiment.model_dump(mode="json", exclude_none=True), "source": source, "again": again}
    with server.at(url):
        try:
            return cast("FlowRun", run_deployment(
                f"evaluate/{pool}", parameters=asked, timeout=0, as_subflow=False, idempotency_key=key,
                flow_run_name=f"evaluate {experiment.name}", tags=[*tags_of(experiment), *tags]))
        except ObjectNotFound:
            raise UserError(f"{url} has no deployment evaluate/{pool}: no worker has joined that pool yet "
                            f"(dyno worker --pool {pool} --server {url})") from None
        except httpx.HTTPError as error:
            raise UserError(f"Prefect's server at {url} does not answer: {error}") from None


def tags_of(experiment: Experiment) -> list[str]:
    """What people search runs by: experiment, engines, models by name."""
    models = [m if isinstance(m, str) else str(m.get("name", "")) for m in experiment.models]
    return sorted({experiment.name, *(e.engine for e in experiment.engines), *filter(None, models)})


def _in_process(experiment: Experiment, source: str, again: preflight.Again) -> str:
    run_id = f"here-{time.time_ns()}"
    try:
        _here[run_id] = _told(_measured(experiment, source, again))
    except DynoError as error:
        _here[run_id] = Outcome(state="failed", detail=str(error))
        raise
    return run_id


def _measured(experiment: Experiment, source: str, again: preflight.Again) -> Report:
    from flows.evaluate import evaluate
    from flows.run import run_evaluation
    from models.progress import silent

    if server.is_private():  # a flow that itself is recorded by this process's own server, which is there already
        return evaluate(experiment, source, again, home())
    return run_evaluation(experiment, source, preflight.plan(experiment, source), home(), again, None, silent)


def _told(report: Report) -> Outcome:
    if report.failed and not report.measured and not report.reused:
        return Outcome(state="failed", detail=report.summary)
    return Outcome(state="evaluated", detail=report.summary)
