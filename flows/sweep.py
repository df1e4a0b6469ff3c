"""By the clock: every experiment that lies in DYNO_HOME/experiments is started on the pools that it names."""

from __future__ import annotations

import datetime as dt

from prefect import flow, get_run_logger, runtime

from flows import dispatch, preflight
from flows.pools import by_pool
from models import experiment as experiments
from models import paths
from models.errors import UserError


@flow(name="sweep", flow_run_name="sweep, again: {again}", validate_parameters=False)
def sweep(again: preflight.Again = "disturbed") -> list[str]:
    """Starts what lies in DYNO_HOME/experiments and returns the runs' ids; a file that is wrong stops no other.

    Args:
        again: what is measured again although it has a result: nothing, points that were disturbed, or all.
    """
    logger = get_run_logger()
    files = sorted((paths.home() / "experiments").glob("*.y*ml"))
    if not files:
        logger.info("nothing to do: no experiment file in %s", paths.home() / "experiments")
    started, wrong = [], []
    since = runtime.flow_run.scheduled_start_time or dt.datetime.now(dt.UTC)
    for file in files:
        try:
            for pool, experiment in by_pool(experiments.load(file)).items():
                started.append(dispatch.start(
                    experiment.model_dump(mode="json", exclude_none=True), file.name, pool or None, again=again,
                    key=f"{file.name} {pool} {since.isoformat()}", tags=["sweep"]))
        except UserError as error:
            logger.error("%s", error)
            wrong.append(str(error))
    if wrong:
        raise UserError("; ".join(wrong))
    return started
