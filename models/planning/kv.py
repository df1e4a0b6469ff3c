"""Level 2: the bytes that the cache of a sequence takes, layer by layer, as engines page it.

Sources: multi-head and grouped-query attention keep 2 · kv_heads · head_dim values a token and layer (arXiv 1706.03762,
2305.13245); latent attention keeps kv_lora_rank + qk_rope_head_dim (arXiv 2405.04434); a layer with a window keeps its
last tokens only; recurrent layers keep a state of fixed size.
"""

from __future__ import annotations

from typing import NamedTuple

from models.errors import UserError
from models.specs import Architecture

KV_BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "auto": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32,
            "q4_1": 20 / 32, "q4_0": 18 / 32, "iq4_nl": 18 / 32, "fp8": 1.0, "fp8_e4m3": 1.0, "fp8_e5m2": 1.0,
            "fp8_e4m3fn": 1.0, "nvfp4": 4.5 / 8}
"""Bytes of one stored key or value by type; the block formats of GGML carry their scales (34 bytes for 32 values)."""


class Paging(NamedTuple):
    """How an engine hands out cache: in blocks of so many tokens; while it computes `ahead_tokens` at once, a layer
    with a window holds these too; grouped: layers of both kinds draw blocks of one size, which pads some (vLLM)."""

    block_tokens: int = 1
    ahead_tokens: int = 0
    grouped: bool = False


class Layers(NamedTuple):
    """Layers that keep every token, and those with a window."""

    full: int
    sliding: int


def value_bytes(kv_type: str) -> float:
    """Bytes of one stored key or value. Raises UserError for an unknown type."""
    if (found := KV_BYTES.get(kv_type.lower())) is None:
        raise UserError(f"kv-type {kv_type}: not known; known are {', '.join(KV_BYTES)}")
    return found


def layers(shape: Architecture) -> Layers:
    """Recurrent layers are in neither."""
    sliding = shape.sliding_layers or 0
    return Layers(shape.layers - sliding - (shape.kvless_layers or 0), sliding)


def layer_bytes(shape: Architecture, kv_type: str = "f16", gpus: int = 1) -> tuple[float, float]:
    """Bytes of one token in one full and in one sliding layer, on one of `gpus` that share the model.

    KV heads are dealt out, and copied where there are more GPUs than heads; the one vector of latent attention is kept
    whole by every GPU. Raises UserError for an unknown type.
    """
    one = value_bytes(kv_type)
    index = (shape.index_dim + 4 * -(-shape.index_dim // 128)) if shape.index_dim else 0  # 8 bits, a scale for 128
    if shape.kv_lora_rank:
        size = (shape.kv_lora_rank + (shape.qk_rope_head_dim or 0)) * one + index
        return size, size
    share = -(-shape.kv_heads // gpus) / shape.kv_heads
    plain = 2 * shape.kv_heads * shape.head_dim
    full = (shape.kv_values_per_layer or plain) * one * share + index
    return full, (shape.sliding_kv_values_per_layer or plain) * one * share


def bytes_per_token(shape: Architecture, kv_type: str = "f16", gpus: int = 1) -> float:
    """Bytes of one token in all layers while no window is full, on one of `gpus`. Raises UserError as above."""
    full, sliding = layer_bytes(shape, kv_type, gpus)
    count = layers(shape)
    return count.full * full + count.sliding * sliding


def sequence_bytes(shape: Architecture, tokens: int, kv_type: str = "f16", gpus: int = 1,
                   paging: Paging | None = None) -> float:
    """Bytes that one sequence of so many tokens takes on one of `gpus`, whole blocks counted.

    Without `paging`: what it takes at the end, by the token; with it, at most while it is computed. Never falls with
    more tokens. Raises UserError as above.
    """
    how = paging or Paging()
    count, (full, sliding) = layers(shape), layer_bytes(shape, kv_type, gpus)
    if how.grouped and count.full and count.sliding:
        count = _padded(count)
    blocks = -(-tokens // how.block_tokens)
    kept = min(tokens, (shape.sliding_window_tokens or tokens) - 1 + how.ahead_tokens) if paging else min(
        tokens, shape.sliding_window_tokens or tokens)
    # vLLM counts one block more for a window, which need not begin where a block does.
    windows = -(-kept // how.block_tokens) + (1 if how.grouped else 0)
    state = (shape.state_bytes_per_sequence or 0) / gpus
    return (count.full * full * blocks + count.sliding * sliding * windows) * how.block_tokens + state


def _padded(count: Layers) -> Layers:
    """vLLM's groups (v1/core/kv_cache_utils.py): as many layers in each as the rarer kind has, or the commoner where
    they are nearly as many; the last group of a kind is filled up."""
    few, many = min(count), max(count)
    size = many if many < 1.5 * few else few
    return Layers(-(-count.full // size) * size, -(-count.sliding // size) * size)


def decode_read_bytes(weights_bytes: float, shape: Architecture, kv_type: str, context_tokens: int) -> float:
    """Bytes read from memory for one decoded token of one sequence: all weights once, and the sequence's cache."""
    return weights_bytes + sequence_bytes(shape, context_tokens, kv_type)
