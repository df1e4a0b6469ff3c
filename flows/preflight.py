"""Everything that can be known before an engine starts: names resolved, impossible combinations found, work left."""

from __future__ import annotations

import functools
import os
from contextlib import suppress
from pathlib import Path
from typing import Literal

import engines
from engines import launch
from engines._checkpoints import resolve_model
from engines._hardware import detect
from flows import share
from models.errors import DynoError, PlaceError, Unsupported, UserError
from models.experiment import EngineEntry, Expansion, Experiment, Resolvers, expand
from models.progress import silent
from models.specs import HardwareSpec, Load, Trial, Workload
from models.verdicts import DISTURBED
from warehouse import bundles
from workloads import catalogue, schedule

Again = Literal["none", "disturbed", "all"]
"""What is measured again although it has a result: points with a verdict of DISTURBED, or all."""


def resolvers() -> Resolvers:
    """How names become records on this machine."""
    return Resolvers(
        model=resolve_model,
        workload=catalogue.load,
        hardware=_hardware,
        quantization=_quantization,
        engine_version=_version,
        check=launch.check,
        fits=_fits,
    )


def plan(experiment: Experiment, source: str) -> Expansion:
    """Expands an experiment for this machine. Raises ExperimentError, also when nothing at all is left to measure."""
    expansion = expand(experiment, resolvers(), source)
    if not expansion.trials and expansion.skipped:
        first = expansion.skipped[0]
        raise UserError(f"{source}: {first.field}: {first.reason} ({first.label}); nothing is left to measure")
    return expansion


def pending(expansion: Expansion, home: Path, again: Again = "none") -> Expansion:
    """Returns the same expansion without the trials that already have a bundle, but for those to be measured again.
    What others of a team have measured is fetched first, where their place can be reached."""
    if again != "all":
        with suppress(PlaceError):
            share.pull(home, only={t.trial_id for t in expansion.trials})
    done = bundles.present(home) if again != "all" else set()
    if again == "disturbed":
        done -= {t.trial_id for t in expansion.trials if t.trial_id in done and _disturbed(home, t.trial_id)}
    return Expansion([t for t in expansion.trials if t.trial_id not in done], expansion.skipped)


def _disturbed(home: Path, trial_id: str) -> bool:
    return any(v.name in DISTURBED for v in bundles.read_measurement(home, trial_id).verdicts)


def reachable(expansion: Expansion, source: str) -> None:
    """Raises UserError when what an experiment takes as given is not there: a URL that serves, a program's path."""
    for i, (setup, _) in enumerate(expansion.by_setup()):
        try:
            if setup.engine.runtime == "endpoint":
                with launch.launch(setup, Path(os.devnull)):
                    pass
            elif setup.engine.runtime == "path":
                engines.adapter(setup.engine.engine).install(setup, silent)
        except DynoError as error:
            raise UserError(f"{source}: {setup.label} (setup {i + 1}): {error}") from None


@functools.cache
def _hardware(name: str) -> HardwareSpec:
    if name not in ("this", "cpu"):
        raise UserError(f"{name!r} is not a hardware target known here; `this` is the machine the run is on, `cpu` the "
                        "same without its GPUs; other machines take part through their work pools (dyno start --help)")
    return detect("cpu" if name == "cpu" else None)

@functools.lru_cache(maxsize=4096)
def _longest_tokens(workload: str, load: str, seed: int) -> int:
    """Of a schedule, which setups and repeats have in common. As JSON: a record with a mapping in it has no hash."""
    return schedule.plan(Workload.model_validate_json(workload), Load.model_validate_json(load), seed).longest_tokens



def _quantization(name: str) -> str:
    adapters = [engines.adapter(e) for e in engines.names()]
    known = sorted({q for a in adapters for v in a.variants or (None,) for q in a.capabilities(v).quantizations})
    if name not in known:
        raise UserError(f"no engine knows the quantisation {name!r}; known are {', '.join(known)}")
    return name


def _version(entry: EngineEntry) -> str | None:
    adapter = engines.adapter(entry.engine)
    return entry.version or (adapter.pinned_version() if entry.runtime == "venv" else None)


def _fits(trial: Trial) -> None:
    shape, batching = trial.setup.model.architecture, trial.setup.engine.batching
    context = batching.context_tokens or (shape.context_tokens if shape else None)
    if context is None:
        return
    longest = _longest_tokens(trial.workload.model_dump_json(), trial.load.model_dump_json(), trial.seed)
    if longest > context:
        raise Unsupported("workloads", f"{trial.workload.label} asks for up to {longest} tokens, prompt and answer,"
                          f" but the context of {trial.setup.model.name} is {context}: lower the workload's scale, or"
                          " raise batching.context_tokens")
