"""What an engine's file must say: the seam that a new engine is written against.

An adapter is stateless. Its life in one launch: `check` the setup, `install` the program and get the `checkpoint`
(both cached), make the `command` for a port, describe the `endpoint`, and read its `gauges` while it runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from prometheus_client.parser import text_string_to_metric_families

from engines._deployable import Deployable
from models.errors import Unsupported
from models.paths import cache
from models.progress import Progress
from models.records import Endpoint
from models.specs import Batching, EngineSpec, Setup

FEATURES: dict[str, str] = {
    "openai_api": "serves /v1/completions and /v1/chat/completions",
    "streaming_usage": "a stream's last event tells the token counts",
    "ignore_eos": "a request can forbid the end, so that output lengths are fixed",
    "continuous_batching": "requests join and leave the running batch",
    "prefix_caching": "prompt beginnings seen before need no prefill",
    "structured_output": "output can be held to a JSON schema",
    "tool_calls": "chat answers can be calls of functions",
    "embedding_in_python": "can be used in a Python process without a server",
    "gguf": "reads GGUF files",
    "safetensors": "reads Hugging Face folders",
    "metrics": "tells gauges and counters over HTTP",
}
"""Every feature name an adapter may claim, and what it promises."""

GAUGES: dict[str, str] = {
    "requests_running": "requests being computed",
    "requests_waiting": "requests accepted and queued",
    "kv_cache_usage": "share of the KV cache in use, 0..1",
    "kv_cache_tokens": "tokens in the KV cache",
    "prompt_tokens": "counter: prompt tokens computed, cached ones left out where the engine tells them apart",
    "generated_tokens": "counter",
    "prefix_cache_hit_tokens": "counter: prompt tokens taken from the prefix cache",
    "prefix_cache_queried_tokens": "counter: prompt tokens looked up in the prefix cache",
    "preemptions": "counter: running requests thrown out for want of memory",
    "engine_steps": "counter: forward passes",
    "batch_size_mean": "sequences a forward pass, mean since the start",
    "prefill_s": "counter: seconds spent on prompts",
    "decode_s": "counter: seconds spent on output",
}
"""Normalised names of what an engine tells about itself, the same for every engine. Counters only grow."""


@dataclass(frozen=True)
class Capabilities:
    """What one server of an engine can do; `check` refuses everything else.

    `batching` names the fields of `Batching` that it honours; `reasons` says why not, by field or feature, where that
    helps.
    """

    quantizations: tuple[str, ...]
    kv_types: tuple[str, ...]
    features: frozenset[str]
    hardware: frozenset[str]
    runtimes: frozenset[str]
    batching: frozenset[str]
    model_sources: frozenset[str] = frozenset({"synthetic", "file", "hub"})
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Install:
    """An engine ready to be started."""

    version: str
    program: tuple[str, ...]
    """The beginning of argv."""
    environment: Mapping[str, str] = field(default_factory=dict)
    options: frozenset[str] = frozenset()
    """Names of the options it knows, where that was asked; empty means unknown."""
    image: str | None = None
    """Of the container in which `program` is to be started, for the runtimes that have one."""
    host: str = "127.0.0.1"
    """The address that its server has to listen at: a container or pod may have to be reached from outside."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights on this disk: a file or a folder. `bits_per_weight` counts the tensors only, `bytes` everything."""

    path: Path
    bytes: int
    bits_per_weight: float
    notes: tuple[str, ...] = ()
    end_tokens: tuple[int, ...] = ()
    """Ids of the tokens that end a generation."""


