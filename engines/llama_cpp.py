"""llama.cpp: GGUF models on CPU, CUDA and Metal, by its C++ server or by that of its Python package."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from engines import _checkpoints, _hardware, _installed, _llama_build
from engines._contract import Adapter, Capabilities, Checkpoint, Command, Inspection, Install
from engines._deployable import FETCHED, FromHub
from engines._llama_servers import SERVERS, Server
from models.errors import BuildFailed, Unsupported, UserError
from models.progress import Progress
from models.records import Endpoint
from models.specs import ModelSpec, Setup

_DEFAULT_CONTEXT_TOKENS = 4096
"""Longest sequence when a setup names none: the model's own, but no more than this (KV memory grows with it)."""

_IMAGE = "ghcr.io/ggml-org/llama.cpp"


def thread_policy(setup: Setup) -> tuple[int, dict[str, str]]:
    """Returns the engine's compute threads and the environment that says how they wait for each other.

    One physical core is left to the load generator: threads that wait by spinning, as OpenMP's do, stand still
    together when one of them has no core.
    """
    cores = setup.hardware.cores if setup.engine.runtime == "kubernetes" else None  # a node's, not this machine's
    return setup.engine.batching.threads or max(1, (cores or _hardware.physical_cores()) - 1), {}


class LlamaCpp(Adapter):
    """One engine, two servers."""

    name = "llama_cpp"
    shelf_names = ("llama.cpp",)
    variants = tuple(SERVERS)
    path_in_image = True
    owned_options = frozenset({
        "-m", "--model", "-a", "--alias", "--model_alias", "--host", "-t", "--threads", "-tb", "--threads-batch",
        "--n_threads", "--n_threads_batch", "-c", "--ctx-size", "--n_ctx", "-np", "--parallel", "-b", "--batch-size",
        "--n_batch", "-ub", "--ubatch-size", "--n_ubatch", "-ctk", "--cache-type-k", "--type_k", "-ctv",
        "--cache-type-v", "--type_v", "--cache-prompt", "--no-cache-prompt", "--cache", "--metrics",
        "--interrupt_requests"})
    known_failures: ClassVar[Mapping[str, str]] = {
        "unknown model": "both servers hold one model and answer to any name",
        "llama_cpp.server: rubbish": "it completes an empty prompt where none is given",
    }

    def pinned_version(self) -> str | None:
        return _llama_build.pinned_version()

    def is_installed(self) -> bool:
        return _llama_build.is_built() or _llama_build.is_built(cuda=True)

    def capabilities(self, variant: str | None = None) -> Capabilities:
        return SERVERS[variant or self.variants[0]].capabilities

    def check_more(self, setup: Setup) -> None:
        engine, batching = setup.engine, setup.engine.batching
        if self.variant(engine) == "llama_cpp.server" and (batching.max_sequences or 1) > 1:
            raise Unsupported("engine.batching.max_sequences",
                              self.capabilities("llama_cpp.server").reasons["max_sequences"])
        if setup.model.source == "synthetic":
            _checkpoints.check_makeable(engine.quantization)

    def install(self, setup: Setup, progress: Progress) -> Install:
        variant, engine = self.variant(setup.engine), setup.engine
        if engine.runtime == "path":
            return _at(variant, engine.path)
        if engine.runtime in ("docker", "kubernetes"):
            return self.contained(setup)
        tools = _llama_build.toolchain(engine.version, cuda=setup.hardware.kind == "cuda", progress=progress)
        if variant == "llama_cpp.server":
            return Install(tools.version, (str(tools.python), "-I", "-m", "llama_cpp.server"),
                           {"LLAMA_CPP_LIB_PATH": str(tools.programs)})
        program = tools.programs / "llama-server"
        return Install(tools.version, (str(program),), options=_options(program))

    def key_variable(self, variant: str | None) -> str | None:
        return "API_KEY" if variant == "llama_cpp.server" else "LLAMA_API_KEY"

    def contained(self, setup: Setup) -> Install:
        """The project's image, tagged with its build where a version names one, or the image that the setup names."""
        engine = setup.engine
        tag = "-".join(["server", *(["cuda"] if setup.hardware.kind == "cuda" else []),
                        *([engine.version] if engine.version else [])])
        return Install(f"llama.cpp {engine.version or 'of unknown build'}", (engine.path or "/app/llama-server",),
                       image=engine.image or f"{_IMAGE}:{tag}")

    def image_version(self, engine_version: str) -> str | None:
        """Images are tagged by build, b and digits; what is built from the Python package knows no such number."""
        found = re.search(r"\bb\d{3,}\b", engine_version)
        return found[0] if found else None

    def from_hub(self, model: ModelSpec) -> FromHub:
        """llama-server's own way to the Hub knows no revisions; an address does."""
        file = model.file or ""
        return FromHub(f"{FETCHED}/{Path(file).name}", ("--model-url", f"https://huggingface.co/{model.repository}"
                                                        f"/resolve/{model.revision or 'main'}/{file}"))

    def checkpoint(self, setup: Setup, progress: Progress) -> Checkpoint:
        return _checkpoints.checkpoint(setup.model, setup.engine.quantization, progress)

    def command(self, setup: Setup, install: Install, checkpoint: Checkpoint, port: int) -> Command:
        threads, waiting = thread_policy(setup)
        server, model = self._server(setup), setup.model.architecture
        limit = model.context_tokens if model else _DEFAULT_CONTEXT_TOKENS
        context = setup.engine.batching.context_tokens or min(limit, _DEFAULT_CONTEXT_TOKENS)
        options = server.options(setup, install, checkpoint, threads, context, port)
        return Command(argv=(*install.program, *options, *setup.engine.extra_args),
                       environment={**install.environment, **waiting, **setup.engine.environment},
                       threads=threads, context_tokens=context, notes=checkpoint.notes + server.notes(setup))

    def endpoint(self, setup: Setup, url: str, checkpoint: Checkpoint | None) -> Endpoint:
        return self._server(setup).endpoint(setup, url, checkpoint)

    def health_path(self, variant: str | None) -> str | None:
        return SERVERS[variant or self.variants[0]].health_path

    def inspect(self, variant: str | None, get: Callable[[str], Any], log: str = "") -> Inspection:
        return SERVERS[variant or self.variants[0]].inspect(get, log)

    def gauges(self, text: str) -> dict[str, float]:
        return SERVERS[self.variants[0]].gauges(text)

    def _server(self, setup: Setup) -> Server:
        return SERVERS[self.variant(setup.engine) or self.variants[0]]


ADAPTER = LlamaCpp()


def _at(variant: str | None, path: str | None) -> Install:
    """What runtime `path` names. Raises UserError when it is not there or not what the variant needs."""
    wanted = "a Python that has llama_cpp" if variant == "llama_cpp.server" else "a llama-server program"
    program = _installed.program(path, "python3" if variant == "llama_cpp.server" else "llama-server", wanted)
    if variant == "llama_cpp.server":
        version = _installed.version(program, wanted, r"^(\d+\.\d+\S*)$", str(program), "-I", "-c",
                                     "import llama_cpp; print(llama_cpp.__version__)")
        return Install(version, (str(program), "-I", "-m", "llama_cpp.server"))
    try:
        return Install(f"llama.cpp {_llama_build.binary_version(program)}", (str(program),), options=_options(program))
    except BuildFailed as error:
        raise UserError(f"engine.path: {program} is not {wanted}: {error.reason}") from error


@lru_cache
def _options(program: Path) -> frozenset[str]:
    """Every option that its --help names."""
    return frozenset(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", _output(str(program), "--help")))


def _output(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).strip()
