"""What any adapter must keep to, checked without starting anything: `dyno engines --check NAME`, and the tests.

Each check takes an adapter and a variant and raises Flaw. One that an adapter's `known_failures` names must fail.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

from engines._contract import FEATURES, Adapter, Capabilities, Checkpoint, Command, Install
from models.errors import Unsupported
from models.specs import Architecture, Batching, EngineSpec, HardwareSpec, ModelSpec, Setup

RUNTIMES = ("venv", "path", "docker", "kubernetes", "endpoint")
HARDWARE = ("cpu", "cuda", "rocm", "metal")
SOURCES = ("synthetic", "file", "hub")
VALUES: dict[str, tuple[Any, ...]] = {
    "max_sequences": (1, 4), "max_batched_tokens": (4096,), "prefill_chunk_tokens": (512,), "prefix_caching": (True,),
    "context_tokens": (1024,), "memory_fraction": (0.5,), "tensor_parallel": (2,), "threads": (3,),
    "scheduling_policy": ("fcfs", "lpm", "priority")}
"""Of each field of Batching, some that an engine which has the field should take; `tensor_parallel` with so many."""
_PORT = 18_765
_NO_SUCH = "no-such-thing"
_SHAPE = Architecture(layers=8, hidden_size=256, heads=4, kv_heads=4, head_dim=64, intermediate_size=768,
                      vocabulary=32_000, parameters=14_000_000, context_tokens=8192)


class Flaw(Exception):
    """What an adapter does not keep to."""


@dataclass(frozen=True)
class Result:
    """One check of one variant. `because`: the flaw; `expected`: why that is known, None where it is not."""

    check: str
    variant: str | None
    because: str | None
    expected: str | None

    @property
    def good(self) -> bool:
        """Passed, or failed as declared."""
        return (self.because is None) == (self.expected is None)


def expected(adapter: Adapter, check: str, variant: str | None) -> str | None:
    """Why that check is known to fail on that variant: `known_failures` names it, or `variant: check`."""
    return adapter.known_failures.get(f"{variant}: {check}") or adapter.known_failures.get(check)


def run(adapter: Adapter) -> list[Result]:
    """Every check on every variant."""
    results = []
    for variant, (name, check) in itertools.product(adapter.variants or (None,), CHECKS.items()):
        because = None
        try:
            check(adapter, variant)
        except Flaw as flaw:
            because = str(flaw)
        results.append(Result(name, variant, because, expected(adapter, name, variant)))
    return results


def words(adapter: Adapter, variant: str | None) -> None:
    """Its capabilities are said in the contract's words."""
    can = adapter.capabilities(variant)
    for said, known in ((can.features, FEATURES), (can.batching, Batching.model_fields), (can.runtimes, RUNTIMES),
                        (can.hardware, HARDWARE), (can.model_sources, SOURCES),
                        (can.reasons, {**Batching.model_fields, **FEATURES})):
        if unknown := sorted(set(said) - set(known)):
            raise Flaw(f"{', '.join(unknown)}: not in the contract, which has {', '.join(known)}")
    if not (can.quantizations and can.kv_types and can.hardware and can.runtimes):
        raise Flaw("it can do nothing: quantizations, kv_types, hardware and runtimes must not be empty")
    if claimed := {f for f in can.reasons if f in can.batching | can.features and f not in _PARTLY}:
        raise Flaw(f"{', '.join(sorted(claimed))}: claimed, and a reason given why not")


_PARTLY = frozenset({"max_sequences"})
"""Fields that may be had for one value only, with a reason why not for others."""


def claims(adapter: Adapter, variant: str | None) -> None:
    """Each value that it claims is accepted in some setup, and a command is made of every accepted combination; others
    are refused as Unsupported, with a field and a reason."""
    can = adapter.capabilities(variant)
    wanted = {("engine.quantization", q) for q in can.quantizations} | {("engine.kv_type", k) for k in can.kv_types}
    wanted |= {("engine.batching", f) for f in can.batching} | {("hardware.kind", h) for h in can.hardware}
    wanted |= {("engine.runtime", r) for r in can.runtimes if r != "endpoint"}
    why: dict[tuple[str, str], str] = {}
    for setup, values in _claimed(adapter, variant, can):
        try:
            adapter.check(setup)
        except Unsupported as refusal:
            _require_reason(refusal)
            why.update((value, str(refusal)) for value in values if refusal.field.startswith(value[0]))
            continue
        wanted -= values
        _command(adapter, setup)
    if wanted:
        field, value = min(wanted)
        raise Flaw(f"{field}: {value} is claimed and never accepted: {why.get((field, value), 'not tried')}")


def refusals(adapter: Adapter, variant: str | None) -> None:
    """What it does not claim raises Unsupported that names the field."""
    can = adapter.capabilities(variant)
    for field, setup in _unclaimed(adapter, variant, can):
        try:
            adapter.check(setup)
        except Unsupported as refusal:
            _require_reason(refusal)
            if refusal.field != field:
                raise Flaw(f"{field} is refused as {refusal}") from None
        else:
            raise Flaw(f"{field} is accepted and not claimed: {setup.engine}")


