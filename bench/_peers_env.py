"""An environment of its own for each peer, kept in dyno's cache by name and version.

pip itself installs, so its configuration (mirrors, constraints, find-links) is honoured. vLLM's CPU build pins a CPU
build of torch: where pip is not configured for it, set PIP_EXTRA_INDEX_URL to PyTorch's index for CPU wheels.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from engines import _cache, _python_env
from engines._command import run_logged
from models.paths import cache
from models.progress import Progress


@dataclass(frozen=True)
class Package:
    """What is installed; `unwanted` names what its requirements bring in and what breaks it here, `known_as` the
    distribution that its command asks for its version, where that is another's name."""

    distribution: str
    version: str
    beside: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    known_as: str = ""


def python_of(package: Package, progress: Progress) -> Path:
    """Returns the interpreter of that package's environment, made now if need be.

    Raises BuildFailed with the command, the log's path and its tail when it cannot be installed.
    """
    name = f"{package.distribution}-{package.version.replace('*', 'x')}"
    log = cache() / "logs" / f"peer-{name}.log"

    def make(folder: Path) -> None:
        log.unlink(missing_ok=True)
        progress(name, None, f"installing, which takes minutes; log: {log}")
        python = _python_env.make_environment(folder / "venv", log)
        _python_env.install(python, ["pip"], log)
        pip = [str(python), "-m", "pip"]
        wanted = [f"{package.distribution}=={package.version}", *package.beside]
        run_logged(f"installing {' '.join(wanted)}", [*pip, "install", "--progress-bar", "off", *wanted], log)
        if package.unwanted:
            run_logged("removing what breaks it", [*pip, "uninstall", "--yes", *package.unwanted], log)
        if package.known_as:
            _rename(python, package)

    recipe = hashlib.sha256(repr(package).encode()).hexdigest()[:8]
    key = f"{name}-py{sys.version_info.major}.{sys.version_info.minor}-{recipe}"
    return _cache.keyed("peers", key, make, progress, name) / "venv/bin/python"


def _rename(python: Path, package: Package) -> None:
    """Gives the other name metadata of its own; "+cpu" is how vLLM knows its CPU build."""
    version = f"{installed_version(python, package.distribution)}+cpu"
    site = next((python.parents[1] / "lib").glob("python*/site-packages"))
    about = site / f"{package.known_as}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package.known_as}\nVersion: {version}\n")


def installed_version(python: Path, distribution: str) -> str:
    """The version that was resolved, as its metadata tells. Raises OSError or SubprocessError."""
    asked = f"import importlib.metadata; print(importlib.metadata.version({distribution!r}))"
    return subprocess.run([str(python), "-c", asked], capture_output=True, text=True, check=True).stdout.strip()
