"""Tells what machine this is: the part that decides speed, and what of it dyno may use."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import psutil

from models.records import HostInfo
from models.specs import HardwareSpec

_GIB = 1 << 30


def usable_cpus() -> frozenset[int]:
    """Logical CPUs this process may run on: its affinity, cut to a container's CPU quota."""
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    quota = _cpu_quota()
    return frozenset(cpus[:max(1, int(quota))] if quota else cpus)


def core_cpus() -> tuple[int, ...]:
    """One usable logical CPU of each physical core: of two hyper-threads the lower."""
    cores: dict[tuple[str, ...], int] = {}
    for cpu in sorted(usable_cpus()):
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            core = tuple((topology / part).read_text().strip() for part in ("physical_package_id", "core_id"))
        except OSError:
            return tuple(sorted(usable_cpus()))[:psutil.cpu_count(logical=False) or 1]
        cores.setdefault(core, cpu)
    return tuple(cores.values())


def physical_cores() -> int:
    """Cores among the usable CPUs; two hyper-threads of one core count once."""
    return len(core_cpus())


def memory_bytes() -> int:
    """Physical memory, or a container's limit where that is lower."""
    total = int(psutil.virtual_memory().total)
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = _read(path)
        if limit.isdigit():
            total = min(total, int(limit))
    return total


@cache
def cpu_name() -> str:
    """The processor as it names itself."""
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string")
    found = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


@cache
def cpu_features() -> str:
    """Everything that decides what -march=native compiles to: model and feature flags."""
    info = _read("/proc/cpuinfo")
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", info, re.MULTILINE)
    ids = re.findall(r"^(?:vendor_id|cpu family|model|CPU implementer|CPU part)\s*:\s*(.+)$", info.split("\n\n")[0],
                     re.MULTILINE)
    return " ".join([cpu_name(), *ids, *sorted(flags[1].split() if flags else ())])


@cache
def nvidia_gpus() -> tuple[tuple[str, int], ...]:
    """(name, memory in MiB) of each NVIDIA GPU; empty where there is no driver."""
    listed = _output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
    rows = (line.rsplit(",", 1) for line in listed.splitlines() if "," in line)
    return tuple((name.strip(), int(mib)) for name, mib in rows if mib.strip().isdigit())


def detect(kind: str | None = None) -> HardwareSpec:
    """Returns this machine; `kind` "cpu" leaves its accelerators out of use."""
    cpu, cores, memory_gib = cpu_name(), physical_cores(), round(memory_bytes() / _GIB)
    host = f"{_slug(cpu)}-{cores}c-{memory_gib}g"
    gpus = () if kind == "cpu" else nvidia_gpus()
    if gpus:
        name, mib = gpus[0]
        count = f"{len(gpus)}x-" if len(gpus) > 1 else ""
        return HardwareSpec(name=f"{count}{_slug(name)}", kind="cuda", cpu=cpu, cores=cores, memory_gib=memory_gib,
                            accelerator=name, accelerators=len(gpus), accelerator_memory_gib=round(mib / 1024))
    if kind != "cpu" and sys.platform == "darwin" and platform.machine() == "arm64":
        return HardwareSpec(name=host, kind="metal", cpu=cpu, cores=cores, memory_gib=memory_gib, accelerator=cpu,
                            accelerators=1, accelerator_memory_gib=memory_gib)
    return HardwareSpec(name=host, kind="cpu", cpu=cpu, cores=cores, memory_gib=memory_gib)


def host_info(measure_bandwidth: bool = True) -> HostInfo:
    """Returns what this machine is called and runs, and how fast it reads memory (about a second, once a process)."""
    from engines._bandwidth import memory_bandwidth_gb_s

    return HostInfo(hostname=platform.node(), os=_os_name(), kernel=f"{platform.system()} {platform.release()}",
                    python=platform.python_version(), load_1m=round(os.getloadavg()[0], 2),
                    memory_bandwidth_gb_s=memory_bandwidth_gb_s() if measure_bandwidth else None)


def _os_name() -> str:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _slug(name: str) -> str:
    """`Intel(R) Xeon(R) Platinum 8480+ CPU @ 2.00GHz` becomes `intel-xeon-platinum-8480`."""
    plain = re.sub(r"\((r|tm)\)|\bcpu\b|\bprocessor\b|@.*|\d+-core", " ", name.lower())
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "cpu"


def _cpu_quota() -> float | None:
    """CPUs that the container's scheduler allows, from cgroup v2 or v1."""
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    if not quota:
        quota, period = (_read(f"/sys/fs/cgroup/cpu/cpu.cfs_{part}_us") for part in ("quota", "period"))
    return int(quota) / int(period) if quota.isdigit() and period.strip().isdigit() else None


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _output(*argv: str) -> str:
    if not shutil.which(argv[0]):
        return ""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