def effects(adapter: Adapter, variant: str | None) -> None:
    """No field is ignored: each batching field and KV type that it claims changes what is started; the port,
    `extra_args` and `environment` get there too."""
    can = adapter.capabilities(variant)
    plain = list(_accepted(adapter, variant, can))
    before = _command(adapter, plain[0])
    if not any(str(_PORT) in word for word in (*before.argv, *before.environment.values())):
        raise Flaw(f"the port is nowhere in {' '.join(before.argv)}")
    given = _command(adapter, _with(plain[0], extra_args=("--dyno-extra",), environment={"DYNO_EXTRA": "1"}))
    if "--dyno-extra" not in given.argv or given.environment.get("DYNO_EXTRA") != "1":
        raise Flaw("engine.extra_args or engine.environment do not reach the command")
    by_hardware = {s.hardware.kind: s for s in plain}.values()
    by_quantization = {(s.hardware.kind, s.engine.quantization): s for s in plain}.values()
    for field in sorted(can.batching - can.reasons.keys()):
        changes = [{"batching": Batching.model_validate({field: v})} for v in VALUES[field]]
        if not all(_differences(adapter, by_hardware, changes)):
            raise Flaw(f"engine.batching.{field} changes nothing of what is started")
    for kv_type in can.kv_types[1:]:
        if not any(seen := list(_differences(adapter, by_quantization, [{"kv_type": kv_type}]))) and seen:
            raise Flaw(f"engine.kv_type {kv_type} changes nothing of what is started")


def _differences(adapter: Adapter, plain: Iterable[Setup], changes: list[dict[str, Any]]) -> Iterator[bool]:
    """Of every change that is accepted, whether something else is started with it."""
    for setup, change in itertools.product(plain, changes):
        if _accepts(adapter, changed := _with(setup, **change)):
            yield _shown(_command(adapter, setup)) != _shown(_command(adapter, changed))


def endpoint(adapter: Adapter, variant: str | None) -> None:
    """How it is talked to is what its features promise."""
    can = adapter.capabilities(variant)
    setup = next(_accepted(adapter, variant, can))
    found = adapter.endpoint(setup, "http://127.0.0.1:1", _CHECKPOINT)
    promises = {"metrics": found.metrics_path is not None, "streaming_usage": found.usage_in_stream,
                "ignore_eos": bool(found.fixed_length)}
    for feature, kept in promises.items():
        if feature in can.features and not kept:
            raise Flaw(f"{feature} is claimed, and the endpoint says otherwise: {found}")
    if found.url != "http://127.0.0.1:1" or not found.model:
        raise Flaw(f"the endpoint is not the one that was given: {found}")
    if adapter.gauges(""):
        raise Flaw("gauges are made of nothing")
    adapter.inspect(variant, lambda path: None, "")  # a server that says nothing is no error


CHECKS: dict[str, Callable[[Adapter, str | None], None]] = {
    "words": words, "claims": claims, "refusals": refusals, "effects": effects, "endpoint": endpoint}
_CHECKPOINT = Checkpoint(Path("/models/model"), 1 << 24, 16.0, end_tokens=(2,))


def _setup(variant: str | None, adapter: Adapter, model: ModelSpec, hardware: str, **engine: Any) -> Setup:
    accelerators = {} if hardware == "cpu" else {"accelerator": "H100", "accelerators": 8, "accelerator_memory_gib": 80}
    return Setup(model=model, engine=EngineSpec(engine=adapter.name, variant=variant, **engine),
                 hardware=HardwareSpec.model_validate({"name": "there", "kind": hardware, **accelerators}))


def _with(setup: Setup, **engine: Any) -> Setup:
    return setup.model_copy(update={"engine": setup.engine.model_copy(update=engine)})


def _models(can: Capabilities) -> list[ModelSpec]:
    made = [ModelSpec(name="m", source="synthetic", content="recipe 1, seed 0", architecture=_SHAPE)]
    for name, feature in (("m.gguf", "gguf"), ("m", "safetensors")):
        if feature in can.features:
            made += [ModelSpec(name="m", source="file", path=f"/models/{name}", architecture=_SHAPE, content="0" * 64),
                     ModelSpec(name="m", source="hub", repository="a/m", revision="0" * 40, content="0" * 40,
                               architecture=_SHAPE, file=name if feature == "gguf" else None)]
    return [m for m in made if m.source in can.model_sources]


