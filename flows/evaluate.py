"""The main job: expand, launch, measure, store, publish. One sub-run a setup; a failed launch never ends the sweep."""

from __future__ import annotations

import re
from pathlib import Path

from prefect import flow, get_run_logger, runtime, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed
from prefect.tasks import Task

from engines import launch
from engines._hardware import host_info
from flows import devices, preflight, reporting
from flows.calibrate import refit
from flows.measure import failure, measure_setup
from flows.publish import store
from flows.regressions import compared
from flows.report import Report
from models import experiment as experiments
from models import paths
from models.errors import BuildFailed, DynoError, EngineError
from models.experiment import Expansion, Experiment
from models.progress import Progress, silent
from models.records import HostInfo, Measurement
from models.specs import Setup, Trial
from warehouse import bundles

ATTEMPTS = 3
"""How often a run is begun again after its host went away; a host that dies of it each time will not get better."""
SHOWN = 1000
"""Points that Prefect's page of a run lists; the report and the explorer have all of them."""
_UNREACHED = re.compile(r"timed? ?out|connection (refused|reset|aborted|error)|name resolution|unreachable"
                        r"|resolve host", re.IGNORECASE)
_watcher: Progress = silent
_points = (0, 1)
"""Points finished and points to measure in this run."""


def watch(progress: Progress) -> None:
    """Sets who is told how far a flow in this process is; a callable is no parameter Prefect could store."""
    global _watcher
    _watcher = progress


def told(step: str, done: float | None = None, detail: str = "") -> None:
    """Tells whoever watches at this moment."""
    _watcher(step, done, detail)


