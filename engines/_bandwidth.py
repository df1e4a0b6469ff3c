"""Measures how fast this machine reads memory: what bounds decoding on a CPU."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np

from engines import _hardware

_MIB = 1 << 20
_BUFFER_BYTES_MAX = 512 * _MIB
_PASSES = 4


@cache
def memory_bandwidth_gb_s() -> float:
    """Best of a few passes over a buffer larger than the caches, one thread on each core, in 10⁹ bytes a second.

    Takes under a second or two, most of it the operating system's handing out of the buffer; measured once a process.
    """
    cores = _hardware.physical_cores()
    words = _buffer_bytes() // 8 // cores
    with ThreadPoolExecutor(cores) as threads:
        parts = list(threads.map(lambda _: np.ones(words, np.int64), range(cores)))
        best_s = min(_pass_s(threads, parts) for _ in range(_PASSES))
    return round(cores * words * 8 / best_s / 1e9, 1)


def _pass_s(threads: ThreadPoolExecutor, parts: list[np.ndarray[tuple[int], np.dtype[np.int64]]]) -> float:
    started = time.perf_counter()
    list(threads.map(np.add.reduce, parts))  # numpy lets the interpreter's lock go meanwhile
    return time.perf_counter() - started


def _buffer_bytes() -> int:
    """Four times the last-level cache, where memory and patience allow it."""
    wanted = max(64 * _MIB, 4 * _last_level_cache_bytes())
    return min(wanted, _BUFFER_BYTES_MAX, _hardware.memory_bytes() // 8)


def _last_level_cache_bytes() -> int:
    sizes = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    try:
        return max((int(s.read_text().strip().removesuffix("K")) * 1024 for s in sizes), default=32 * _MIB)
    except (OSError, ValueError):
        return 32 * _MIB
