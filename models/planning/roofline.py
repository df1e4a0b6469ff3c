"""Level 2: how fast a step can be at most, from the bytes it reads, the arithmetic it does and what GPUs exchange.

Source: the roofline model (Williams, Waterman and Patterson, 2009): work takes at least its bytes divided by the memory
bandwidth and at least its operations divided by the peak rate. Peaks are those of data sheets, so that no engine beats
a bound here, as far as the sheet is right, experts are chosen evenly, and every step decodes one token a sequence.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from pydantic import Field, model_validator

from models.identity import Identifier, Record
from models.planning.kv import layer_bytes, layers, sequence_bytes
from models.specs import Architecture

SPARSE_TOKENS = 2048
"""Tokens that sparse attention reads after its index chose them: index_topk of DeepSeek-V3.2's and GLM-5's configs."""
MLA_PREFILL_HEAD = (192 + 128) / 2
"""Mean size of a key and a value of latent attention while prefilling, when they are unpacked (DeepSeek-V3's config:
qk_nope_head_dim 128 + qk_rope_head_dim 64, v_head_dim 128)."""


class Chip(Record):
    """What computes: one GPU, or all cores of a CPU together.

    flops_per_s is the dense peak in the format that the model's matrices are multiplied in, attention_flops_per_s that
    of attention (16 bits); link_bytes_per_s is one chip's bandwidth to the others, in one direction.
    """

    name: Identifier
    memory_bandwidth_bytes_per_s: float = Field(gt=0)
    flops_per_s: float = Field(gt=0)
    attention_flops_per_s: float = Field(gt=0)
    memory_bytes: float | None = Field(default=None, gt=0)
    link_bytes_per_s: float | None = Field(default=None, gt=0)


class Stack(Record):
    """A model on chips, as far as a step's time depends on it.

    chips share the model; with attention_groups > 1 they form that many groups, each of which attends to its share of
    the sequences (attention data parallel), while experts are spread over all chips. weight_bytes is what a quantised
    weight takes with its scales; attention_weight_bytes the same of attention, which many checkpoints leave at 16 bits.
    """

    architecture: Architecture
    chip: Chip
    chips: int = Field(default=1, gt=0)
    attention_groups: int = Field(default=1, gt=0)
    weight_bytes: float = Field(default=2.0, gt=0)
    attention_weight_bytes: float | None = Field(default=None, gt=0, description="None: as weight_bytes")
    kv_type: str = Field(default="f16", description="of stored keys and values (models.planning.kv)")

    @model_validator(mode="after")
    def _divides(self) -> Stack:
        if self.chips % self.attention_groups:
            raise ValueError(f"{self.chips} chips do not form {self.attention_groups} equal groups")
        if self.chips > 1 and self.chip.link_bytes_per_s is None:
            raise ValueError(f"{self.chip.name}: several chips need the bandwidth of the link between them")
        return self


class Parameters(NamedTuple):
    """Weights by what reads them. `head` multiplies the last state with the vocabulary; input embeddings are looked up,
    which reads next to nothing."""

    attention: float
    dense: float
    experts: float
    head: float


class Step(NamedTuple):
    """Least time in ms that each part of one forward pass takes by itself, on the chip that has the most to do."""

    weights_ms: float
    experts_ms: float
    kv_ms: float
    state_ms: float
    compute_ms: float
    attention_ms: float
    exchange_ms: float

    @property
    def memory_ms(self) -> float:
        return self.weights_ms + self.experts_ms + self.kv_ms + self.state_ms

    @property
    def arithmetic_ms(self) -> float:
        return self.compute_ms + self.attention_ms

    @property
    def bound_ms(self) -> float:
        """Memory, arithmetic and exchange can overlap at best: the longest of them."""
        return max(self.memory_ms, self.arithmetic_ms, self.exchange_ms)


def parameters(shape: Architecture) -> Parameters:
    """Weights of each part, counted: gated MLPs of three matrices; what is left over is attention (and its like)."""
    embedding = shape.vocabulary * shape.hidden_size
    sparse = shape.layers - (shape.dense_layers or 0) if shape.experts else 0
    one = 3 * shape.hidden_size * (shape.expert_intermediate_size or 0)
    experts = one * (shape.experts or 0) * sparse
    dense = (3 * shape.hidden_size * shape.intermediate_size * (shape.layers - sparse)
             + one * (shape.shared_experts or 0) * sparse)
    body = shape.parameters - embedding * (1 if shape.tied_embeddings else 2) - experts
    return Parameters(max(body - dense, 0), min(dense, max(body, 0)), experts, embedding)


def experts_touched(shape: Architecture, tokens: float) -> float:
    """Share of the routed experts that `tokens` tokens touch when each chooses k of E evenly: 1 − (1 − k/E)^tokens."""
    if not shape.experts or not shape.experts_per_token:
        return 0.0
    return float(1 - (1 - shape.experts_per_token / shape.experts) ** tokens)


def active_parameters(shape: Architecture) -> float:
    """Weights that one token is multiplied with, the head's included."""
    part = parameters(shape)
    return part.attention + part.dense + part.head + part.experts * experts_touched(shape, 1)


