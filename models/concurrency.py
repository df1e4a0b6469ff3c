"""How many requests fit, and how CPU threads cap them: the rough formulas as the mission states them (level 1)."""

from __future__ import annotations

import math


def rough_max_concurrency(memory_bytes: float, model_bytes: float, tokens: int, hidden_size: int) -> int:
    """max concurrency ≈ floor((GPU memory − M_model) / (L × D × 8 bytes)), 8 bytes "allowing for Q/K/V" (survey).

    0 when the weights do not fit. Raises ValueError when tokens or hidden_size is not positive.
    """
    if tokens <= 0 or hidden_size <= 0:
        raise ValueError("tokens and hidden_size must be positive")
    return max(0, math.floor((memory_bytes - model_bytes) / (tokens * hidden_size * 8.0)))


def rough_cpu_parallelism(concurrency: int, threads: int) -> int:
    """CPU inference: throughput ∝ min(concurrency, threads T) (survey). Returns that minimum."""
    return min(concurrency, threads)
