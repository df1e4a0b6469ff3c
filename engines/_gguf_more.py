"""What a GGUF header tells of a model beyond its plain shape: experts, windows, latent attention, recurrent layers.

Names: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and gguf.constants.Keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_EVERY = {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "gpt-oss": 2, "cohere2": 4, "llama4": 4}
"""Families whose window llama.cpp knows by heart: every n-th layer looks back to the beginning (src/models/)."""


def more(metadata: Mapping[str, Any], family: str, elements: Mapping[str, int]) -> dict[str, int | None]:
    """The optional fields of models.specs.Architecture. `elements` of each tensor by its name."""
    m = {key.removeprefix(f"{family}."): value for key, value in metadata.items()}
    return {**_experts(m, elements), **_window(m, family), **_recurrent(m), **_cached(m)}


def _experts(m: Mapping[str, Any], elements: Mapping[str, int]) -> dict[str, int | None]:
    every, chosen = int(m.get("expert_count") or 0), int(m.get("expert_used_count") or 0)
    if not every or not chosen:
        return {}
    routed = sum(n for name, n in elements.items() if "_exps." in name)
    looked_up = elements.get("token_embd.weight", 0) if "output.weight" in elements else 0
    size, shared = m.get("expert_feed_forward_length"), m.get("expert_shared_feed_forward_length")
    return {"experts": every, "experts_per_token": chosen, "expert_intermediate_size": size,
            "shared_experts": m.get("expert_shared_count") or (round(shared / size) if size and shared else None),
            "dense_layers": m.get("leading_dense_block_count") or None,
            "active_parameters": sum(elements.values()) - looked_up - routed + routed * chosen // every}


def _window(m: Mapping[str, Any], family: str) -> dict[str, int | None]:
    layers, window = int(m["block_count"]), m.get("attention.sliding_window")
    pattern = m.get("attention.sliding_window_pattern") or _EVERY.get(family)
    if not window or not pattern:
        return {}
    sliding = sum(map(bool, pattern)) if isinstance(pattern, list) else layers - layers // int(pattern)
    return {"sliding_window_tokens": int(window), "sliding_layers": sliding or None}


def _recurrent(m: Mapping[str, Any]) -> dict[str, int | None]:
    """llama.cpp keeps the states in F32 (llama_hparams::n_embd_r and n_embd_s)."""
    layers, heads = int(m["block_count"]), m.get("attention.head_count_kv")
    interval = m.get("full_attention_interval")
    kvless = sum(not n for n in heads) if isinstance(heads, list) else layers - layers // interval if interval else 0
    if not kvless or "ssm.state_size" not in m:
        return {"kvless_layers": kvless or None}
    state, inner, groups = (int(m.get(f"ssm.{n}") or 0) for n in ("state_size", "inner_size", "group_count"))
    feed = m.get("feed_forward_length")
    states = sum(not h and not f for h, f in zip(heads, feed, strict=True)) if (
        isinstance(heads, list) and isinstance(feed, list)) else kvless
    one = (int(m["ssm.conv_kernel"]) - 1) * (inner + 2 * groups * state) + state * inner
    return {"kvless_layers": kvless, "state_bytes_per_sequence": states * one * 4}


def _cached(m: Mapping[str, Any]) -> dict[str, int | None]:
    if rank := m.get("attention.kv_lora_rank"):
        return {"kv_lora_rank": int(rank), "qk_rope_head_dim": int(m["rope.dimension_count"]),
                "index_dim": m.get("attention.indexer.key_length")}
    key, value, heads = (m.get(f"attention.{n}") for n in ("key_length", "value_length", "head_count_kv"))
    if not key or not value or key == value:
        return {}
    return {"kv_values_per_layer": (max(heads) if isinstance(heads, list) else int(heads or 1)) * (key + value)}
