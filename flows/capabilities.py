"""What every engine in engines/ can do, gathered from the adapters. Starts nothing and is quick."""

from __future__ import annotations

from collections.abc import Iterator

import engines
from engines._contract import FEATURES, Adapter, Capabilities
from engines._selfcheck import HARDWARE, RUNTIMES, SOURCES, Result
from engines._selfcheck import run as check_adapter
from models.capabilities import Capability, EngineAbout, Kind
from models.specs import Batching

_RUNTIMES = {"venv": "built or installed into dyno's cache", "path": "a program already here",
             "docker": "the project's official image, or one named", "kubernetes": "a pod of the same image",
             "endpoint": "something that already serves"}
_SOURCES = {"synthetic": "random weights at a real shape", "file": "a checkpoint on this disk",
            "hub": "a repository on the Hugging Face Hub"}


def of(name: str | None = None) -> list[EngineAbout]:
    """Every server of every engine, or those of one engine or variant. Raises UserError for a name that is neither."""
    found = [_about(engines.adapter(engine), variant) for engine in engines.names()
             for variant in engines.adapter(engine).variants or (None,)]
    if name is None:
        return found
    named = [about for about in found if name in (about.engine, about.variant)]
    if not named:
        engines.adapter(name)  # says which there are
    return named


def check(name: str) -> list[Result]:
    """Holds an engine to the contract's own checks (engines._selfcheck). Raises UserError for an unknown name."""
    return check_adapter(engines.adapter(name))


def _about(adapter: Adapter, variant: str | None) -> EngineAbout:
    mine = {check: why for check, why in adapter.known_failures.items()
            if check.partition(": ")[0] not in adapter.variants or check.startswith(f"{variant}: ")}
    return EngineAbout(engine=adapter.name, variant=variant, pinned_version=adapter.pinned_version(),
                       installed=dict(adapter.installed()), known_failures=mine,
                       capabilities=tuple(_each(adapter.name, variant, adapter.capabilities(variant))))


def _each(engine: str, variant: str | None, can: Capabilities) -> Iterator[Capability]:
    """Kinds whose whole vocabulary is known list what is missing too."""
    fields = {name: field.description or "" for name, field in Batching.model_fields.items()}
    listed: list[tuple[Kind, dict[str, str], frozenset[str]]] = [
        ("quantization", dict.fromkeys(can.quantizations, ""), frozenset(can.quantizations)),
        ("kv_type", dict.fromkeys(can.kv_types, ""), frozenset(can.kv_types)),
        ("feature", FEATURES, can.features), ("batching", fields, can.batching),
        ("hardware", dict.fromkeys(HARDWARE, ""), can.hardware),
        ("runtime", {name: _RUNTIMES[name] for name in RUNTIMES}, can.runtimes),
        ("model_source", {name: _SOURCES[name] for name in SOURCES}, can.model_sources)]
    for kind, known, had in listed:
        for name, about in known.items():
            yield Capability(engine=engine, variant=variant, kind=kind, name=name, supported=name in had, about=about,
                             reason=can.reasons.get(name, ""))
