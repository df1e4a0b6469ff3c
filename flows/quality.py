"""Quality beside speed: what each setup's engine thinks comes next, asked once for all setups that compute the same."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import polars as pl

import engines
from engines import launch
from engines.launch import Engine
from flows import preflight
from models import experiment as experiments
from models.errors import DynoError, EndpointError
from models.frames import DISTRIBUTIONS
from models.progress import Progress, silent
from models.records import Asked
from models.specs import Setup
from warehouse import distributions, writer
from workloads import distributions as instrument


@dataclass
class Report:
    """What became of the setups of a file, by their labels: asked now, known before, those that cannot be asked and
    those that failed, with the reason. numerics: ids of the first two."""

    asked: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    numerics: set[str] = field(default_factory=set)


def known(setup: Setup, home: Path) -> bool:
    """Whether one that computes the same was asked before."""
    return distributions.known(home, setup.numerics_id, instrument.TEXT)


def why_not(setup: Setup) -> str | None:
    """Why its engine cannot be asked, before anything is started; None where it can."""
    endpoint = engines.adapter(setup.engine.engine).endpoint(setup, setup.engine.url or "http://127.0.0.1", None)
    if endpoint.logprobs_max is not None:
        return None
    return endpoint.logprobs_refused or f"{setup.engine.label} tells no log-probabilities"


def ask(setup: Setup, engine: Engine, home: Path, progress: Progress = silent, fresh: bool = False) -> str | None:
    """Asks a running engine and stores what it told, unless it is known or `fresh`. Returns why it could not be asked,
    if so: that is no reason not to measure its speed."""
    if known(setup, home) and not fresh:
        return None
    try:
        told = instrument.ask(engine.endpoint, context_tokens=engine.run.context_tokens, progress=progress)
    except EndpointError as error:
        return str(error)
    asked = Asked(
        numerics_id=setup.numerics_id, setup=setup, variant=engine.run.variant,
        engine_version=engine.run.engine_version,
        text=instrument.TEXT, text_id=told.text_id, by=told.by, positions=len(told.next_tokens),
        next_tokens=told.next_tokens, top=told.top, asked_at=dt.datetime.now(dt.UTC).isoformat(),
        seconds=round(told.seconds, 3), dyno_version=version("llm-dyno"))
    frame = told.frame.with_columns(pl.lit(setup.numerics_id).alias("numerics_id")).select(*DISTRIBUTIONS)
    distributions.write(home, asked, frame)
    return None


def ask_file(path: Path, home: Path, progress: Progress = silent, fresh: bool = False) -> Report:
    """Starts each setup of an experiment file that is not known yet, only to ask it, and publishes what it told.

    A launch that fails is said, and the others go on. Raises UserError for a file that cannot be used.
    """
    experiment = experiments.load(path)
    expansion = preflight.plan(experiment, str(path))
    report = Report()
    for setup in {setup.numerics_id: setup for setup, _ in expansion.by_setup()}.values():
        if not fresh and known(setup, home):
            report.known.append(setup.label)
        elif reason := why_not(setup):
            report.left_out[setup.label] = reason
            continue
        elif reason := _started(setup, home, experiment.launch_timeout_s, progress, fresh):
            report.failed[setup.label] = reason
            continue
        else:
            report.asked.append(setup.label)
        report.numerics.add(setup.numerics_id)
    report.left_out |= {skip.label: f"{skip.field}: {skip.reason}" for skip in expansion.skipped}
    if report.asked or not writer.is_published(home):
        writer.ingest(home)
        writer.publish(home)
    return report


def _started(setup: Setup, home: Path, timeout_s: float, progress: Progress, fresh: bool) -> str | None:
    """Returns what went wrong, if anything."""
    log = home / "logs" / f"{setup.setup_id}-{time.time_ns()}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        progress(f"starting {setup.label}")
        with launch.launch(setup, log, progress, timeout_s=timeout_s) as engine:
            return ask(setup, engine, home, progress, fresh)
    except DynoError as error:
        return str(error)
    finally:
        log.unlink(missing_ok=True)
