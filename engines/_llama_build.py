"""Builds llama.cpp once for each version and kind of processor: programs, libraries, vocabularies and Python server.

The source of llama-cpp-python carries the whole of llama.cpp, so one package gives both servers of one version.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engines import _cache, _hardware, _python_env
from engines._command import run_logged
from models import paths
from models.errors import BuildFailed, MissingTool
from models.progress import Progress, silent

_PACKAGE = "llama-cpp-python"
_REQUIREMENT = re.compile(r"llama[-_.]cpp[-_.]python\[server\]==([^;\s]+)")
_VOCABULARIES = ("llama-spm", "llama-bpe", "qwen2")
_VOCABULARY = "vocabularies/ggml-vocab-{}.gguf"
_TARGETS = ("llama-server", "llama-bench", "llama-quantize")
_RECIPE = 2
"""Raised when the same version is to be built again in another way."""
_FLAGS = {
    "CMAKE_BUILD_TYPE": "Release", "GGML_ALL_WARNINGS": "OFF", "LLAMA_ALL_WARNINGS": "OFF",
    "LLAMA_CURL": "OFF", "LLAMA_OPENSSL": "OFF", "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF", "LLAMA_BUILD_APP": "OFF", "LLAMA_BUILD_UI": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",  # it would be downloaded
    "CMAKE_BUILD_WITH_INSTALL_RPATH": "ON",  # libraries are found beside the programs, wherever both are moved
    "CMAKE_INSTALL_RPATH": "@loader_path" if sys.platform == "darwin" else "$ORIGIN",
}


@dataclass(frozen=True)
class Toolchain:
    """A finished build."""

    folder: Path
    version: str
    """`0.3.36 (llama.cpp 0.5.0-dev 0c1e570)`: the package's and the engine's own."""

    @property
    def programs(self) -> Path:
        """Folder of llama-server, llama-quantize, llama-bench and their libraries."""
        return self.folder / "bin"

    @property
    def python(self) -> Path:
        """Interpreter that has llama_cpp.server; needs LLAMA_CPP_LIB_PATH."""
        return self.folder / "venv/bin/python"

    def vocabulary(self, name: str) -> Path:
        """A GGUF with a real tokenizer and no weights."""
        return self.folder / _VOCABULARY.format(name)


def pinned_version() -> str:
    """The version that the distribution's `llama` extra asks for."""
    try:
        wanted = importlib.metadata.requires("llm-dyno") or []
    except importlib.metadata.PackageNotFoundError:  # a checkout that was not installed
        project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
        wanted = project["project"]["optional-dependencies"]["llama"]
    return next(found[1] for line in wanted if (found := _REQUIREMENT.match(line)))


def toolchain(version: str | None = None, *, cuda: bool = False, progress: Progress = silent) -> Toolchain:
    """Returns the build of a version (the pinned one if None), made now if need be: minutes, cached afterwards.

    Raises MissingTool without a compiler, BuildFailed with the log's tail.
    """
    version = version or pinned_version()
    step = f"llama.cpp {version}: building (cached afterwards)"
    folder = _cache.keyed("engines", _key(version, cuda), lambda f: _build(f, version, cuda, progress, step),
                          progress, step)
    return Toolchain(folder, json.loads((folder / "install.json").read_text())["version"])


def is_built(version: str | None = None, *, cuda: bool = False) -> bool:
    """Whether `toolchain` would return at once."""
    return _cache.folder("engines", _key(version or pinned_version(), cuda)).is_dir()


def any_toolchain(progress: Progress = silent) -> Toolchain:
    """Returns a build of the pinned version for its tools, whatever it computes on; made if there is none."""
    return toolchain(cuda=not is_built() and is_built(cuda=True), progress=progress)


def vocabulary(name: str, progress: Progress = silent) -> Path:
    """Returns one of the vocabularies that llama.cpp's source carries, without compiling it."""
    if is_built() or is_built(cuda=True):
        return any_toolchain(progress).vocabulary(name)
    step = "tokenizers: from the source of llama.cpp (cached afterwards)"

    def make(folder: Path) -> None:
        progress(step, 0.0)
        log = paths.cache() / "logs" / "vocabularies.log"
        log.unlink(missing_ok=True)
        work = folder / "work"
        python = _python_env.make_environment(work / "tools", log)
        _python_env.install(python, ["pip", "scikit-build-core[pyproject]"], log)
        _keep_vocabularies(_fetch_source(python, pinned_version(), work, log), folder)
        shutil.rmtree(work)

    return _cache.keyed("vocabularies", pinned_version(), make, progress, step) / _VOCABULARY.format(name)


def _key(version: str, cuda: bool) -> str:
    """Compiled for this very processor (-march=native) and this Python."""
    features = hashlib.sha256(f"{_RECIPE} {_FLAGS} {_hardware.cpu_features()}".encode()).hexdigest()[:8]
    python = f"py{sys.version_info.major}.{sys.version_info.minor}"
    return f"llama.cpp-{version}-{python}-{platform.machine()}-{features}{'-cuda' if cuda else ''}"


