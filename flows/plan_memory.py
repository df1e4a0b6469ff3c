"""`dyno plan memory` and `dyno plan concurrency`: one question at three levels, and what was measured beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.catalogue import KnownModel, Machine, find_hardware, find_model
from models.errors import UserError
from models.identity import Record
from models.planning import memory
from models.planning.memory import MemoryPlan, Question
from models.planning.overheads import GIB
from warehouse.launches import Launch, launches, plain

Row = dict[str, Any]
_KIB = 1024


class Asked(Record):
    """What a person asked, in their words. None: the default of model, engine or machine."""

    model: str
    hardware: str | None = None
    engine: str = "vllm"
    engine_version: str | None = None
    quantization: str | None = None
    kv_type: str = "f16"
    context_tokens: int | None = None
    concurrency: int = 1
    tensor_parallel: int = 1
    utilisation: float | None = None
    batched_tokens: int | None = None


@dataclass(frozen=True)
class Answered:
    """The question as it was understood, its answers by level, and sentences about what they rest on.

    calibrated: level 2 with weights, overheads and cache as this engine told them of this model here; measured: what it
    told on the very hardware asked about.
    """

    question: Question
    model: KnownModel
    machine: Machine
    rough: dict[str, float]
    architecture: MemoryPlan
    calibrated: MemoryPlan | None
    measured: Launch | None
    nearest: list[str]
    notes: list[str]


def answer(home: Path, asked: Asked) -> Answered:
    """Raises UserError for a model, machine, engine, quantisation or KV type that is not known."""
    model, machine = find_model(asked.model), find_hardware(asked.hardware, home)
    if machine.here and asked.tensor_parallel > machine.gpus:
        raise UserError(f"tensor-parallel {asked.tensor_parallel}: this machine has {machine.gpus}; --hardware names"
                        " another")
    stored = (asked.quantization or model.quantization or ("F16" if asked.engine == "llama_cpp" else "BF16")).upper()
    question = Question(
        architecture=model.architecture, engine=asked.engine, engine_version=asked.engine_version, kind=machine.kind,
        quantization=stored, kv_type=asked.kv_type, concurrency=asked.concurrency, gpus=asked.tensor_parallel,
        context_tokens=asked.context_tokens or min(8192, model.architecture.context_tokens),
        memory_bytes=machine.memory_bytes, utilisation=asked.utilisation, batched_tokens=asked.batched_tokens,
        weights_bytes=model.weights_bytes if stored == model.quantization else None)
    same = _same_engine(home, asked, model)
    told = next((r for r in same if (r.quantization, r.kv_type) == (stored, asked.kv_type)), None)
    if borrowed := next((r.overheads for r in same if r.overheads and r.gpus == question.gpus), None):
        question = question.model_copy(update={"overheads": borrowed})
    here = told if told and machine.here and told.hardware.hardware_id == machine.here.hardware_id else None
    return Answered(
        question=question, model=model, machine=machine, rough=memory.rough(question),
        architecture=memory.plan(question), calibrated=_calibrated(question, told) if told else None, measured=here,
        nearest=memory.nearest(question), notes=_notes(question, model, machine))


def _same_engine(home: Path, asked: Asked, model: KnownModel) -> list[Launch]:
    """Launches of this engine (and version, where one is asked for) with this model."""
    try:
        known = launches(home)
    except UserError:  # nothing was published yet
        return []
    return [r for r in known if r.engine == asked.engine and r.model == model.name
            and asked.engine_version in (None, plain(r.version))]


def _calibrated(question: Question, told: Launch) -> MemoryPlan:
    """Level 2 with this launch's weights and overheads, its cache scaled to what the engine allotted."""
    plan = memory.plan(question.model_copy(update={"weights_bytes": told.weights_bytes or question.weights_bytes,
                                                   "overheads": told.overheads or question.overheads}))
    if not told.kv_bytes:
        return plan
    scale = told.kv_bytes / told.predicted_kv_bytes
    return plan.model_copy(update={"kv_bytes_per_token": plan.kv_bytes_per_token * scale,
                                   "sequence_bytes": plan.sequence_bytes * scale,
                                   "max_concurrency": plan.max_concurrency / scale,
                                   "kv_tokens": plan.kv_tokens / scale})


