"""A policy's file, and its pools as a decision needs them: their hardware, and their experiments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from engines import launch
from flows.catalogue import find_hardware
from models import experiment as experiments
from models.errors import DynoError, ExperimentError, UserError
from models.experiment import EngineEntry, Experiment
from models.releases import policy as policies
from models.releases.decide import Place, file_of
from models.releases.policy import Policy
from models.releases.release import Release, Seen, expected_hours
from models.specs import EngineSpec, HardwareSpec, ModelSpec, Setup


def policy(file: Path) -> Policy:
    """Reads a policy. Raises ExperimentError naming file, field and way out."""
    try:
        text = file.read_text()
    except FileNotFoundError:
        raise ExperimentError(str(file), "", "there is no such file: write one (`dyno watch --help` shows the form), or"
                              " name another with --policy") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError(str(file), "", f"cannot be read: {error}") from None
    return policies.parse(text, str(file))


def of(policy: Policy, file: Path, home: Path) -> list[Place]:
    """The pools of a policy's file. Raises ExperimentError naming the one whose hardware or experiment is wrong."""
    found = []
    for name, pool in policy.pools.items():
        try:
            machine = find_hardware(None if pool.hardware == "here" else pool.hardware, home)
            template = _template(file.parent, pool.experiment)
        except ExperimentError:
            raise
        except UserError as error:
            raise ExperimentError(str(file), f"pools.{name}", str(error)) from None
        hardware = machine.here or HardwareSpec(name=machine.name, kind="cuda" if machine.kind == "cuda" else "cpu",
                                                accelerator=machine.name, accelerators=machine.gpus)
        found.append(Place(pool=name, hardware=hardware, memory_bytes=machine.memory_bytes, gpus=machine.gpus,
                           experiment=template, engine_hours=pool.engine_hours))
    return found


def _template(beside: Path, name: str) -> Experiment:
    """An experiment file beside the policy, or one of those that come with dyno."""
    file = beside / Path(name).expanduser()
    bundled = resources.files("flows").joinpath("experiments", name)
    if file.is_file() or not bundled.is_file():
        return experiments.load(file)
    return experiments.parse(yaml.safe_load(bundled.read_text()), name)


def as_expected(places: Sequence[Place], seen: Iterable[Seen]) -> list[Place]:
    """With the hours that evaluations there have really taken."""
    known = list(seen)
    return [p.model_copy(update={"engine_hours": expected_hours(known, p.pool, p.engine_hours)}) for p in places]


def files(release: Release, places: Sequence[Place]) -> list[str]:
    """Those GGUF files of a repository that a pool's experiment asks for."""
    asked = (q for p in places for e in p.experiment.engines for q in e.quantizations or p.experiment.quantizations)
    return [file for q in asked if (file := file_of(release, q))]


def refusal(release: Release, entry: EngineEntry, quantization: str, place: Place) -> str | None:
    """Why the engine's adapter does not take this, whatever its batching; None: it does. Starts nothing."""
    reason = None
    for batching in entry.batching or place.experiment.batching:
        engine = EngineSpec(engine=entry.engine, variant=entry.variant, quantization=quantization, batching=batching,
                            version=_version(release, entry), kv_type=(entry.kv_types or place.experiment.kv_types)[0],
                            runtime=entry.runtime, path=entry.path, image=release.image or entry.image, url=entry.url,
                            extra_args=entry.extra_args, environment=entry.environment)
        try:
            launch.check(Setup(model=_model(release), engine=engine, hardware=place.hardware))
        except DynoError as error:
            reason = str(error)
        else:
            return None
    return reason


def _version(release: Release, entry: EngineEntry) -> str | None:
    return release.version if release.kind == "engine" and release.runtime == "venv" else entry.version


def _model(release: Release) -> ModelSpec:
    """The release as a model; of an engine's version, any that an engine takes."""
    if release.kind == "engine":
        return ModelSpec(name="any")
    stored: dict[str, Any] = release.model_dump(include={"content", "quantization"})
    stored["architecture"] = release.architecture
    if release.path:
        return ModelSpec(name=release.name, source="file", path=release.path, **stored)
    return ModelSpec(name=release.name, source="hub", repository=release.repository, revision=release.revision,
                     file=release.files[0] if release.files else None, **stored)
