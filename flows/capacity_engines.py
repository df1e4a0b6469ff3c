"""A capacity search on engines that dyno starts: each probe is a trial with a bundle, so none is measured twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from engines import launch
from engines._hardware import host_info
from flows import preflight
from flows.capacity import Found, Known, doubted, search, worth
from flows.measure import failure, measure_trial
from models import experiment as experiments
from models import slo
from models.errors import EngineError, Unsupported
from models.paths import home as dyno_home
from models.probing import Kind, Probe, probe
from models.progress import Progress
from models.records import HostInfo
from models.slo import Limit
from models.specs import Load, Setup, Trial, Workload
from warehouse import bundles, writer
from workloads import prompts
from workloads.interim import Now, Say


def search_file(options: dict[str, Any], progress: Progress, own_limits: bool) -> list[Found]:
    """Searches every setup and workload of an experiment file, in its order. A launch that fails is stored and said,
    and the others go on. own_limits: those of the file. Raises UserError for a file that cannot be used."""
    path = Path(options["file"])
    experiment = experiments.load(path)
    limits = slo.parse(experiment.limits if own_limits else options["slo"], stored=False)
    expansion = preflight.plan(experiment, str(path))
    home, host = dyno_home(), host_info()
    preflight.reachable(expansion, str(path))
    writer.ingest(home)
    found: list[Found] = []
    for setup, trials in expansion.by_setup():
        works = list({t.workload.model_dump_json(): t.workload for t in trials}.values())
        try:
            for one in _setup(setup, works, limits, options, home, host, progress, experiment.launch_timeout_s):
                found.append(one)
        except EngineError as error:
            found.append(Found(setup.label, limits, error=str(error), failed=True))
        except Unsupported as error:
            found.append(Found(setup.label, limits, error=str(error)))
    if any(one.probes for one in found):
        writer.ingest(home)
        writer.publish(home)
    found += [Found(skip.label, limits, error=f"{skip.field}: {skip.reason}") for skip in expansion.skipped]
    return found


def _setup(setup: Setup, works: Sequence[Workload], limits: tuple[Limit, ...], options: dict[str, Any], home: Path,
           host: HostInfo, progress: Progress, timeout_s: float) -> Iterator[Found]:
    """Launches a setup when the first probe asks for it: a search that the warehouse answers starts nothing."""
    log = home / "logs" / f"{setup.setup_id}-{time.time_ns()}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with _Lazy(setup, log, progress, timeout_s) as engine:
        try:
            for work in works:
                yield search(f"{setup.label} · {work.label}", work, limits,
                             _taker(setup, work, engine, home, host, log, progress), only=options["only"],
                             seed=options["seed"], max_s=options["max_seconds"], timeout_s=options["timeout"],
                             known=_known(setup, work, limits, home))
        except EngineError as error:
            bundles.write_failure(home, failure(setup, "load" if engine.running else "launch", error), log)
            raise
        finally:
            engine.stop()
            log.unlink(missing_ok=True)


class _Lazy:
    """An engine that starts when it is first asked for."""

    def __init__(self, setup: Setup, log: Path, progress: Progress, timeout_s: float) -> None:
        self._setup, self._log, self._progress, self._timeout_s = setup, log, progress, timeout_s
        self._stack = ExitStack()
        self.running: tuple[launch.Engine, prompts.Vocabulary] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends it, if it runs."""
        self._stack.close()

    def get(self) -> tuple[launch.Engine, prompts.Vocabulary]:
        """The engine and words for its prompts. Raises EngineError when it does not come up, Unsupported when its speed
        would say nothing about it."""
        if self.running is None:
            launch.prepare(self._setup, self._progress)
            engine = self._stack.enter_context(launch.launch(self._setup, self._log, self._progress,
                                                             timeout_s=self._timeout_s))
            if why := engine.run.functional_only:
                raise Unsupported("engine", f"no capacity is looked for: {why}")
            self.running = engine, prompts.learn(engine.endpoint)
        return self.running


def _taker(setup: Setup, work: Workload, engine: _Lazy, home: Path, host: HostInfo, log: Path, progress: Progress,
           ) -> Callable[[Load, int, Callable[[Now], Say]], Known]:
    def take(load: Load, seed: int, judge: Callable[[Now], Say]) -> Known:
        trial = Trial(setup=setup, workload=work, load=load, seed=seed)
        where = bundles.folder(home) / trial.trial_id
        bundle = bundles.read(where) if trial.trial_id in bundles.present(home) else None
        reused = bundle is not None and not doubted(bundle.measurement.verdicts)
        if bundle is None or not reused:
            running, words = engine.get()
            measure_trial(trial, running, words, home, host, log, progress, judge_now=judge)
            bundle = bundles.read(where)
        return Known(bundle.requests, bundle.measurement.summary, bundle.measurement.verdicts,
                     bundle.measurement.duration_s, any(v.name == "hopeless" for v in bundle.measurement.verdicts),
                     reused, trial.trial_id)
    return take


def _known(setup: Setup, work: Workload, limits: tuple[Limit, ...], home: Path) -> list[Probe]:
    """Whole points of this setup and workload that were measured before, whatever for."""
    found = []
    for trial_id in sorted(bundles.present(home)):
        m = bundles.read_measurement(home, trial_id)
        load = m.trial.load
        plain = load.request_rate_end is None and load.arrivals == "poisson" and load.limits is None
        if m.setup_id != setup.setup_id or m.trial.workload != work or not plain:
            continue
        if any(v.severity == "fatal" for v in m.verdicts):
            continue
        requests = bundles.read(bundles.folder(home) / trial_id).requests
        kind: Kind = "concurrency" if load.concurrency else "request_rate"
        level = float(load.concurrency or load.request_rate or 0)
        found.append(probe(kind, level, requests, limits, m.summary.metrics, m.duration_s,
                           worth(kind, None, limits), reused=True, trial_id=trial_id))
    return found