def _network(_task: Task[..., object], _run: TaskRun, state: State[object]) -> bool:
    """Whether a build failed on its way to a registry: nothing was measured yet, so asking again is honest."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, BuildFailed) and bool(_UNREACHED.search(error.log_tail))


@task(name="provision", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[5, 30], retry_condition_fn=_network)
def provision(setup: Setup) -> None:
    """Builds or installs the engine and makes the checkpoint, both cached."""
    launch.prepare(setup, told)


@task(name="measure", cache_policy=NO_CACHE, retries=0)
def measure(setup: Setup, trials: list[Trial], home: Path, host: HostInfo, timeout_s: float,
            with_quality: bool, load_hosts: int) -> list[str]:
    """Launch, load and stop in one task: a live process is no task result, and an engine is never reused half-dead."""
    logger = get_run_logger()

    def stored(point: Measurement) -> None:
        global _points
        _points = (_points[0] + 1, _points[1])
        speed = point.summary.metrics.get("output_tokens_per_second", 0.0)
        logger.info("%s: %.0f tok/s, trust: %s (%s)", point.trial.label, speed, point.trust, point.trial_id)

    return measure_setup(setup, trials, home, host, timeout_s=timeout_s, progress=_point, on_trial=stored,
                         with_quality=with_quality, load_hosts=load_hosts)


def _point(step: str, done: float | None = None, detail: str = "") -> None:
    """Turns the share of one point into the share of all of them."""
    finished, total = _points
    share = (finished + (done or 0.0)) / total
    told(f"measuring {total} points", share, f"{step} · {detail}" if detail else step)


@flow(name="measure setup", flow_run_name="{label}", validate_parameters=False)
def one_setup(label: str, setup: Setup, trials: list[Trial], home: Path, host: HostInfo, timeout_s: float,
              with_quality: bool, load_hosts: int = 0) -> list[str]:
    """One engine launch and every point on it. A failure is stored and raised."""
    try:
        provision(setup)
    except EngineError as error:
        bundles.write_failure(home, failure(setup, "build", error), None)
        raise
    return measure(setup, trials, home, host, timeout_s, with_quality, load_hosts)


def _run_name() -> str:
    given = runtime.flow_run.parameters.get("experiment")
    return f"evaluate {given.name if isinstance(given, Experiment) else (given or {}).get('name', '')}"


@flow(name="evaluate", flow_run_name=_run_name, validate_parameters=False)
def evaluate(experiment: Experiment, source: str = "Prefect", again: preflight.Again = "none",
             home: Path | None = None) -> Report:
    """Measures what an experiment asks for and has no bundle yet, then publishes.

    One evaluation at a time on a machine: it waits for others. Pool `cpu` leaves this machine's GPUs alone.

    Args:
        experiment: as an experiment file has it (`dyno evaluate --help`).
        source: where it came from, for messages.
        again: what is measured again although it has a result: nothing, points that were disturbed, or all.
        home: where results are kept; empty: DYNO_HOME of the worker.
    """
    if (runtime.flow_run.run_count or 1) > ATTEMPTS:
        raise DynoError(f"given up: begun {ATTEMPTS} times, and its host went away each time")
    home = Path(home or paths.home())
    experiment = _for_this_pool(experiments.parse(_plain(experiment), source))
    expansion = preflight.plan(experiment, source)
    for skip in expansion.skipped:
        get_run_logger().warning("cannot be measured: %s: %s: %s", skip.label, skip.field, skip.reason)
    with devices.alone((s for s, _ in expansion.by_setup()), _waits):
        report = _measure_all(experiment, expansion, home, again)
    report.unforeseen = [one.text for one in refit(home).surprises]
    if report.measured:
        report.changed = [f"{one.verdict}: {one.text}" for one in compared(home, report.measured).changed]
    _artifact(experiment.name, expansion, home)
    reporting.publish(experiment, source, expansion, home)
    return _ended(report)  # type: ignore[return-value]  # a caller gets the report: Prefect takes it out of the state


def _ended(report: Report) -> State[Report]:
    return Completed(name="Incomplete" if report.failed else "Completed", message=report.summary, data=report)


def _plain(experiment: object) -> object:
    """A run that a server started has JSON where a call has the record."""
    return experiment.model_dump(mode="json", exclude_none=True) if isinstance(experiment, Experiment) else experiment


def _for_this_pool(experiment: Experiment) -> Experiment:
    cpu_only = runtime.deployment.name == "cpu" and experiment.hardware == "this"
    return experiment.model_copy(update={"hardware": "cpu"}) if cpu_only else experiment


def _waits(step: str, done: float | None = None, detail: str = "") -> None:
    get_run_logger().info("%s: %s", step, detail)
    told(step, done, detail)


def _measure_all(experiment: Experiment, expansion: Expansion, home: Path, again: preflight.Again) -> Report:
    """What lies in bundles is looked up only now: another evaluation may have measured it while this one waited."""
    todo = preflight.pending(expansion, home, again)
    report = Report(experiment.name, reused=len(expansion.trials) - len(todo.trials), skipped=expansion.skipped)
    global _points
    _points = (0, max(1, len(todo.trials)))
    host = host_info()
    if report.reused:
        store(home)  # a run that was killed may have left bundles that no setup below looks at
    for setup, trials in todo.by_setup():
        state = one_setup(setup.label, setup, trials, home, host, experiment.launch_timeout_s,
                          experiment.quality, experiment.load_hosts, return_state=True)
        _note(report, setup, state)
        store(home, setup.hardware, [trial.trial_id for trial in trials])
    return report


def _note(report: Report, setup: Setup, state: State[list[str]]) -> None:
    result = state.result(raise_on_failure=False)
    if isinstance(result, DynoError):
        report.failed[setup.label] = str(result)
        told("failed", None, f"{setup.label}: {str(result).splitlines()[0]}")
    elif isinstance(result, BaseException):
        raise result
    else:
        report.measured += result


def _artifact(name: str, expansion: Expansion, home: Path) -> None:
    """A table of the points in Prefect's own UI."""
    there = bundles.present(home)
    done = [t.trial_id for t in expansion.trials if t.trial_id in there]
    rows = [bundles.read_measurement(home, trial_id) for trial_id in done[:SHOWN]]
    table = [{"trial_id": m.trial_id, "setup": m.trial.setup.label, "workload": m.trial.workload.label,
              "load": m.trial.load.label, "trust": m.trust,
              **{k: round(m.summary.metrics[k], 2) for k in ("ttft_ms_p50", "ttft_ms_p95", "tpot_ms_p50", "tpot_ms_p95",
                                                             "output_tokens_per_second") if k in m.summary.metrics}}
             for m in rows]
    create_table_artifact(key=f"evaluate-{name.lower().replace('_', '-').replace('.', '-')}", table=table,
                          description=f"{len(rows)} of {len(done)} points of {name}")
