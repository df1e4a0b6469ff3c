"""One setup measured: launch, load point after point, stop. No Prefect here: this is what its task runs."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from engines import launch
from engines.launch import Engine
from models.errors import EngineError
from models.progress import Progress, silent
from models.records import Failure, HostInfo, Measurement
from models.specs import Setup, Trial
from models.summary import summarise
from models.verdicts import judge
from warehouse import bundles
from workloads import control, driver, prompts, schedule
from workloads.telemetry import Sampler

Stage = Literal["build", "checkpoint", "launch", "load"]


def measure_setup(setup: Setup, trials: Sequence[Trial], home: Path, host: HostInfo, *, timeout_s: float = 600.0,
                  progress: Progress = silent,
                  on_trial: Callable[[Measurement], None] | None = None) -> list[str]:
    """Launches a setup once and measures its trials, each stored as a bundle before the next begins.

    Returns the trial_ids measured. An engine that does not come up, or dies under load, is stored as a failure with
    its log and raised as EngineError; what was finished before stays.
    """
    logs = home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{setup.setup_id}-{time.time_ns()}.log"
    done: list[str] = []
    stage: Stage = "launch"
    try:
        with launch.launch(setup, log, progress, timeout_s=timeout_s) as engine:
            stage = "load"
            words = prompts.learn(engine.endpoint)
            for trial in trials:
                progress(trial.label)
                measurement = measure_trial(trial, engine, words, home, host, log, progress)
                done.append(trial.trial_id)
                if on_trial:
                    on_trial(measurement)
    except EngineError as error:
        bundles.write_failure(home, failure(setup, stage, error), log)
        raise
    finally:
        log.unlink(missing_ok=True)
    return done


def measure_trial(trial: Trial, engine: Engine, words: prompts.Vocabulary, home: Path, host: HostInfo, log: Path,
                  progress: Progress) -> Measurement:
    """Drives one trial and writes its bundle. Raises EngineDied when the engine was gone at the end."""
    plan = schedule.plan(trial.workload, trial.load, trial.seed)
    bodies = prompts.bodies(plan, trial.workload, engine.endpoint, words)
    start_ns = time.perf_counter_ns()
    with Sampler(engine.pids, engine.gauges, t0_ns=start_ns) as sampler:
        drive = driver.drive(plan, bodies, trial.workload, engine.endpoint, trial.load, t0_ns=start_ns,
                             should_stop=lambda: not engine.alive(),
                             on_progress=lambda n, of, tokens: progress(trial.label, n / of, f"{tokens} tokens"))
    engine.raise_if_dead()
    telemetry = sampler.frame()
    summary = summarise(drive.requests)
    verdicts = judge(drive.requests, telemetry, summary, trial.workload, trial.load, drive.client_cpu_s,
                     drive.duration_s, stopped_early=drive.truncated)
    measurement = Measurement(
        trial_id=trial.trial_id, setup_id=trial.setup.setup_id, trial=trial, run=engine.run, host=host,
        started_at=drive.started_at, duration_s=drive.duration_s, summary=summary, verdicts=verdicts,
        client_cpu_s=drive.client_cpu_s, dyno_version=version("llm-dyno"))
    bundles.write(home, measurement, drive.requests, telemetry, log, replace=True)
    control.settle(engine.endpoint)
    return measurement


def failure(setup: Setup, stage: Stage, error: EngineError) -> Failure:
    """The record of an engine that failed."""
    return Failure(setup_id=setup.setup_id, setup=setup, failed_at=dt.datetime.now(dt.UTC).isoformat(), stage=stage,
                   error=error.reason, command=error.command, exit_code=error.exit_code, log_tail=error.log_tail)
