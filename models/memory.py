"""Memory: the rough formulas exactly as the mission states them, and the exact bytes beside them.

`rough_*` come from the survey of inference engines quoted in the mission (level 1). They know no layers, no grouped
heads and no quantisation; they are kept so that their error can be shown.
"""

from __future__ import annotations

from models.specs import Architecture

KV_BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "auto": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32,
            "q4_1": 20 / 32, "q4_0": 18 / 32, "iq4_nl": 18 / 32, "fp8": 1.0, "fp8_e4m3": 1.0, "fp8_e5m2": 1.0}
"""Bytes of one stored key or value by type; the block formats of GGML carry their scales (34 bytes for 32 values)."""


def rough_total_bytes(weight_bytes: float, concurrency: int, request_bytes: float) -> float:
    """total memory ≈ weights + concurrency × memory per request (survey)."""
    return weight_bytes + concurrency * request_bytes


def rough_requests_bytes(concurrency: int, prompt_tokens: int, hidden_size: int) -> float:
    """memory for requests ≈ concurrency × (L × D × 4 bytes) (survey)."""
    return concurrency * (prompt_tokens * hidden_size * 4.0)


def rough_kv_bytes(concurrency: int, prompt_tokens: int, hidden_size: int) -> float:
    """each step stores keys and values: extra memory ≈ concurrency × L × D × 2 × 4 bytes (survey)."""
    return concurrency * prompt_tokens * hidden_size * 2 * 4.0


def kv_bytes_per_token(shape: Architecture, kv_type: str = "f16") -> float:
    """2 · layers · kv_heads · head_dim · bytes a value: exact for multi-head and grouped-query attention.

    Raises KeyError for an unknown type.
    """
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * KV_BYTES[kv_type.lower()]


def decode_read_bytes(model_bytes: float, shape: Architecture, kv_type: str, context_tokens: float) -> float:
    """Bytes read from memory for one decoded token of one sequence: all weights once, and the sequence's cache."""
    return model_bytes + context_tokens * kv_bytes_per_token(shape, kv_type)
