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
from flows import quality
from flows.load_hosts import gathered
from flows.point import Target, take
from models.energy import Kind
from models.errors import EngineError
from models.progress import Progress, silent
from models.records import Failure, HostInfo, Measurement, Verdict
from models.specs import Setup, Trial
from models.verdicts import of_run
from warehouse import bundles
from workloads import control, prompts
from workloads.interim import Judge, Say
from workloads.peers import Host

Stage = Literal["build", "checkpoint", "launch", "load"]


def measure_setup(setup: Setup, trials: Sequence[Trial], home: Path, host: HostInfo, *, timeout_s: float = 600.0,
                  progress: Progress = silent, on_trial: Callable[[Measurement], None] | None = None,
                  with_quality: bool = False, load_hosts: int = 0) -> list[str]:
    """Launches a setup once and measures its trials, each stored as a bundle before the next begins. with_quality: asks
    it for next-token distributions before the load, unless one that computes the same was asked before. load_hosts: so
    many other machines send the load (flows.load_hosts).

    Returns the trial_ids measured. An engine that does not come up, or dies under load, is stored as a failure with
    its log and raised as EngineError; what was finished before stays.
    """
    logs = home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{setup.setup_id}-{time.time_ns()}.log"
    done: list[str] = []
    stage: Stage = "launch"
    try:
        with (gathered(load_hosts, home, progress) as senders,
              launch.launch(setup, log, progress, timeout_s=timeout_s) as engine):
            stage = "load"
            words = prompts.learn(engine.endpoint)
            if with_quality and (reason := quality.ask(setup, engine, home, progress)):
                progress("quality not known", None, reason)
            for trial in trials:
                progress(trial.label)
                measurement = measure_trial(trial, engine, words, home, host, log, progress, load_hosts=senders)
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
                  progress: Progress, judge_now: Judge | None = None,
                  load_hosts: Sequence[Host] = ()) -> Measurement:
    """Drives one trial and writes its bundle. Raises EngineDied when the engine was gone at the end.

    judge_now: of a capacity search. What it breaks off is stored with a fatal verdict, so that it feeds no answer.
    """
    control.forget(engine.endpoint)
    target = Target(engine.endpoint, words, pids=engine.pids, gauges=engine.gauges, alive=engine.alive,
                    meters=_meters(trial.setup))
    point = take(target, trial.workload, trial.load, seed=trial.seed, repeat=trial.repeat, label=trial.label,
                 progress=progress, judge_now=judge_now, until=0 if judge_now else None, steady=judge_now is None,
                 load_hosts=load_hosts)
    engine.raise_if_dead()
    measurement = Measurement(
        trial_id=trial.trial_id, setup_id=trial.setup.setup_id, trial=trial, run=engine.run, host=host,
        started_at=point.drive.started_at, duration_s=point.drive.duration_s, summary=point.summary,
        verdicts=(*of_run(engine.run), *point.verdicts, *_broken_off(point.drive.judged)), warmup=point.warmup,
        client_cpu_s=point.drive.client_cpu_s, load_hosts=point.drive.hosts, dyno_version=version("llm-dyno"))
    bundles.write(home, measurement, point.requests, point.telemetry, log, replace=True)
    control.settle(engine.endpoint)
    return measurement


def _meters(setup: Setup) -> Kind | None:
    """What tells the energy of an engine on this machine; None for one elsewhere."""
    if setup.engine.runtime in ("endpoint", "kubernetes"):
        return None
    kinds: dict[str, Kind] = {"cpu": "rapl", "cuda": "nvml"}
    return kinds.get(setup.hardware.kind)


def _broken_off(said: Say) -> tuple[Verdict, ...]:
    if said not in ("hopeless", "clear"):
        return ()
    why = "the limits of a capacity search could no longer be kept" if said == "hopeless" else (
        "it was clear that the limits of a capacity search are kept")
    return (Verdict(name=said, severity="fatal", detail=f"broken off: {why}"),)


def failure(setup: Setup, stage: Stage, error: EngineError) -> Failure:
    """The record of an engine that failed."""
    return Failure(setup_id=setup.setup_id, setup=setup, failed_at=dt.datetime.now(dt.UTC).isoformat(), stage=stage,
                   error=error.reason, command=error.command, exit_code=error.exit_code, log_tail=error.log_tail)
