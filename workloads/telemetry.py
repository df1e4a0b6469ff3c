"""What the machine and the engine were doing while a load ran, sampled in a thread."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import polars as pl
import psutil

from models.frames import TELEMETRY

Sample = tuple[int, str, str, float]


class Sampler:
    """`with Sampler(pids, gauges) as s: …; s.frame()` in the columns of models.frames.TELEMETRY.

    pids returns the engine's process tree; gauges its own figures (None: it has none; its errors are skipped). t0_ns is
    the perf_counter_ns that counts as t = 0 (default: on entering). CPU is in per cent of one core, so two busy
    cores are 200; source `host` is the whole machine.
    """

    def __init__(self, pids: Callable[[], list[int]], gauges: Callable[[], dict[str, float]] | None,
                 interval_s: float = 0.5, t0_ns: int | None = None) -> None:
        self._pids, self._gauges, self._interval_s, self._t0_ns = pids, gauges, interval_s, t0_ns
        self._samples: list[Sample] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="dyno-telemetry", daemon=True)
        self._gpus: list[tuple[str, Any, Any]] = []
        self._busy_s: dict[str, float] = {}
        self._engine: dict[int, psutil.Process] = {}
        self._engine_s: dict[int, float] = {}

    def __enter__(self) -> Self:
        if self._t0_ns is None:
            self._t0_ns = time.perf_counter_ns()
        self._gpus = _gpus()
        self._last_ns = time.perf_counter_ns()
        self._cpu()  # the figures that the first differences start from
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def frame(self) -> pl.DataFrame:
        """Returns the samples so far."""
        return pl.DataFrame(list(self._samples), schema=TELEMETRY, orient="row")

    def _watch(self) -> None:
        while not self._ended.wait(self._interval_s):
            self._sample()
        # CPU time is counted in hundredths of a second: a short rest at the end would say nothing.
        if not self._samples or time.perf_counter_ns() - self._last_ns > self._interval_s / 2 * 1e9:
            self._sample()

    def _sample(self) -> None:
        now, elapsed_s = time.perf_counter_ns(), (time.perf_counter_ns() - self._last_ns) / 1e9
        self._last_ns = now
        at = now - (self._t0_ns or 0)
        found = [(source, "cpu_percent", 100 * used / elapsed_s) for source, used in self._cpu().items()]
        memory = psutil.virtual_memory()
        found += [("host", "memory_used_bytes", float(memory.total - memory.available)),
                  ("host", "memory_total_bytes", float(memory.total))]
        if self._engine:
            found.append(("engine", "rss_bytes", float(sum(_rss(p) for p in self._engine.values()))))
        for name, nvml, handle in self._gpus:
            found += [(name, metric, value) for metric, value in _gpu_figures(nvml, handle)]
        if self._gauges:
            with contextlib.suppress(Exception):  # the engine may be gone or busy: that must not end a measurement
                found += [("gauges", metric, float(value)) for metric, value in self._gauges().items()]
        self._samples += [(at, source, metric, value) for source, metric, value in found]

    def _cpu(self) -> dict[str, float]:
        """CPU seconds used since the last call, by source."""
        times, own = psutil.cpu_times(), psutil.Process().cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # counted in user already
        parts = sum(_cpu_s(p) for child in multiprocessing.active_children() if (p := _process(child.pid)))
        total = {"host": sum(times) - idle - guest, "client": own.user + own.system + parts}
        used = {source: max(0.0, s - self._busy_s.get(source, s)) for source, s in total.items()}
        self._busy_s = total
        pids = self._pids()
        if pids or self._engine:
            used["engine"] = self._engine_cpu(pids)
        return used

    def _engine_cpu(self, pids: list[int]) -> float:
        """Of the engine's processes that were there last time too, and all of those that are new."""
        self._engine = {pid: p for pid in pids if (p := self._engine.get(pid) or _process(pid))}
        now = {pid: _cpu_s(p) for pid, p in self._engine.items()}
        first = not self._engine_s
        used = sum(s - self._engine_s.get(pid, s if first else 0.0) for pid, s in now.items())
        self._engine_s = now
        return max(0.0, used)


def _process(pid: int | None) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _gpus() -> list[tuple[str, Any, Any]]:
    """Name, NVML and handle of each GPU, where the optional pynvml and a driver are there."""
    try:
        nvml: Any = importlib.import_module("pynvml")
        nvml.nvmlInit()
        return [(f"gpu{i}", nvml, nvml.nvmlDeviceGetHandleByIndex(i)) for i in range(nvml.nvmlDeviceGetCount())]
    except Exception:  # not installed, no driver, no permission: GPUs are optional
        return []


def _gpu_figures(nvml: Any, handle: Any) -> Iterator[tuple[str, float]]:
    """What a GPU lacks is left out."""
    figures: dict[str, Callable[[], float]] = {
        "gpu_percent": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
        "memory_used_bytes": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used,
        "power_watts": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
    }
    for metric, ask in figures.items():
        with contextlib.suppress(nvml.NVMLError):
            yield metric, float(ask())
