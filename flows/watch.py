"""The scheduled flow that looks for releases: `dyno watch`, or the deployment `watch/releases`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows import releases as sources
from flows import server
from flows.releases import Known, places, rounds
from models import paths
from models.errors import DynoError, ExperimentError, UserError
from models.releases.policy import Follow
from models.releases.release import Release

NAME = "served"
AGAIN_S = 5.0
"""Before a server that went away is asked again."""


def file_of(home: Path) -> Path:
    """The policy, where nothing else is said."""
    return home / "watch.yaml"


@task(name="look", task_run_name="look: {label}", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[5, 30],
      retry_condition_fn=lambda _task, _run, state: isinstance(state.result(raise_on_failure=False), DynoError))
def look(label: str, entry: Follow, known: Known, warn: Callable[[str], None], beside: Path) -> list[Release]:
    """Asking a source again after it did not answer is honest: it only reads."""
    return list(sources.look(entry, known, warn, beside))


def _look(entry: Follow, known: Known, warn: Callable[[str], None], beside: Path) -> Iterable[Release]:
    return look(sources.label(entry), entry, known, warn, beside)


@flow(name="watch", flow_run_name="watch", validate_parameters=False)
def watch(policy: Path | None = None) -> list[dict[str, str]]:
    """Looks for new models, engine versions and prices, and starts what the policy wants.

    Args:
        policy: the policy's file; empty: watch.yaml in DYNO_HOME.
    """
    home, logger = paths.home(), get_run_logger()
    if policy is None and not file_of(home).exists():
        logger.info("nothing is followed: there is no %s (dyno watch --help shows its form)", file_of(home))
        return []
    done = rounds.once(Path(policy or file_of(home)), home, look=_look)
    for warning in done.warnings:
        logger.warning(warning)
    table = [{"release": one.release.label, "kind": one.release.kind, "state": one.state, "why": one.why,
              "estimate": one.estimate, "source": one.release.source} for one in done.changed]
    for row in table:
        logger.info("%s: %s %s", row["release"], row["state"], row["why"])
    if table:
        create_table_artifact(key="releases", table=table, description="Releases whose state changed")
    return table


def serve(policy: Path, home: Path, say: Callable[[str], None]) -> None:
    """Runs the flow at once and on the policy's interval, from Prefect's schedule, until it is stopped. A server that
    goes away is waited for. Raises UserError without a server, ExperimentError for a policy that is wrong."""
    minutes = places.policy(policy).every_minutes
    url = server.shared(home)
    if url is None:
        raise UserError("a schedule needs a Prefect server: `dyno up` starts one here, PREFECT_API_URL names one"
                        " elsewhere; `dyno watch --once` looks without any")
    with server.at(url):
        while True:
            try:
                watch(policy)  # at once: a schedule's first run is an interval away
                _served(policy, minutes)
                return
            except ExperimentError:
                raise
            except Exception as error:  # Prefect gives up after a while without its server; a watch does not
                say(f"{str(error) or type(error).__name__}; again in {AGAIN_S:g} s")
                time.sleep(AGAIN_S)


def _served(policy: Path, minutes: float) -> None:
    watch.serve(name=NAME, interval=timedelta(minutes=minutes), parameters={"policy": str(policy)},
                tags=["dyno", "watch"], limit=1, print_starting_message=False)
