"""Memory: the rough formulas exactly as the mission states them (level 1).

They come from the survey of inference engines quoted in the mission. They know no layers, no grouped heads and no
quantisation; they are kept so that their error can be shown beside level 2 (models.planning.memory).
"""

from __future__ import annotations


def rough_total_bytes(weight_bytes: float, concurrency: int, request_bytes: float) -> float:
    """total memory ≈ weights + concurrency × memory per request (survey)."""
    return weight_bytes + concurrency * request_bytes


def rough_requests_bytes(concurrency: int, prompt_tokens: int, hidden_size: int) -> float:
    """memory for requests ≈ concurrency × (L × D × 4 bytes) (survey)."""
    return concurrency * (prompt_tokens * hidden_size * 4.0)


def rough_kv_bytes(concurrency: int, prompt_tokens: int, hidden_size: int) -> float:
    """each step stores keys and values: extra memory ≈ concurrency × L × D × 2 × 4 bytes (survey)."""
    return concurrency * prompt_tokens * hidden_size * 2 * 4.0
