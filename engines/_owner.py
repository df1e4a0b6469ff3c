"""Whose something is that outlives processes: a mark put on containers and pods, so that orphans can be told."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil

KEY = "dyno/keeper"
"""The label (of a container) or annotation (of a pod) that holds the mark."""


def mark() -> str:
    """Of this process: machine since its start, process namespace, process, and when that began."""
    return f"{_machine()}_{os.getpid()}_{psutil.Process().create_time():.2f}"


def is_orphan(marked: str) -> bool:
    """Whether the process of a mark is known to be gone. A mark of another machine, or of a container whose processes
    are not seen from here, is nobody's business here."""
    machine, pid, began = marked.rsplit("_", 2) if marked.count("_") > 1 else ("", "0", "0")
    if machine != _machine() or not pid.isdigit():
        return False
    try:
        process = psutil.Process(int(pid))
        return process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - float(began)) > 1.0
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, ValueError):
        return False


def _machine() -> str:
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}-{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{platform.node()}-{psutil.boot_time():.0f}"