@dataclass(frozen=True)
class Command:
    """What is started, and what its settings resolve to."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    threads: int | None = None
    context_tokens: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """What a running server says of itself."""

    version: str | None = None
    context_tokens: int | None = None
    kv_cache_tokens: int | None = None
    weights_bytes: int | None = None
    overhead_bytes: int | None = None
    settings: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    functional_only: str | None = None
    """Why its speed says nothing about the engine, where it serves without the kernels it was made for."""


class Adapter(Deployable, ABC):
    """One engine. A file in this folder has one as its `ADAPTER`."""

    name: ClassVar[str]
    variants: ClassVar[tuple[str, ...]] = ()
    """The servers it ships, the default first; empty when there is one."""
    path_in_image: ClassVar[bool] = False
    """Whether `path` may name the program inside an image."""
    owned_options: ClassVar[frozenset[str]] = frozenset()
    """Options that dyno sets itself, so `extra_args` may not."""
    shelf_names: ClassVar[tuple[str, ...]] = ()
    """What its folders in dyno's cache are called before the version, where runtime `venv` puts any there."""
    known_failures: ClassVar[Mapping[str, str]] = {}
    """Names of the contract's checks that fail on this engine (`variant: check` where only one's does), and why."""

    def variant(self, engine: EngineSpec) -> str | None:
        """The variant asked for, or the default. Raises Unsupported when there is no such one."""
        if engine.variant is None:
            return self.variants[0] if self.variants else None
        if engine.variant not in self.variants:
            there = f"it has {', '.join(self.variants)}" if self.variants else "it has only one server"
            raise Unsupported("engine.variant", f"{self.name} has no variant {engine.variant!r}: {there}")
        return engine.variant

    def pinned_version(self) -> str | None:
        """The version that runtime `venv` provides when a setup names none."""
        return None

    def is_installed(self) -> bool:
        """Whether that version is in the cache already."""
        return False

    def installed(self) -> Mapping[str, str]:
        """Versions that are in the cache, each with its folder."""
        found = {}
        for name in self.shelf_names:
            for folder in sorted((cache() / "engines").glob(f"{name}-[0-9]*")):
                version = folder.name.removeprefix(f"{name}-").partition("-py")[0]
                found[version if name == self.shelf_names[0] else f"{version} ({name})"] = str(folder)
        return found

    @abstractmethod
    def capabilities(self, variant: str | None = None) -> Capabilities:
        """What that variant (the default if None) can do."""

    def check(self, setup: Setup) -> None:
        """Raises Unsupported naming the first field of the setup that this engine cannot honour. Starts nothing."""
        engine = setup.engine
        can = self.capabilities(self.variant(engine))
        label = engine.label
        _one_of("engine.runtime", engine.runtime, can.runtimes, label)
        if engine.runtime == "endpoint":
            return  # its settings are somebody else's: they describe it
        _one_of("model.source", setup.model.source, can.model_sources, label)
        _check_container(setup, self.path_in_image, label)
        if setup.model.format and setup.model.format not in can.features:
            raise Unsupported("model", f"{setup.model.name} is {setup.model.format}, which {label} does not read")
        _one_of("hardware.kind", setup.hardware.kind, can.hardware, label)
        _one_of("engine.quantization", engine.quantization, can.quantizations, label)
        _one_of("engine.kv_type", engine.kv_type, can.kv_types, label)
        self._check_batching(engine.batching, can, label)
        _check_context(setup)
        for word in engine.extra_args:
            if (option := word.partition("=")[0]) in self.owned_options:
                raise Unsupported("engine.extra_args", f"{option} is set by dyno itself")
        self.check_more(setup)

    def _check_batching(self, batching: Batching, can: Capabilities, label: str) -> None:
        for name, default in Batching():
            if getattr(batching, name) != default and name not in can.batching:
                raise Unsupported(f"engine.batching.{name}", can.reasons.get(name, f"not a setting of {label}"))

    def check_more(self, setup: Setup) -> None:
        """Refuses what the capabilities cannot express."""

    @abstractmethod
    def install(self, setup: Setup, progress: Progress) -> Install:
        """Provides the program by the setup's runtime; cached, and may take minutes the first time. For `docker` and
        `kubernetes` it only names the image and the program in it: `launch` has it pulled."""

    @abstractmethod
    def checkpoint(self, setup: Setup, progress: Progress) -> Checkpoint:
        """Provides the weights in the setup's quantisation; cached."""

    @abstractmethod
    def command(self, setup: Setup, install: Install, checkpoint: Checkpoint, port: int) -> Command:
        """The command line that honours every field of the setup, serving on port of install.host."""

    @abstractmethod
    def endpoint(self, setup: Setup, url: str, checkpoint: Checkpoint | None) -> Endpoint:
        """How to talk to it once it serves at url."""

    def health_path(self, variant: str | None) -> str | None:
        """A path that answers 200 once it is ready, if there is one."""
        return None

    def inspect(self, variant: str | None, get: Callable[[str], Any], log: str = "") -> Inspection:
        """What it resolved its settings to; `get(path)` fetches JSON from it (plain text as it is), None where it does
        not answer; `log` is what it wrote until it was ready."""
        return Inspection()

    def probe(self, setup: Setup, endpoint: Endpoint, timeout_s: float) -> None:
        """A check of a whole answer beyond the first token, once, when it is ready. Raises EndpointError."""

    def gauges(self, text: str) -> dict[str, float]:
        """Turns its metrics text into values by the names of GAUGES; empty when it has no metrics."""
        return {}


def prometheus_gauges(text: str, names: Mapping[str, str]) -> dict[str, float]:
    """Sums the samples of each metric over its labels, renamed by `names`; those not named are left out."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if (name := names.get(sample.name)) is not None:
                found[name] = found.get(name, 0.0) + sample.value
    return found


def _one_of(name: str, value: str, allowed: frozenset[str] | tuple[str, ...], label: str) -> None:
    if value not in allowed:
        known = ", ".join(sorted(allowed) if isinstance(allowed, frozenset) else allowed)
        raise Unsupported(name, f"{label} has no {value!r}: it has {known}")


def _check_container(setup: Setup, path_in_image: bool, label: str) -> None:
    contained = setup.engine.runtime in ("docker", "kubernetes")
    if setup.engine.path and contained and not path_in_image:
        raise Unsupported("engine.path", f"an image of {label} says itself what it starts: leave path out")
    if setup.engine.image and not contained:
        raise Unsupported("engine.image", f"runtime {setup.engine.runtime} starts no image: docker and kubernetes do")
    if contained and setup.hardware.kind == "metal":
        raise Unsupported("engine.runtime", f"{setup.engine.runtime}: a container cannot use Metal")


def _check_context(setup: Setup) -> None:
    wanted, architecture = setup.engine.batching.context_tokens, setup.model.architecture
    if wanted and architecture and wanted > architecture.context_tokens:
        raise Unsupported("engine.batching.context_tokens",
                          f"{setup.model.name} was made for {architecture.context_tokens} tokens, not {wanted}")
