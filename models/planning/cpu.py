"""Level 2 on CPUs: where throughput ∝ min(concurrency, threads) holds, and where memory bandwidth breaks it."""

from __future__ import annotations


def thread_bound_tokens_per_second(concurrency: float, threads: int, tokens_per_second_per_thread: float) -> float:
    """The survey's rule with its constant: min(concurrency, threads) × what one thread decodes.

    It is an engine's that gives each sequence a thread; one that puts all threads on every step decodes
    threads × that rate at any concurrency, as long as arithmetic is what it waits for.
    """
    return min(concurrency, threads) * tokens_per_second_per_thread


def bandwidth_bound_tokens_per_second(concurrency: float, weight_bytes: float, kv_bytes_per_sequence: float,
                                      bandwidth_bytes_per_s: float) -> float:
    """Most output tokens a second when sequences decode together: a step reads all weights once and every sequence's
    cache, and yields one token each: c · bandwidth / (weights + c · KV). Source: the roofline model."""
    return concurrency * bandwidth_bytes_per_s / (weight_bytes + concurrency * kv_bytes_per_sequence)


def cpu_tokens_per_second(concurrency: float, threads: int, tokens_per_second_per_thread: float, weight_bytes: float,
                          kv_bytes_per_sequence: float, bandwidth_bytes_per_s: float) -> float:
    """The lesser of both bounds, output tokens a second."""
    return min(thread_bound_tokens_per_second(concurrency, threads, tokens_per_second_per_thread),
               bandwidth_bound_tokens_per_second(concurrency, weight_bytes, kv_bytes_per_sequence,
                                                 bandwidth_bytes_per_s))


def proportional_until(threads: int, tokens_per_second_per_thread: float, weight_bytes: float,
                       kv_bytes_per_sequence: float, bandwidth_bytes_per_s: float) -> int:
    """Largest concurrency up to `threads` at which throughput is still proportional to it: beyond, bandwidth caps what
    the threads could compute (or there are no more threads). 0 where memory is the limit already at 1.

    A step of c sequences that each thread finishes in 1/rate seconds must read weights + c · KV in that time.
    """
    spare = bandwidth_bytes_per_s / tokens_per_second_per_thread - weight_bytes
    if spare < 0:
        return 0
    return threads if threads * kv_bytes_per_sequence <= spare else int(spare / kv_bytes_per_sequence)
