"""The main job: expand, launch, measure, store, publish. One sub-run a setup; a failed launch never ends the sweep."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from engines import launch
from engines._hardware import host_info
from flows import preflight, reporting
from flows.calibrate import refit
from flows.measure import failure, measure_setup
from flows.publish import store
from flows.report import Report
from models import experiment as experiments
from models.errors import DynoError, EngineError
from models.experiment import Expansion
from models.progress import Progress, silent
from models.records import HostInfo, Measurement
from models.specs import Setup, Trial
from warehouse import bundles

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


@task(name="provision", cache_policy=NO_CACHE)
def provision(setup: Setup, home: Path) -> None:
    """Builds or installs the engine and makes the checkpoint, both cached. A failure is stored and raised."""
    try:
        launch.prepare(setup, told)
    except EngineError as error:
        bundles.write_failure(home, failure(setup, "build", error), None)
        raise


@task(name="measure", cache_policy=NO_CACHE, retries=0)
def measure(setup: Setup, trials: list[Trial], home: Path, host: HostInfo, timeout_s: float,
            with_quality: bool) -> list[str]:
    """Launch, load and stop in one task: a live process is no task result, and an engine is never reused half-dead."""
    logger = get_run_logger()

    def stored(point: Measurement) -> None:
        global _points
        _points = (_points[0] + 1, _points[1])
        speed = point.summary.metrics.get("output_tokens_per_second", 0.0)
        logger.info("%s: %.0f tok/s, trust: %s (%s)", point.trial.label, speed, point.trust, point.trial_id)

    return measure_setup(setup, trials, home, host, timeout_s=timeout_s, progress=_point, on_trial=stored,
                         with_quality=with_quality)


def _point(step: str, done: float | None = None, detail: str = "") -> None:
    """Turns the share of one point into the share of all of them."""
    finished, total = _points
    share = (finished + (done or 0.0)) / total
    told(f"measuring {total} points", share, f"{step} · {detail}" if detail else step)


@flow(name="measure setup", flow_run_name="{label}", validate_parameters=False)
def one_setup(label: str, setup: Setup, trials: list[Trial], home: Path, host: HostInfo, timeout_s: float,
              with_quality: bool) -> list[str]:
    """One engine launch and every point on it."""
    provision(setup, home)
    return measure(setup, trials, home, host, timeout_s, with_quality)


@flow(name="evaluate", flow_run_name="evaluate {name}", validate_parameters=False)
def evaluate(name: str, source: str, raw: dict[str, object], home: Path,
             again: preflight.Again = "none") -> Report:
    """Measures what an experiment (plain data, as in its file) asks for and has no bundle yet, then publishes."""
    logger = get_run_logger()
    experiment = experiments.parse(raw, source)
    expansion = preflight.plan(experiment, source)
    todo = preflight.pending(expansion, home, again)
    report = Report(name, reused=len(expansion.trials) - len(todo.trials), skipped=expansion.skipped)
    for skip in expansion.skipped:
        logger.warning("cannot be measured: %s: %s: %s", skip.label, skip.field, skip.reason)
    global _points
    _points = (0, max(1, len(todo.trials)))
    host = host_info()
    for setup, trials in todo.by_setup():
        state = one_setup(setup.label, setup, trials, home, host, experiment.launch_timeout_s,
                          experiment.quality, return_state=True)
        _note(report, setup, state)
        store(home, setup.hardware)
    report.unforeseen = [one.text for one in refit(home).surprises]
    _artifact(name, expansion, home)
    reporting.publish(experiment, source, expansion, home)
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
    rows = [bundles.read_measurement(home, t.trial_id) for t in expansion.trials if t.trial_id in bundles.present(home)]
    table = [{"trial_id": m.trial_id, "setup": m.trial.setup.label, "workload": m.trial.workload.label,
              "load": m.trial.load.label, "trust": m.trust,
              **{k: round(m.summary.metrics[k], 2) for k in ("ttft_ms_p50", "ttft_ms_p95", "tpot_ms_p50", "tpot_ms_p95",
                                                             "output_tokens_per_second") if k in m.summary.metrics}}
             for m in rows]
    create_table_artifact(key=f"evaluate-{name.lower().replace('_', '-').replace('.', '-')}", table=table,
                          description=f"Points of {name}")
