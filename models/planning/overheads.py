"""Level 2: what an engine keeps beside weights and KV cache, and how it pages, by engine and version."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, Literal

import yaml
from packaging.version import InvalidVersion, Version
from pydantic import Field

from models.errors import UserError
from models.identity import Identifier, Record
from models.planning.kv import Paging
from models.specs import Architecture

GIB = 1 << 30


class Tier(Record):
    """Defaults of an engine on GPUs below so much memory (the last has no bound)."""

    below_gib: float | None = None
    batched_tokens: int = Field(gt=0)
    sequences: int = Field(gt=0)


class Rule(Record):
    """One row of models/data/overheads.yaml: constants in GiB a GPU, what each means is said there."""

    engine: Identifier
    kind: Literal["cpu"] | None = Field(default=None, description="for this kind of hardware only")
    since: str = Field(alias="from")
    utilisation: float = Field(gt=0, le=1, description="share of the memory that the engine takes")
    block_tokens: int = Field(gt=0)
    grouped_layers: bool = False
    window_ahead: Literal["step", "batch"] = "step"
    kv_gib: float | None = Field(default=None, description="the pool is set, at most a quarter of the memory")
    logit_copies: float = 0
    ffn_copies: float = 0
    mask_bytes: float = 0
    activation_gib: float = 0
    non_torch_gib: float = 0
    non_torch_shared_gib: float = 0
    graphs_gib: float = 0
    graphs_gib_per_layer: float = 0
    reserve_gib_per_batched_token: float = 0
    reserve_gib_per_sequence: float = 0
    reserve_gib_per_gpu: float = 0
    reserve_least_gib: float = 0
    defaults: tuple[Tier, ...]
    source: str

    def tier(self, memory_bytes: float) -> Tier:
        """The defaults on a GPU of that memory."""
        return next(t for t in self.defaults if t.below_gib is None or memory_bytes < t.below_gib * GIB)

    def paging(self, batched_tokens: int) -> Paging:
        """How it pages when it computes so many tokens a step; llama.cpp keeps one token more of a window."""
        more = 1 if self.window_ahead == "batch" else 0
        return Paging(self.block_tokens, batched_tokens + more, self.grouped_layers)


@cache
def _table() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(resources.files("models").joinpath("data/overheads.yaml").read_text())
    return loaded


@cache
def rules() -> tuple[Rule, ...]:
    """Every row, in the file's order."""
    return tuple(Rule.model_validate(row) for row in _table()["engines"])


def rule(engine: str, version: str | None = None, kind: str = "cuda") -> Rule:
    """The row of an engine at a version (None: the newest). Raises UserError for an unknown engine or version."""
    rows = [r for r in rules() if r.engine == engine]
    rows = [r for r in rows if r.kind == kind] or [r for r in rows if r.kind is None]
    if not rows:
        names = ", ".join(dict.fromkeys(r.engine for r in rules()))
        raise UserError(f"engine {engine}: no overheads of it are known; known are {names}")
    if version is None:
        return rows[-1]
    try:
        return [r for r in rows if Version(r.since) <= Version(version)][-1]
    except InvalidVersion as error:
        raise UserError(f"engine-version {version}: not a version like 0.32.0") from error


def visible_bytes(memory_bytes: float) -> float:
    """What CUDA offers of the memory that a GPU's driver reports."""
    return float(_table()["visible_share"]) * memory_bytes


class Overheads(Record):
    """Bytes on one GPU beside weights and KV cache; `source` says where they come from."""

    activation_bytes: float = Field(ge=0)
    non_torch_bytes: float = Field(default=0, ge=0)
    graphs_bytes: float = Field(default=0, ge=0)
    source: str

    @property
    def total_bytes(self) -> float:
        return self.activation_bytes + self.non_torch_bytes + self.graphs_bytes


def predicted(how: Rule, shape: Architecture, memory_bytes: float, gpus: int = 1, tier: Tier | None = None,
              context_tokens: int = 0) -> Overheads:
    """By the engine's row: `tier` says how much it computes at once (None: its defaults for that memory)."""
    step = tier or how.tier(memory_bytes)
    logits = how.logit_copies * step.sequences * shape.vocabulary * 4
    hidden = how.ffn_copies * step.batched_tokens * 4 * (shape.intermediate_size + shape.hidden_size)
    mask = how.mask_bytes * step.batched_tokens * context_tokens
    reserve = (how.reserve_gib_per_batched_token * max(step.batched_tokens, 2048)
               + how.reserve_gib_per_sequence * step.sequences + how.reserve_gib_per_gpu * gpus) * GIB
    least = how.reserve_least_gib * GIB if memory_bytes > 60 * GIB else 0
    experts = expert_bytes(shape, step.batched_tokens, gpus) if how.logit_copies else 0
    return Overheads(
        activation_bytes=max(logits + hidden + mask + experts + reserve + how.activation_gib * GIB, least),
        non_torch_bytes=(how.non_torch_gib if gpus == 1 else how.non_torch_shared_gib) * GIB,
        graphs_bytes=(how.graphs_gib + how.graphs_gib_per_layer * shape.layers) * GIB, source=how.source)


def expert_bytes(shape: Architecture, tokens: int, gpus: int) -> float:
    """What fused experts keep while they compute so many tokens, in 16 bits: for each of a token's experts gate and up
    together, their product, and the result (vLLM's fused_moe: its three intermediate caches)."""
    if not shape.experts or not shape.expert_intermediate_size:
        return 0.0
    wide = 3 * shape.expert_intermediate_size / gpus + shape.hidden_size
    return 2.0 * tokens * (shape.experts_per_token or 1) * wide
