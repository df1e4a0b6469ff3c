"""Power and energy of what computes: GPUs by NVML, CPU packages by RAPL, wherever these can be read.

NVML counts millijoules since the driver was loaded (nvmlDeviceGetTotalEnergyConsumption, Volta and later) and tells
watts now. RAPL counts microjoules of a package, memory controllers included and memory modules not, up to a range after
which it starts again from 0 (Linux: Documentation/power/powercap/powercap.rst); most systems let only root read it.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Protocol

POWERCAP = Path("/sys/class/powercap")
Figure = tuple[str, str, float]
"""Source, metric, value: as in models.frames.TELEMETRY."""


class Meter(Protocol):
    """Something that is read again and again. `energy_joules` counts from its first reading."""

    def read(self, pids: Collection[int]) -> Iterator[Figure]:
        """Its figures now; what cannot be read is left out. pids: the engine's."""

    def close(self) -> None:
        """Lets go of it."""


class Gpu:
    """One GPU."""

    def __init__(self, nvml: Any, index: int) -> None:
        self.source = f"gpu{index}"
        self._nvml, self._handle = nvml, nvml.nvmlDeviceGetHandleByIndex(index)
        self._first_mj: float | None = None

    def read(self, pids: Collection[int]) -> Iterator[Figure]:
        """What a GPU lacks is left out."""
        nvml, handle = self._nvml, self._handle
        figures: dict[str, Callable[[], float]] = {
            "gpu_percent": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
            "memory_used_bytes": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used,
            "power_watts": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
            "energy_joules": self._joules,
            "engine_processes": lambda: sum(p.pid in pids for p in nvml.nvmlDeviceGetComputeRunningProcesses(handle)),
        }
        for metric, ask in figures.items():
            with contextlib.suppress(nvml.NVMLError):
                yield self.source, metric, float(ask())

    def _joules(self) -> float:
        now = self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        self._first_mj = now if self._first_mj is None else self._first_mj
        return float(now - self._first_mj) / 1000

    def close(self) -> None:
        """NVML counts who initialised it: one each."""
        with contextlib.suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()


class Package:
    """One CPU package."""

    def __init__(self, source: str, folder: Path) -> None:
        self.source, self._counter = source, folder / "energy_uj"
        self._range_uj = int((folder / "max_energy_range_uj").read_text())
        self._last_uj = int(self._counter.read_text())
        self._joules = 0.0

    def read(self, pids: Collection[int]) -> Iterator[Figure]:
        """Adds what was used since the last reading: at most one range, which lasts for minutes under full load."""
        with contextlib.suppress(OSError, ValueError):
            now = int(self._counter.read_text())
            self._joules += (now - self._last_uj) % (self._range_uj + 1) / 1e6
            self._last_uj = now
            yield self.source, "energy_joules", self._joules

    def close(self) -> None:
        """Nothing is held."""


def meters(powercap: Path = POWERCAP) -> list[Meter]:
    """Returns what can be read on this machine: GPUs, where the optional nvidia-ml-py and a driver are there, and CPU
    packages."""
    return [*_gpus(), *_packages(powercap)]


def _gpus() -> Iterator[Gpu]:
    try:
        nvml: Any = importlib.import_module("pynvml")
        nvml.nvmlInit()
        count = nvml.nvmlDeviceGetCount()
        for index in range(count):
            if index:
                nvml.nvmlInit()
            yield Gpu(nvml, index)
    except Exception:  # not installed, no driver, no permission: GPUs are optional
        return


def _packages(powercap: Path) -> Iterator[Package]:
    """The control zones named package-N; their parts (core, dram) and the platform's whole are others."""
    for folder in sorted(powercap.glob("intel-rapl:*")):  # AMD's are served by the same driver, under the same name
        with contextlib.suppress(OSError, ValueError):
            name = (folder / "name").read_text().strip()
            if name.startswith("package-"):
                yield Package(f"cpu_package{name.removeprefix('package-')}", folder)
