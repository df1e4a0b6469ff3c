"""What one's own engines said of their memory when they started, launch by launch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from models.planning import memory
from models.planning.kv import sequence_bytes
from models.planning.overheads import GIB, Overheads, rule, visible_bytes
from models.records import Measurement
from models.specs import Architecture, HardwareSpec
from warehouse import reader

_LATEST = """
    select arg_max(measurement, started_at) as measurement from trials
    where source = 'measured' and (kv_cache_tokens is not null or weights_bytes is not null)
    group by setup_id, engine_id order by 1
"""


@dataclass(frozen=True)
class Launch:
    """One setup as it last ran. Bytes are of all devices together; None: the engine did not say."""

    engine: str
    version: str
    model: str
    architecture: Architecture
    quantization: str
    kv_type: str
    hardware: HardwareSpec
    gpus: int
    context_tokens: int
    sequences: int
    pass_tokens: int | None
    utilisation: float | None
    kv_tokens: int
    kv_bytes: int | None
    weights_bytes: int | None
    overhead_bytes: int | None

    @property
    def question(self) -> memory.Question:
        """The question of level 2 that this launch answers."""
        return memory.Question(
            architecture=self.architecture, engine=self.engine, engine_version=plain(self.version),
            kind=self.hardware.kind, quantization=self.quantization, kv_type=self.kv_type,
            context_tokens=self.context_tokens, gpus=self.gpus, concurrency=self.sequences,
            memory_bytes=memory_of(self.hardware), utilisation=self.utilisation, batched_tokens=self.pass_tokens)

    @property
    def predicted_kv_bytes(self) -> float:
        """Of the cache that it set up: llama.cpp's is as large as all its sequences at their longest."""
        if self.engine != "llama_cpp":
            one = rule(self.engine, plain(self.version), self.hardware.kind).block_tokens
            return self.kv_tokens / one * sequence_bytes(self.architecture, one, self.kv_type)
        return self.sequences * sequence_bytes(self.architecture, self.context_tokens, self.kv_type,
                                               paging=self.question.paging)

    @property
    def overheads(self) -> Overheads | None:
        if self.overhead_bytes is None:
            return None
        return Overheads(activation_bytes=self.overhead_bytes / self.gpus,
                         source=f"{self.engine} {self.version}'s own word, measured here with {self.model}")


def plain(version: str) -> str | None:
    """`0.3.36 (llama.cpp 0.5.0-dev)` is 0.3.36; None for a build that is named otherwise."""
    found = re.match(r"\d+(\.\d+)+", version)
    return found[0] if found else None


def memory_of(hardware: HardwareSpec) -> float:
    """Bytes that one GPU (or the machine) offers to an engine."""
    if hardware.kind == "cuda" and hardware.accelerator_memory_gib:
        return visible_bytes(hardware.accelerator_memory_gib * GIB)
    return (hardware.accelerator_memory_gib or hardware.memory_gib or 1) * float(GIB)


def launches(home: Path) -> list[Launch]:
    """Every setup whose engine told of its memory and whose model's shape is known. Raises UserError when nothing was
    published yet."""
    rows = reader.query(home, _LATEST)["measurement"]
    return [found for row in rows if (found := _launch(Measurement.model_validate_json(row)))]


def _launch(measured: Measurement) -> Launch | None:
    setup, run = measured.trial.setup, measured.run
    batching, said = setup.engine.batching, run.settings
    if setup.model.architecture is None or setup.engine.runtime == "endpoint" or not run.kv_cache_tokens:
        return None
    context = _int(said.get("context_tokens_a_sequence")) or run.context_tokens or batching.context_tokens
    sequences = _int(said.get("sequences")) or batching.max_sequences or 1
    return Launch(
        engine=run.engine, version=run.engine_version, model=setup.model.name, architecture=setup.model.architecture,
        quantization=setup.model.quantization or setup.engine.quantization, kv_type=setup.engine.kv_type,
        hardware=setup.hardware, gpus=batching.tensor_parallel, context_tokens=context or 1, sequences=sequences,
        pass_tokens=_int(said.get("pass_tokens")) or batching.max_batched_tokens,
        utilisation=batching.memory_fraction, kv_tokens=run.kv_cache_tokens,
        kv_bytes=_int(said.get("kv_cache_bytes")) or _int(said.get("kv_cache_memory_bytes")),
        weights_bytes=run.weights_bytes, overhead_bytes=run.overhead_bytes)


def _int(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