def _notes(q: Question, model: KnownModel, machine: Machine) -> list[str]:
    found = [f"model: {model.architecture.parameters / 1e9:.2f} billion weights ({model.source}), {q.quantization}"
             f" weights, {q.kv_type} cache",
             f"hardware: {q.gpus} × {machine.name}, {q.memory_bytes / GIB:.1f} GiB each ({machine.source})",
             f"overheads: {memory.plan(q).overheads.source}"]
    if q.context_tokens > model.architecture.context_tokens:
        found.append(f"the model was made for at most {model.architecture.context_tokens} tokens")
    if not machine.here and q.gpus > machine.gpus:
        found.append(f"a node has {machine.gpus} of these GPUs: more of them exchange over a slower network")
    return found


def memory_rows(a: Answered) -> list[Row]:
    """Memory by part, of all GPUs together: weights, cache, overheads, what is needed and what is offered."""
    q, gpus, n = a.question, a.question.gpus, a.question.concurrency
    told = a.measured

    def row(quantity: str, unit: str, rough: float | None, part: Any, measured: float | None = None) -> Row:
        return {"quantity": quantity, "unit": unit, "rough": rough, "architecture": part(a.architecture),
                "calibrated": part(a.calibrated) if a.calibrated else None, "measured": measured}

    return [
        row("weights", "GiB", a.rough["weights_bytes"] / GIB, lambda p: gpus * p.weights_bytes / GIB,
            told.weights_bytes / GIB if told and told.weights_bytes else None),
        row("KV cache a token", "KiB", a.rough["kv_bytes_per_token"] / _KIB,
            lambda p: gpus * p.kv_bytes_per_token / _KIB,
            told.kv_bytes / told.kv_tokens / _KIB if told and told.kv_bytes else None),
        row(f"{n} × {q.context_tokens} tokens", "GiB", a.rough["requests_bytes"] / GIB,
            lambda p: n * gpus * p.sequence_bytes / GIB),
        row("beside them", "GiB", None, lambda p: gpus * p.overheads.total_bytes / GIB,
            told.overhead_bytes / GIB if told and told.overhead_bytes else None),
        row("needed", "GiB", a.rough["needed_bytes"] / GIB,
            lambda p: gpus * (p.weights_bytes + p.overheads.total_bytes + n * p.sequence_bytes) / GIB),
        row("offered", "GiB", gpus * q.memory_bytes / GIB, lambda p: gpus * p.usable_bytes / GIB)]


def concurrency_rows(home: Path, asked: Asked, a: Answered) -> list[Row]:
    """The largest concurrency at a quarter, half, once and twice the context, and what bounds one request."""
    context, found = a.question.context_tokens, []
    filled = asked.engine != "llama_cpp"  # its cache is as large as it is told, not as there is room for
    for tokens in sorted({max(context // 4, 1), max(context // 2, 1), context, 2 * context}):
        at = answer(home, asked.model_copy(update={"context_tokens": tokens})) if tokens != context else a
        found.append({"quantity": "concurrency", "context_tokens": tokens, "rough": at.rough["max_concurrency"],
                      "architecture": _whole(at.architecture.max_concurrency),
                      "calibrated": _whole(at.calibrated.max_concurrency) if at.calibrated else None,
                      "measured": _whole(at.measured.kv_tokens / tokens) if at.measured and filled else None})
    return found


def _whole(value: float) -> int | None:
    return None if math.isinf(value) else math.floor(value)


def sentences(a: Answered) -> Sequence[str]:
    """What a person should read below the table: does it fit, else what would."""
    if a.nearest:
        return [f"It does not fit: {a.nearest[0]}.", *(f"What would do: {way}." for way in a.nearest[1:])]
    longest = min(a.architecture.max_context_tokens, a.question.architecture.context_tokens)
    return [f"It fits. At {a.question.concurrency} at once a request may have {longest} tokens; at"
            f" {a.question.context_tokens} tokens, {math.floor(a.architecture.max_concurrency)} run at once."]