def kv_read_bytes(shape: Architecture, context_tokens: float, kv_type: str = "f16", chips: int = 1) -> float:
    """Bytes of one sequence's cache that one of `chips` sharing its attention reads for one decoded token: the whole
    context in full layers, the window in sliding ones; with sparse attention, the index of all tokens and the keys and
    values of those it chose. Raises UserError for an unknown type."""
    (full, sliding), count = layer_bytes(shape, kv_type, chips), layers(shape)
    read = full * context_tokens
    if shape.index_dim:
        chosen = layer_bytes(shape.model_copy(update={"index_dim": None}), kv_type, chips)[0]
        read = (full - chosen) * context_tokens + chosen * min(context_tokens, SPARSE_TOKENS)
    window = min(context_tokens, shape.sliding_window_tokens or context_tokens)
    return count.full * read + count.sliding * sliding * window


def attention_flops(shape: Architecture, context_tokens: float, *, prefill: bool = False) -> float:
    """Operations of attending from one token to `context_tokens`: 4 · heads · head size a token looked at and layer.

    Latent attention decodes on the packed vector (rank + rope for scores, rank for values) and prefills unpacked.
    """
    full, sliding = layers(shape)
    if shape.kv_lora_rank:
        size = MLA_PREFILL_HEAD if prefill else shape.kv_lora_rank + (shape.qk_rope_head_dim or 0) / 2
    else:
        size = shape.head_dim
    read = min(context_tokens, SPARSE_TOKENS) if shape.index_dim else context_tokens
    seen = full * read + sliding * min(context_tokens, shape.sliding_window_tokens or context_tokens)
    return 4 * shape.heads * size * seen


def running(stack: Stack, concurrency: float, input_tokens: float, output_tokens: float,
            memory_share: float = 0.9) -> float:
    """Sequences that decode together: all that are under way, or as many as fit, at half of their output, beside the
    weights in `memory_share` of the chips' memory (vLLM's and SGLang's habit); the others queue. At least one."""
    shape, chip = stack.architecture, stack.chip
    if chip.memory_bytes is None:
        return concurrency
    part = parameters(shape)
    weights = (part.attention * (stack.attention_weight_bytes or stack.weight_bytes) / _group(stack)
               + ((part.dense + part.experts) * stack.weight_bytes + 4 * part.head) / stack.chips)
    held = sequence_bytes(shape, math.ceil(input_tokens + output_tokens / 2), stack.kv_type, _group(stack))
    fit = max(memory_share * chip.memory_bytes - weights, 0) / held * stack.attention_groups
    return min(concurrency, max(fit, 1.0))


def decode_step(stack: Stack, batch: float, context_tokens: float) -> Step:
    """One token for each of `batch` sequences (over all chips), each with `context_tokens` before it."""
    shape, own = stack.architecture, max(batch / stack.attention_groups, min(batch, 1))
    kv = own * kv_read_bytes(shape, context_tokens, stack.kv_type, _group(stack))
    state = 2 * own * (shape.state_bytes_per_sequence or 0) / _group(stack)  # it is read and written
    return _step(stack, batch, own * attention_flops(shape, context_tokens) / _group(stack), kv, state)


