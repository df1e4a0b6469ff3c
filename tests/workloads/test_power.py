"""Meters of power and energy: a made-up powercap folder, a made-up NVML (both named so), and this machine's own."""

from __future__ import annotations

import sys
import time
import types
from pathlib import Path

import polars as pl
import pytest

from workloads import power
from workloads.telemetry import Sampler

RANGE_UJ = 262_143_328_850
"""What an Intel package's counter reaches before it starts again from 0."""


def made_up_powercap(root: Path, counters: dict[str, int]) -> Path:
    """A folder like /sys/class/powercap, with package zones and a part of one."""
    for i, (name, uj) in enumerate(counters.items()):
        zone = root / f"intel-rapl:{i}"
        zone.mkdir(parents=True)
        (zone / "name").write_text(f"{name}\n")
        (zone / "energy_uj").write_text(f"{uj}\n")
        (zone / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    return root


class MadeUpNvml(types.ModuleType):
    """Says what NVML would of two GPUs; the second counts no energy, as before Volta."""

    class NVMLError(Exception):
        pass

    def __init__(self, pid: int) -> None:
        super().__init__("pynvml")
        self.pid, self.opened, self.mj = pid, 0, 5_000_000

    def nvmlInit(self) -> None:
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> types.SimpleNamespace:
        return types.SimpleNamespace(gpu=70 + handle)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> types.SimpleNamespace:
        return types.SimpleNamespace(used=2**30)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return 250_000

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        if handle:
            raise self.NVMLError("not supported")
        self.mj += 1_500
        return self.mj

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[types.SimpleNamespace]:
        return [types.SimpleNamespace(pid=self.pid)] if handle == 0 else []


def test_packages_count_from_the_first_reading_and_over_the_end_of_their_range(tmp_path: Path) -> None:
    root = made_up_powercap(tmp_path, {"package-0": RANGE_UJ - 999_999, "core": 7, "package-1": 100, "psys": 9})
    first, second = power.meters(root)
    assert list(first.read([])) == [("cpu_package0", "energy_joules", 0.0)]
    (root / "intel-rapl:0/energy_uj").write_text("2000000\n")
    assert list(first.read([])) == [("cpu_package0", "energy_joules", 3.0)]
    (root / "intel-rapl:2/energy_uj").unlink()
    assert list(second.read([])) == []


def test_packages_that_only_root_may_read_are_left_out(tmp_path: Path) -> None:
    root = made_up_powercap(tmp_path, {"package-0": 1})
    (root / "intel-rapl:0/energy_uj").unlink()  # root reads whatever its mode: a missing file is as unreadable to it
    assert power.meters(root) == [] and power.meters(tmp_path / "none") == []


def test_gpus_tell_what_they_can(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nvml = MadeUpNvml(pid=42)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    one, two = power.meters(tmp_path)
    assert {m: v for _, m, v in one.read({42})} == {
        "gpu_percent": 70, "memory_used_bytes": 2**30, "power_watts": 250, "energy_joules": 0, "engine_processes": 1}
    assert {m: v for _, m, v in one.read({7})}["energy_joules"] == 1.5
    said = list(two.read({42}))
    assert {s for s, _, _ in said} == {"gpu1"} and "energy_joules" not in {m for _, m, _ in said}
    one.close()
    two.close()
    assert nvml.opened == 0


def test_a_load_of_any_length_has_readings_at_both_ends(tmp_path: Path) -> None:
    root = made_up_powercap(tmp_path, {"package-0": 0})
    start = time.perf_counter_ns()
    with Sampler(list, None, interval_s=60, t0_ns=start, powercap=root) as sampler:
        inside = time.perf_counter_ns() - start
        (root / "intel-rapl:0/energy_uj").write_text("1250000\n")
        end = time.perf_counter_ns() - start
    rows = sampler.frame().filter(pl.col("source") == "cpu_package0")
    assert rows["at_ns"].min() <= inside and rows["at_ns"].max() >= end  # type: ignore[operator]
    assert (rows["value"][0], rows["value"][-1]) == (0.0, 1.25) and sampler.frame()["at_ns"].is_sorted()


def test_this_machines_own_meters_count_up() -> None:
    own = power.meters()
    if not own:
        pytest.skip("neither RAPL (/sys/class/powercap) nor NVML can be read on this machine")
    before = {(s, m): v for meter in own for s, m, v in meter.read([])}
    time.sleep(0.3)
    after = {(s, m): v for meter in own for s, m, v in meter.read([])}
    energies = [k for k in before if k[1] == "energy_joules"]
    assert all(after[k] > before[k] for k in energies) and set(after) == set(before)
