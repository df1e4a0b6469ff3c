"""From a measurement to what serves the same without dyno: a program here or an image anywhere, with the flags that the
engine's adapter made for the measurement, and every difference to what was measured said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import engines
from engines import _hub_folder, _ports, launch
from engines._contract import Adapter, Checkpoint, Command, Install
from engines._deployable import FETCHED
from engines._hardware import detect
from engines._mounts import mounts
from engines._process import redacted, redacted_argv
from models.errors import Unsupported, UserError
from models.progress import Progress, silent
from models.records import EngineRun
from models.specs import ModelSpec, Setup

HIDDEN = "***"
_PLACE = re.compile(r"--(host(name)?|[\w-]*port|[\w-]*path|revision|model-url|model|model-id|model_path)")
"""Options that say where, not how: they are other ones in another place."""


@dataclass(frozen=True)
class Deployment:
    """What is to be started. `image` None: a program of this machine. Secrets are left out of argv and environment:
    `secrets` names the variables whose values whoever deploys has to give."""

    name: str
    setup: Setup
    image: str | None
    argv: tuple[str, ...]
    environment: dict[str, str]
    port: int
    mounts: tuple[str, ...]
    health_path: str | None
    fetches: bool
    """Whether the server fetches its model from the Hub by itself."""
    secrets: tuple[str, ...] = ()
    key_variable: str | None = None
    """The variable in which the server looks for the API key; None: there is no key, or it is an option."""
    key_option: str | None = None
    threads: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def gpus(self) -> int:
        """Accelerators that one instance has to itself."""
        hardware = self.setup.hardware
        wanted = max(hardware.accelerators, self.setup.engine.batching.tensor_parallel)
        return wanted if hardware.kind in ("cuda", "rocm") else 0


def here(setup: Setup, run: EngineRun, port: int, key: bool, progress: Progress = silent) -> Deployment | None:
    """The program that was measured, on this machine; None where it was in an image or is another machine's.

    What is not in the cache any more is made again, as for a measurement: raises what `launch.prepare` raises.
    """
    if setup.engine.runtime not in ("venv", "path") or detect(setup.hardware.kind) != setup.hardware:
        return None
    prepared = launch.prepare(setup, progress)
    if prepared is None:
        return None
    adapter = engines.adapter(setup.engine.engine)
    command = adapter.command(setup, prepared.install, prepared.checkpoint, port)
    return _deployment(adapter, setup, run, prepared.install, command, port, key, name=_name(setup),
                       notes=_model_notes(setup.model))


def contained(setup: Setup, run: EngineRun, port: int, key: bool, progress: Progress = silent) -> Deployment:
    """The same in the engine's image. A model of the Hub is fetched by the server itself; any other has to be made here
    first, and seen by the container. Raises UserError where this engine or hardware has no image."""
    adapter = engines.adapter(setup.engine.engine)
    if setup.engine.runtime == "endpoint":
        raise UserError(f"setup {setup.setup_id}: it was served by somebody else at {setup.engine.url}: dyno did not "
                        "start it and knows no command line")
    inside, notes = _in_image(adapter, setup, run)
    install = replace(adapter.contained(inside), host=_ports.ANY)
    checkpoint, served, more = _weights(adapter, setup, run, progress)
    command = adapter.command(inside, install, checkpoint, port)
    argv = tuple(served if word == str(checkpoint.path) else word for word in command.argv)
    environment = dict(command.environment)
    fetches = served != str(checkpoint.path) or bool(more)
    if fetches:
        environment |= {"HF_HOME": FETCHED, "HUGGINGFACE_HUB_CACHE": f"{FETCHED}/hub"}
    command = replace(command, argv=(*argv, *more), environment=environment)
    notes += [*_version_notes(setup, run, install), *_model_notes(setup.model)]
    seen = () if fetches else tuple(map(str, mounts(checkpoint.path)))
    notes += [f"the weights are expected at {checkpoint.path} where this runs"] if seen else []
    return _deployment(adapter, inside, run, install, command, port, key, name=_name(setup), notes=notes,
                       fetches=fetches, seen=seen)


def _in_image(adapter: Adapter, setup: Setup, run: EngineRun) -> tuple[Setup, list[str]]:
    """The setup as a pod has it: what dyno sets for measurements only, on this machine, is left out by the adapter."""
    measured_in_image = setup.engine.runtime in ("docker", "kubernetes")
    fields = {"runtime": "kubernetes"} if measured_in_image else {
        "runtime": "kubernetes", "path": None, "version": adapter.image_version(run.engine_version)}
    if run.image:
        fields["image"] = run.image
    batching = setup.engine.batching.model_copy(update={"threads": run.threads or setup.engine.batching.threads})
    engine = setup.engine.model_copy(update=fields | {"batching": batching})
    inside = setup.model_copy(update={"engine": engine})
    try:
        adapter.check(inside)
    except Unsupported as error:
        if error.field != "engine.batching.threads":
            raise UserError(f"{error}; `dyno deploy --format command` gives its command line on the machine where it "
                            "was measured") from None
        free = engine.model_copy(update={"batching": batching.model_copy(update={"threads": None})})
        note = f"measured with {run.threads} compute threads; {error.reason}"
        return setup.model_copy(update={"engine": free}), [note]
    return inside, []


def _weights(adapter: Adapter, setup: Setup, run: EngineRun,
             progress: Progress) -> tuple[Checkpoint, str, tuple[str, ...]]:
    """The checkpoint that flags are made by, how it is called in the image, and the words that fetch it there."""
    model = setup.model
    file = Path(model.file or "").name
    if model.source == "hub" and (not file or any(Path(word).name == file for word in run.argv)):
        local = _hub_folder.cached(model.repository or "", model.revision) if not file else None
        fetched = adapter.from_hub(model)
        return (Checkpoint(local or Path(fetched.path), run.model_bytes or 0, run.bits_per_weight or 0.0), fetched.path,
                fetched.words)
    checkpoint = adapter.checkpoint(setup, progress)
    return checkpoint, str(checkpoint.path), ()


def _deployment(adapter: Adapter, setup: Setup, run: EngineRun, install: Install, command: Command, port: int,
                key: bool, *, name: str, notes: Sequence[str], fetches: bool = False,
                seen: tuple[str, ...] = ()) -> Deployment:
    variant, argv = adapter.variant(setup.engine), _without_secrets(command.argv)
    blotted = {n: v for n, v in redacted(command.environment).items() if n not in adapter.for_measuring}
    secrets = tuple(n for n, value in blotted.items() if value == HIDDEN)
    public = {n: v for n, v in blotted.items() if n not in secrets}
    variable = adapter.key_variable(variant)
    return Deployment(
        name=name, setup=setup, image=install.image, argv=argv, environment=public, port=port, mounts=seen,
        health_path=adapter.health_path(variant), fetches=fetches, secrets=secrets,
        key_variable=variable if key else None,
        key_option=adapter.key_option if key and variable is None else None, threads=command.threads or run.threads,
        notes=(*notes, *_differences(run.argv, argv)))


def _name(setup: Setup) -> str:
    return f"dyno-{setup.engine.engine.replace('_', '-')}-{setup.setup_id[:8]}"


def _without_secrets(argv: Sequence[str]) -> tuple[str, ...]:
    """A key that a setup has among its own options is given anew by whoever deploys."""
    kept: list[str] = []
    for word in redacted_argv(argv):
        if word == HIDDEN:
            kept.pop()
        elif not word.endswith(f"={HIDDEN}"):
            kept.append(word)
    return tuple(kept)


def _version_notes(setup: Setup, run: EngineRun, install: Install) -> list[str]:
    version = setup.engine.runtime not in ("docker", "kubernetes") and engines.adapter(
        setup.engine.engine).image_version(run.engine_version)
    if run.image:
        return []
    if not version:
        return [f"measured was {run.engine_version}, which has no image of its own: {install.image} is another build,"
                " so pin it by digest and measure it (runtime: docker) before you rely on the figures"]
    return [f"measured was {run.engine_version} in runtime {setup.engine.runtime}; {install.image} is the same version"
            " as its project builds it, which was not measured"]


def _model_notes(model: ModelSpec) -> list[str]:
    if model.source == "synthetic":
        return [f"{model.name} has random weights: this serves for tests only"]
    return []


def _differences(measured: Sequence[str], argv: Sequence[str]) -> list[str]:
    """Options that are not those of the measurement, but for those that say where."""
    before, now = _options(redacted_argv(measured)), _options(argv)
    changed = [name for name in dict.fromkeys([*before, *now])
               if before.get(name) != now.get(name) and not _PLACE.fullmatch(name)]
    return [f"measured with {_said(name, before)}, here {_said(name, now)}" for name in changed] if measured else []


def _said(name: str, options: dict[str, tuple[str, ...]]) -> str:
    return " ".join((name, *options[name])) if name in options else f"no {name}"


def _options(argv: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    name = ""
    for word in argv:
        if re.match(r"--[a-z]", word):
            name, equals, value = word.partition("=")
            found[name] = (value,) if equals else ()
        elif name:
            found[name] += (word,)
    return found