def prefill_step(stack: Stack, prompt_tokens: float, prompts: float = 1) -> Step:
    """Whole prompts in one pass, nothing of them cached; a token looks back on half of its prompt on average."""
    shape, own = stack.architecture, prompts / stack.attention_groups
    back = attention_flops(shape, prompt_tokens / 2, prefill=True)
    written = own * sequence_bytes(shape, math.ceil(prompt_tokens), stack.kv_type, _group(stack))
    return _step(stack, prompts * prompt_tokens, own * prompt_tokens * back / _group(stack), written, 0)


def tpot_bound_ms(stack: Stack, batch: float, input_tokens: float, output_tokens: float) -> float:
    """No engine's mean TPOT is below it while `batch` sequences decode together (`running`: those that fit).

    A step decodes one token of each, at the mean context, and in the long run the same chips prefill input/output
    prompt tokens for every token decoded; that prefill adds its arithmetic and exchange, and its reading is free.
    """
    decode = decode_step(stack, batch, input_tokens + output_tokens / 2)
    prompt = prefill_step(stack, input_tokens, batch / output_tokens)
    return max(decode.memory_ms, decode.arithmetic_ms + prompt.arithmetic_ms, decode.exchange_ms + prompt.exchange_ms)


def ttft_bound_ms(stack: Stack, input_tokens: float) -> float:
    """No engine's first token comes sooner: one prompt, prefilled at once, nothing of it cached, nothing before it."""
    return prefill_step(stack, input_tokens).bound_ms


def tpot_ms(stack: Stack, batch: float, input_tokens: float, output_tokens: float, *,
            memory_share: float = 0.8, compute_share: float = 0.5, layer_ms: float = 0.08) -> float:
    """TPOT with fixed shares of the peaks, parts one after another: an estimate where nothing like it was measured.

    memory_share 0.8 is `mem_bw_empirical_scaling_factor` of aiconfigurator-core's spec sheets; compute_share 0.5 and
    0.08 ms a layer (its kernels' launching and waiting) are round figures that are near for servers of 2025.
    """
    decode = decode_step(stack, batch, input_tokens + output_tokens / 2)
    prompt = prefill_step(stack, input_tokens, batch / output_tokens)
    return (decode.memory_ms / memory_share + (decode.arithmetic_ms + prompt.arithmetic_ms) / compute_share
            + decode.exchange_ms + prompt.exchange_ms + layer_ms * stack.architecture.layers)


def _group(stack: Stack) -> int:
    """Chips that share one sequence's attention."""
    return stack.chips // stack.attention_groups


def _step(stack: Stack, tokens: float, attention_flop: float, kv_bytes: float, state_bytes: float) -> Step:
    """Two exchanges a layer of 16-bit states, each of which brings every chip the other chips' share, (n − 1)/n."""
    shape, chip, part = stack.architecture, stack.chip, parameters(stack.architecture)
    attention_bytes = part.attention * (stack.attention_weight_bytes or stack.weight_bytes) / _group(stack)
    weights = attention_bytes + (part.dense * stack.weight_bytes + part.head * 2) / stack.chips
    experts = part.experts * stack.weight_bytes * experts_touched(shape, tokens) / stack.chips
    moved = 2 * shape.layers * shape.hidden_size * 2 * tokens / stack.attention_groups
    foreign = (stack.chips - 1) / stack.chips
    per_byte = 1e3 / chip.memory_bandwidth_bytes_per_s
    return Step(weights * per_byte, experts * per_byte, kv_bytes * per_byte, state_bytes * per_byte,
                2 * active_parameters(shape) * tokens / stack.chips / chip.flops_per_s * 1e3,
                attention_flop / chip.attention_flops_per_s * 1e3,
                moved * foreign / (chip.link_bytes_per_s or 1) * 1e3)
