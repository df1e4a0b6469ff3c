"""What this machine has, and what is missing for what."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import engines
from engines._hardware import detect, host_info
from models import paths, prices
from models.specs import HardwareSpec
from workloads import reads


@dataclass(frozen=True)
class Check:
    """One line of `dyno doctor`: ok, or what to do about it."""

    name: str
    ok: bool
    detail: str


def machine(price_usd_per_hour: float | None) -> str:
    """One line on what this is and what an hour of it is taken to cost."""
    hardware = detect()
    bundled = prices.bundled(hardware)
    cost = "price unknown (--price to set)"
    if price_usd_per_hour is not None:
        cost = f"price {price_usd_per_hour:g} USD/h"
    elif bundled:
        cost = f"price {bundled[0].price_usd_per_hour:g} USD/h ({bundled[0].tier}: --price to set)"
    return f"dyno {version('llm-dyno')} · this machine: {_hardware(hardware)} · {cost}"


def _hardware(hardware: HardwareSpec) -> str:
    gpu = f"{hardware.accelerators} × {hardware.accelerator}" if hardware.accelerator else "no GPU"
    return f"{hardware.cpu}, {hardware.cores} cores, {hardware.memory_gib} GiB, {gpu}"


def checks() -> list[Check]:
    """Looks at everything a run needs. Nothing is changed."""
    hardware, host = detect(), host_info()
    bandwidth = f", reads {host.memory_bandwidth_gb_s:.0f} GB/s" if host.memory_bandwidth_gb_s else ""
    return [
        Check("python", sys.version_info >= (3, 11), sys.version.split()[0]),
        Check("hardware", True, _hardware(hardware) + bandwidth),
        *(_tool(name, why) for name, why in (("gcc", "to build llama.cpp"), ("g++", "to build llama.cpp"),
                                             ("make", "for make run"))),
        _receive_loop(),
        _chromium(),
        _folder("DYNO_HOME", paths.home()),
        _folder("DYNO_CACHE", paths.cache()),
        *(Check(f"engine {name}", *_engine(name)) for name in engines.names()),
        _snapshot(paths.home()),
    ]


def _tool(name: str, why: str) -> Check:
    path = shutil.which(name)
    return Check(name, path is not None, path or f"missing: install it with your package manager, {why}")


def _receive_loop() -> Check:
    return Check("receive loop", True, "compiled" if reads.compiled() else
                 "in Python, at 1.5 times the CPU a token: with gcc and Python's headers, install dyno again")


def _chromium() -> Check:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    return Check("chromium", True, path or "missing: only the explorer's browser test needs it")


def _folder(name: str, path: Path) -> Check:
    there = next(p for p in (path, *path.parents) if p.exists())
    free = shutil.disk_usage(there).free / 2**30
    return Check(name, free > 2, f"{path}, {free:.0f} GiB free" + ("" if free > 2 else ": at least 2 are needed"))


def _engine(name: str) -> tuple[bool, str]:
    adapter = engines.adapter(name)
    if (version := adapter.pinned_version()) is None:
        return True, "is in no package registry: runtime docker, path or endpoint"
    return True, f"{version}, {'installed' if adapter.is_installed() else 'built on first use'}"


def _snapshot(home: Path) -> Check:
    path = home / "published" / "dyno.duckdb"
    return Check("warehouse", True, str(path) if path.exists() else "nothing published yet: `make run` or `dyno demo`")
