"""Throughput: the rough formula as the mission states it (level 1), and the bandwidth bound that explains decode."""

from __future__ import annotations


def rough_output_tokens_per_second(concurrency: float, output_tokens_mean: float, response_s_mean: float) -> float:
    """throughput ≈ concurrency × mean output tokens a request / mean response time (survey; Little's law)."""
    return concurrency * output_tokens_mean / response_s_mean


def bandwidth_bound_tpot_ms(bytes_read: float, bandwidth_gb_s: float) -> float:
    """Least time per output token when a decode step only waits for memory: bytes read ÷ bandwidth.

    Source: the roofline model (Williams, Waterman and Patterson, 2009) at an arithmetic intensity near zero.
    """
    return bytes_read / (bandwidth_gb_s * 1e9) * 1e3


def effective_bandwidth_gb_s(bytes_read: float, tpot_ms: float) -> float:
    """Bandwidth a decode step drew if it read `bytes_read` in `tpot_ms`."""
    return bytes_read / (tpot_ms * 1e-3) / 1e9
