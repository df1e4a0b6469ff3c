"""Engines that are Python packages: the versions supported, and an environment for each, side by side in dyno's cache.

pip itself installs, so its configuration (mirrors, constraints, find-links) is honoured.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from engines import _cache, _python_env
from engines._command import run_logged
from models.errors import BuildFailed, Unsupported
from models.paths import cache
from models.progress import Progress


@dataclass(frozen=True)
class Package:
    """What is installed. `unwanted` names what its requirements bring in and what breaks it here, `known_as` the
    distribution that it looks itself up by, where that is another's name; `shelf` is the cache's folder."""

    distribution: str
    version: str
    beside: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    known_as: str = ""
    shelf: str = field(default="engines", repr=False)

    @property
    def name(self) -> str:
        return f"{self.distribution}-{self.version.replace('*', 'x')}"


def supported(extra: str) -> Requirement:
    """The requirement that the distribution's extra of that name states."""
    try:
        listed = importlib.metadata.requires("llm-dyno") or []
    except importlib.metadata.PackageNotFoundError:
        listed = []
    for line in listed:
        wanted = Requirement(line)
        if wanted.marker and re.search(rf"""extra == ['"]{re.escape(extra)}['"]""", str(wanted.marker)):
            return wanted
    # a checkout that was not installed, or before the extra was added
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    return Requirement(project["project"]["optional-dependencies"][extra][0])


def default_version(extra: str) -> str:
    """The newest version that an extra names: what is installed where a setup asks for none."""
    return str(max(Version(s.version) for s in supported(extra).specifier if s.operator in ("==", "<=")))


def check_version(extra: str, version: str) -> None:
    """Raises Unsupported for a version outside the range that the extra states."""
    wanted = supported(extra)
    try:
        ok = wanted.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        raise Unsupported("engine.version", f"{version!r} is no version of {wanted.name}") from None
    if not ok:
        raise Unsupported("engine.version", f"{wanted.name} {version} is not supported by runtime venv, which installs "
                                            f"{wanted.name} {wanted.specifier}; runtime path takes any")


def is_installed(package: Package) -> bool:
    """Whether `environment` would return at once."""
    return _cache.folder(package.shelf, _key(package)).is_dir()


def environment(package: Package, progress: Progress) -> Path:
    """Returns the interpreter of that package's environment, made now if need be: minutes, cached afterwards.

    Raises BuildFailed with the command, the log's path and its tail when it cannot be installed.
    """
    log = cache() / "logs" / f"install-{package.name}.log"

    def make(folder: Path) -> None:
        log.unlink(missing_ok=True)
        progress(package.name, None, f"installing, which takes minutes; log: {log}")
        _fill(package, _python_env.make_environment(folder / "venv", log), log)

    return _cache.keyed(package.shelf, _key(package), make, progress, package.name) / "venv/bin/python"


def installed_version(python: Path, distribution: str) -> str:
    """The version that was resolved, as its metadata tells. Raises OSError or SubprocessError."""
    asked = f"import importlib.metadata; print(importlib.metadata.version({distribution!r}))"
    return subprocess.run([str(python), "-I", "-c", asked], capture_output=True, text=True, check=True,
                          timeout=60).stdout.strip()


def _key(package: Package) -> str:
    recipe = hashlib.sha256(repr(package).encode()).hexdigest()[:8]
    return f"{package.name}-py{sys.version_info.major}.{sys.version_info.minor}-{recipe}"


def _fill(package: Package, python: Path, log: Path) -> None:
    _python_env.install(python, ["pip"], log)
    pip = [str(python), "-m", "pip"]
    wanted = [f"{package.distribution}=={package.version}", *package.beside]
    try:
        run_logged(f"installing {' '.join(wanted)}", [*pip, "install", "--progress-bar", "off", *wanted], log)
    except BuildFailed as error:
        if re.search(r"No matching distribution found for torch==\S+\+cpu", error.log_tail):
            error.args = (f"{error}\nIt needs a build of torch for CPUs, and pip does not know where those are: set "
                          "PIP_EXTRA_INDEX_URL to PyTorch's index of CPU wheels",)
        raise
    if package.unwanted:
        run_logged("removing what breaks it", [*pip, "uninstall", "--yes", *package.unwanted], log)
    if package.known_as:
        _rename(python, package)


def _rename(python: Path, package: Package) -> None:
    """Gives the other name metadata of its own; "+cpu" is how vLLM knows its CPU build."""
    version = f"{installed_version(python, package.distribution)}+cpu"
    site = next((python.parents[1] / "lib").glob("python*/site-packages"))
    about = site / f"{package.known_as.replace('-', '_')}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package.known_as}\nVersion: {version}\n")
