"""What the machine and the engine were doing while a load ran, sampled in a thread."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import polars as pl
import psutil

from models.frames import TELEMETRY
from workloads import power

Sample = tuple[int, str, str, float]


class Sampler:
    """`with Sampler(pids, gauges) as s: …; s.frame()` in the columns of models.frames.TELEMETRY.

    pids returns the engine's process tree; gauges its own figures (None: it has none; its errors are skipped). t0_ns is
    the perf_counter_ns that counts as t = 0 (default: on entering). CPU is in per cent of one core, so two busy
    cores are 200; source `host` is the whole machine. Power and energy, where they can be read (workloads.power), are
    also read at both ends, so that they are known for the whole of what happens inside.
    """

    def __init__(self, pids: Callable[[], list[int]], gauges: Callable[[], dict[str, float]] | None,
                 interval_s: float = 0.5, t0_ns: int | None = None, powercap: Path = power.POWERCAP) -> None:
        self._pids, self._gauges, self._interval_s, self._t0_ns = pids, gauges, interval_s, t0_ns
        self._samples: list[Sample] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="dyno-telemetry", daemon=True)
        self._powercap, self._sampled = powercap, False
        self._meters: list[power.Meter] = []
        self._busy_s: dict[str, float] = {}
        self._engine: dict[int, psutil.Process] = {}
        self._engine_s: dict[int, float] = {}

    def __enter__(self) -> Self:
        if self._t0_ns is None:
            self._t0_ns = time.perf_counter_ns()
        self._meters = power.meters(self._powercap)
        self._metered()
        self._last_ns = time.perf_counter_ns()
        self._cpu()  # the figures that the first differences start from
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        for meter in self._meters:
            meter.close()

    def frame(self) -> pl.DataFrame:
        """Returns the samples so far."""
        return pl.DataFrame(list(self._samples), schema=TELEMETRY, orient="row")

    def _watch(self) -> None:
        while not self._ended.wait(self._interval_s):
            self._sample()
        # CPU time is counted in hundredths of a second: a short rest at the end would say nothing.
        if not self._sampled or time.perf_counter_ns() - self._last_ns > self._interval_s / 2 * 1e9:
            self._sample()
        else:
            self._metered()

    def _metered(self) -> None:
        at = time.perf_counter_ns() - (self._t0_ns or 0)
        pids = set(self._pids()) if self._meters else set()
        self._samples += [(at, *figure) for meter in self._meters for figure in meter.read(pids)]

    def _sample(self) -> None:
        self._metered()
        self._sampled = True
        now, elapsed_s = time.perf_counter_ns(), (time.perf_counter_ns() - self._last_ns) / 1e9
        self._last_ns = now
        at = now - (self._t0_ns or 0)
        found = [(source, "cpu_percent", 100 * used / elapsed_s) for source, used in self._cpu().items()]
        memory = psutil.virtual_memory()
        found += [("host", "memory_used_bytes", float(memory.total - memory.available)),
                  ("host", "memory_total_bytes", float(memory.total))]
        if self._engine:
            found.append(("engine", "rss_bytes", float(sum(_rss(p) for p in self._engine.values()))))
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
