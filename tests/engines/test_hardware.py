"""What this machine says of itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engines import _hardware


def test_detects_this_machine() -> None:
    spec = _hardware.detect("cpu")
    assert spec.kind == "cpu"
    assert 1 <= spec.cores <= len(os.sched_getaffinity(0))
    assert spec.memory_gib == round(_hardware.memory_bytes() / 2**30) > 0
    assert spec.name.endswith(f"-{spec.cores}c-{spec.memory_gib}g")
    assert _hardware.detect("cpu").hardware_id == spec.hardware_id


@pytest.mark.parametrize(("name", "slug"), [
    ("Intel(R) Xeon(R) Platinum 8480+ CPU @ 2.00GHz", "intel-xeon-platinum-8480"),
    ("AMD EPYC 9654 96-Core Processor", "amd-epyc-9654"),
    ("NVIDIA H100 80GB HBM3", "nvidia-h100-80gb-hbm3"),
    ("Apple M2 Max", "apple-m2-max"),
])
def test_names_are_short(name: str, slug: str) -> None:
    assert _hardware._slug(name) == slug


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU only")
def test_affinity_limits_the_cores() -> None:
    one = str(min(os.sched_getaffinity(0)))
    code = "from engines._hardware import detect; print(detect('cpu').cores)"
    said = subprocess.run(["taskset", "-c", one, sys.executable, "-c", code], capture_output=True, text=True,
                          check=True, cwd=Path(__file__).parents[2])
    assert said.stdout.strip() == "1"


@pytest.mark.parametrize(("quota", "cores"), [("50000 100000", 1), ("150000 100000", 1), ("max 100000", None)])
def test_a_container_quota_limits_the_cores(quota: str, cores: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    real = _hardware._read
    monkeypatch.setattr(_hardware, "_read", lambda path: quota if path.endswith("cpu.max") else real(path))
    assert len(_hardware.usable_cpus()) == (cores or len(os.sched_getaffinity(0)))


def test_gpus_are_read_from_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559'\necho 'NVIDIA H100 80GB HBM3, 81559'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    _hardware.nvidia_gpus.cache_clear()
    try:
        spec = _hardware.detect()
    finally:
        monkeypatch.undo()
        _hardware.nvidia_gpus.cache_clear()
    assert (spec.kind, spec.name) == ("cuda", "2x-nvidia-h100-80gb-hbm3")
    assert (spec.accelerators, spec.accelerator_memory_gib) == (2, 80)


def test_host_info_measures_bandwidth() -> None:
    info = _hardware.host_info()
    assert info.os and info.kernel and info.python
    assert info.memory_bandwidth_gb_s is not None and 0.1 < info.memory_bandwidth_gb_s < 10_000
    assert _hardware.host_info(measure_bandwidth=False).memory_bandwidth_gb_s is None