def _places(adapter: Adapter, variant: str | None, can: Capabilities) -> list[tuple[ModelSpec, str, str]]:
    """Model, hardware and runtime that go together; the first runtime of each model on each hardware first."""
    found: list[tuple[int, ModelSpec, str, str]] = []
    for model, hardware in itertools.product(_models(can), sorted(can.hardware)):
        runtimes = [r for r in RUNTIMES if r in can.runtimes and r != "endpoint" and any(
            _accepts(adapter, _setup(variant, adapter, model, hardware, quantization=q, kv_type=k, runtime=r))
            for q in can.quantizations for k in can.kv_types)]
        found += [(rank, model, hardware, runtime) for rank, runtime in enumerate(runtimes)]
    return [(model, hardware, runtime) for _, model, hardware, runtime in sorted(found, key=lambda each: each[0])]


def _claimed(adapter: Adapter, variant: str | None, can: Capabilities,
             ) -> Iterator[tuple[Setup, set[tuple[str, str]]]]:
    """Setups of claimed values, with what each shows: every quantisation, KV type and batching field together on the
    kind of hardware that takes most; elsewhere every two of them."""
    fields = [(f, v) for f in sorted(can.batching) for v in VALUES[f]]
    places = _places(adapter, variant, can)
    plain = [(s.model.source, s.hardware.kind) for s in _accepted(adapter, variant, can)]
    most = max(dict.fromkeys(plain), key=plain.count)
    broadest = next(place for place in places if (place[0].source, place[1]) == most)
    for model, hardware, runtime in places:
        whole = (model, hardware, runtime) == broadest
        for quantization, kv in itertools.product(can.quantizations, can.kv_types):
            few = [(None, None), *(fields if whole or kv == can.kv_types[0] else ())]
            for field, value in few:
                shows = {("engine.quantization", quantization), ("engine.kv_type", kv), ("hardware.kind", hardware),
                         ("engine.runtime", runtime)}
                batching = Batching.model_validate({field: value} if field else {})
                yield (_setup(variant, adapter, model, hardware, quantization=quantization, kv_type=kv,
                              batching=batching, runtime=runtime),
                       shows | ({("engine.batching", field)} if field else set()))


def _accepted(adapter: Adapter, variant: str | None, can: Capabilities, **engine: Any) -> Iterator[Setup]:
    """Accepted setups without batching, by each model, hardware, runtime and quantisation."""
    for (model, hardware, runtime), quantization in itertools.product(_places(adapter, variant, can),
                                                                      can.quantizations):
        setup = _setup(variant, adapter, model, hardware, **{"quantization": quantization, "runtime": runtime,
                                                             "kv_type": can.kv_types[0], **engine})
        if _accepts(adapter, setup):
            yield setup


def _unclaimed(adapter: Adapter, variant: str | None, can: Capabilities) -> Iterator[tuple[str, Setup]]:
    """Setups that are fine but for one field, with its name."""
    plain = next(_accepted(adapter, variant, can))
    yield "engine.quantization", _with(plain, quantization=_NO_SUCH)
    yield "engine.kv_type", _with(plain, kv_type=_NO_SUCH)
    yield "engine.variant", _with(plain, variant=_NO_SUCH)
    for runtime in set(RUNTIMES) - can.runtimes:
        yield "engine.runtime", _with(plain, runtime=runtime)
    for kind in set(HARDWARE) - can.hardware:
        yield "hardware.kind", plain.model_copy(update={"hardware": HardwareSpec.model_validate(
            {"name": "there", "kind": kind})})
    for source in set(SOURCES) - can.model_sources:
        yield "model.source", plain.model_copy(update={"model": plain.model.model_copy(update={"source": source})})
    for feature, path in (("gguf", "/models/m.gguf"), ("safetensors", "/models/m")):
        if feature not in can.features and "file" in can.model_sources:
            yield "model", plain.model_copy(update={"model": ModelSpec(name="m", source="file", path=path)})
    for field in set(Batching.model_fields) - can.batching:
        for value in VALUES[field]:
            if value != getattr(Batching(), field):
                yield f"engine.batching.{field}", _with(plain, batching=Batching.model_validate({field: value}))
    for option in sorted(adapter.owned_options):
        yield "engine.extra_args", _with(plain, extra_args=(option, "1"))


def _accepts(adapter: Adapter, setup: Setup) -> bool:
    try:
        adapter.check(setup)
    except Unsupported:
        return False
    return True


def _command(adapter: Adapter, setup: Setup) -> Command:
    try:
        return adapter.command(setup, _install(adapter), _CHECKPOINT, _PORT)
    except Exception as error:
        raise Flaw(f"no command for an accepted setup ({setup.engine}): {type(error).__name__}: {error}") from error


@lru_cache
def _install(adapter: Adapter) -> Install:
    return Install(adapter.pinned_version() or "1.0.0", ("/engine",))


def _shown(command: Command) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    return command.argv, tuple(sorted(command.environment.items()))


def _require_reason(refusal: Unsupported) -> None:
    if not refusal.field or len(refusal.reason) < 5:
        raise Flaw(f"refused without a field and a reason: {refusal}")


assert set(VALUES) == set(Batching.model_fields)  # noqa: S101  a field without values would go unchecked
assert set(RUNTIMES) == set(get_args(EngineSpec.model_fields["runtime"].annotation))  # noqa: S101
