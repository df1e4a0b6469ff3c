"""Samples what the machine, the engine and the instrument itself use while a trial runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

import polars as pl
import psutil

from models.frames import TELEMETRY


class Sampler:
    """A thread that samples for as long as its `with` lasts; `frame` has the columns of models.frames.TELEMETRY.

    cpu_percent is in percent of one core. `pids` lists the engine's processes (none for a server that dyno did not
    start), `gauges` asks it about itself.
    """

    def __init__(self, pids: Callable[[], list[int]], gauges: Callable[[], dict[str, float]] | None, *,
                 t0_ns: int | None = None, interval_s: float = 0.5) -> None:
        self._pids, self._gauges, self._interval_s = pids, gauges, interval_s
        self._t0_ns = t0_ns or time.perf_counter_ns()
        self._rows: list[tuple[int, str, str, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._engine_cpu_s = self._client_cpu_s = self._host_cpu_s = self._at_s = 0.0

    def __enter__(self) -> Sampler:
        self._read_cpu()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def frame(self) -> pl.DataFrame:
        """The samples so far."""
        return pl.DataFrame(self._rows, schema=TELEMETRY, orient="row")

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._sample()
        self._sample()

    def _sample(self) -> None:
        before = (self._host_cpu_s, self._engine_cpu_s, self._client_cpu_s, self._at_s)
        rss = self._read_cpu()
        passed = self._at_s - before[3]
        if passed < self._interval_s / 4:
            return  # too short for processor time, which is counted in hundredths of a second
        at_ns = time.perf_counter_ns() - self._t0_ns
        after = (self._host_cpu_s, self._engine_cpu_s, self._client_cpu_s)
        for source, now, then in zip(("host", "engine", "client"), after, before[:3], strict=True):
            self._rows.append((at_ns, source, "cpu_percent", max(0.0, 100 * (now - then) / passed)))
        self._rows.append((at_ns, "host", "memory_used_bytes", float(psutil.virtual_memory().used)))
        if rss is not None:
            self._rows.append((at_ns, "engine", "rss_bytes", rss))
        for name, value in (self._gauges() if self._gauges else {}).items():
            self._rows.append((at_ns, "gauges", name, value))

    def _read_cpu(self) -> float | None:
        """Reads processor times; returns the engine's resident bytes, None when it has no process here."""
        self._at_s = time.perf_counter()
        host = psutil.cpu_times()
        self._host_cpu_s = sum(host) - host.idle - getattr(host, "iowait", 0.0) - getattr(host, "guest", 0.0)
        self._client_cpu_s = time.process_time()
        engine_s, rss, seen = 0.0, 0.0, False
        for pid in self._pids():
            try:
                process = psutil.Process(pid)
                times = process.cpu_times()
                engine_s += times.user + times.system
                rss += process.memory_info().rss
                seen = True
            except psutil.Error:
                continue
        self._engine_cpu_s = engine_s
        return rss if seen else None