def _require_compiler(cuda: bool) -> None:
    for kind, variable, names in (("C", "CC", ("cc", "gcc", "clang")), ("C++", "CXX", ("c++", "g++", "clang++"))):
        if not any(map(shutil.which, filter(None, (os.environ.get(variable), *names)))):
            raise MissingTool(
                f"no {kind} compiler found, and llama.cpp is compiled here once: install gcc and g++ (Debian, Ubuntu: "
                "apt-get install build-essential; macOS: xcode-select --install), or set engine.runtime to path")
    if cuda and not shutil.which("nvcc"):
        raise MissingTool("nvcc not found, and llama.cpp is compiled here for CUDA: install the CUDA toolkit and put "
                          "nvcc on PATH, or set engine.runtime to path")


def _build(folder: Path, version: str, cuda: bool, progress: Progress, step: str) -> None:
    _require_compiler(cuda)
    log = paths.cache() / "logs" / f"build-{_key(version, cuda)}.log"
    log.unlink(missing_ok=True)
    work = folder / "work"
    progress(step, 0.0, "build tools")
    python = _python_env.make_environment(work / "tools", log)
    _python_env.install(python, ["cmake", "ninja", "pip", "scikit-build-core[pyproject]"], log)
    progress(step, 0.02, "source")
    source = _fetch_source(python, version, work, log)
    progress(step, 0.05, "Python server")  # before the compiler's minutes, which a package that is missing would waste
    engine = _python_env.make_environment(folder / "venv", log)
    _python_env.install(engine, [f"{source}[server]"], log, env={"CMAKE_ARGS": "-DLLAMA_BUILD=OFF -DLLAVA_BUILD=OFF"})
    progress(step, 0.09, "configuring")
    _compile(source, work, cuda, log, lambda share: progress(step, 0.1 + 0.89 * share, "compiling"))
    _keep(source, work / "build/bin", folder)
    about = {"version": f"{version} (llama.cpp {binary_version(folder / 'bin/llama-server')})", "cuda": cuda}
    (folder / "install.json").write_text(json.dumps(about, indent=1))
    shutil.rmtree(work)
    shutil.copy(log, folder / "build.log")
    progress(step, 1.0)


def _fetch_source(python: Path, version: str, work: Path, log: Path) -> Path:
    run_logged(f"fetching the source of {_PACKAGE} {version}",
               [str(python), "-m", "pip", "download", "--no-deps", "--no-build-isolation", "--no-binary", ":all:",
                "--dest", str(work), f"{_PACKAGE}=={version}"], log,
               env={"PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"})
    archive = next(work.glob("*.tar.gz"), None)
    if archive is None:
        raise BuildFailed(f"{_PACKAGE} {version} came without its source", log_path=str(log))
    with tarfile.open(archive) as tar:
        tar.extractall(work / "source", filter="data")
    archive.unlink()
    source = next((work / "source").iterdir())
    _make_amx_safe(source / "vendor/llama.cpp/ggml/src/ggml-cpu/amx/mmq.cpp")
    return source


def _make_amx_safe(file: Path) -> None:
    """GCC 12 declares that `_tile_loadconfig` reads 8 bytes of its 64, drops the stores to the others, and the engine
    dies of SIGSEGV on processors with AMX. The barrier keeps them."""
    if file.is_file():
        file.write_text(file.read_text().replace(
            "_tile_loadconfig(&tc);", '__asm__ volatile("" : : "r"(&tc) : "memory"); _tile_loadconfig(&tc);'))


def _compile(source: Path, work: Path, cuda: bool, log: Path, share_done: Callable[[float], None]) -> None:
    tools, build = work / "tools/bin", work / "build"
    flags = _FLAGS | ({"GGML_CUDA": "ON"} if cuda else {}) | {"CMAKE_MAKE_PROGRAM": str(tools / "ninja")}
    run_logged("configuring llama.cpp", [str(tools / "cmake"), "-S", str(source / "vendor/llama.cpp"), "-B", str(build),
                                         "-G", "Ninja", *(f"-D{name}={value}" for name, value in flags.items())], log)

    def on_line(line: str) -> None:
        if found := re.match(r"\[(\d+)/(\d+)\]", line):
            share_done(int(found[1]) / int(found[2]))

    run_logged("compiling llama.cpp", [str(tools / "ninja"), "-C", str(build), "-j",
                                       str(len(_hardware.usable_cpus())), *_TARGETS], log, on_line=on_line)


def _keep(source: Path, built: Path, folder: Path) -> None:
    """Moves what is used later out of the build tree, which is then deleted."""
    shutil.copytree(built, folder / "bin", symlinks=True)
    _keep_vocabularies(source, folder)


def _keep_vocabularies(source: Path, folder: Path) -> None:
    for name in _VOCABULARIES:
        kept = folder / _VOCABULARY.format(name)
        kept.parent.mkdir(exist_ok=True)
        shutil.copy(source / "vendor/llama.cpp/models" / kept.name, kept)


def binary_version(program: Path) -> str:
    """`0.5.0-dev 0c1e570` from a llama.cpp program's --version. Raises BuildFailed when it does not run."""
    try:
        said = subprocess.run([str(program), "--version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildFailed(f"{program} does not run: {error}") from error
    text = said.stdout + said.stderr
    found = re.search(r"version: (\S+)(?: \(build \d+, commit (\w+)\)| \((\w+)\))?", text)
    if said.returncode != 0 or not found:
        raise BuildFailed(f"{program} --version failed", exit_code=said.returncode, log_tail=text[-2000:],
                          command=f"{program} --version")
    commit = found[2] or found[3] or "unknown"
    return found[1] if commit == "unknown" else f"{found[1]} {commit}"
