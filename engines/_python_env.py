"""Isolated Python environments, made with uv and fed from wherever pip is configured to look."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from uv import find_uv_bin

from engines._command import run_logged


def make_environment(folder: Path, log: Path) -> Path:
    """Makes an empty environment of this Python that may be renamed; returns its interpreter."""
    run_logged("making a Python environment", [find_uv_bin(), "venv", "--no-config", "--relocatable", "--python",
                                               sys.executable, str(folder)], log)
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def install(python: Path, requirements: list[str], log: Path, *, env: Mapping[str, str] | None = None) -> None:
    """Installs into that interpreter's environment."""
    run_logged(f"installing {', '.join(Path(r).name for r in requirements)}",
               [find_uv_bin(), "pip", "install", "--no-config", "--python", str(python), *sources(), *requirements],
               log, env=env)


@cache
def sources() -> tuple[str, ...]:
    """uv's options for the places where pip is told to look: uv does not read pip's configuration."""
    options: list[str] = []
    for setting, option in (("find-links", "--find-links"), ("index-url", "--index-url")):
        variable = "PIP_" + setting.upper().replace("-", "_")
        value = os.environ.get(variable) or _pip_config(f"global.{setting}")
        for place in dict.fromkeys(value.split()):
            options += [option, place]
    return tuple(options)


def _pip_config(name: str) -> str:
    """Empty where pip is not installed or has no such setting."""
    found = subprocess.run([sys.executable, "-m", "pip", "config", "get", name], capture_output=True, text=True,
                           check=False)
    return found.stdout.strip() if found.returncode == 0 else ""
