"""SGLang: Hugging Face models on NVIDIA's and AMD's GPUs, and on CPUs with AMX; without AMX it only just serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ClassVar

from engines import _checkpoints, _hf_checkpoints, _installed, _packages, _sglang_options, _sglang_says
from engines._contract import Adapter, Capabilities, Checkpoint, Command, Inspection, Install
from models.progress import Progress
from models.quality import TOP
from models.records import Endpoint
from models.specs import Setup

_MODULE = ("-I", "-m", "sglang.launch_server")  # -I: not with the modules of whatever folder dyno is run in
_IMAGE = "lmsysorg/sglang"
_WANTED = "a Python that has sglang"
_IMPORT_S = 180.0
"""Seconds that importing it may take: torch and its kernels are loaded."""
_CAN = Capabilities(
    quantizations=(*_sglang_options.DTYPES, *_sglang_options.ON_GPU, *_sglang_options.GGUFS),
    kv_types=tuple(_sglang_options.KV_TYPES),
    features=frozenset({"openai_api", "streaming_usage", "ignore_eos", "continuous_batching", "prefix_caching",
                        "structured_output", "tool_calls", "embedding_in_python", "gguf", "safetensors", "metrics"}),
    hardware=frozenset({"cpu", "cuda", "rocm"}),
    runtimes=frozenset({"venv", "path", "docker", "kubernetes", "endpoint"}),
    batching=frozenset({"max_sequences", "max_batched_tokens", "prefill_chunk_tokens", "prefix_caching",
                        "context_tokens", "memory_fraction", "tensor_parallel", "threads", "scheduling_policy"}))


class SGLang(Adapter):
    """One server."""

    name = "sglang"
    shelf_names = ("sglang",)
    owned_options = frozenset({
        "--model-path", "--model", "--served-model-name", "--host", "--enable-metrics", "--enable-cache-report",
        "--dtype", "--quantization", "--load-format", "--device", "--kv-cache-dtype", "--disable-radix-cache",
        "--context-length", "--max-prefill-tokens", "--chunked-prefill-size", "--max-running-requests",
        "--mem-fraction-static", "--schedule-policy", "--tp-size", "--tensor-parallel-size", "--tp"})

    known_failures: ClassVar[Mapping[str, str]] = {
        "unknown model": "SGLang answers to any model name",
        "tools": "SGLang holds a call to its schema only where it knows the chat template's way of calling and the"
                 " function says strict; random weights have no such template"}

    def pinned_version(self) -> str | None:
        return _packages.default_version("sglang")

    def is_installed(self) -> bool:
        return _packages.is_installed(_package(self.pinned_version() or ""))

    def capabilities(self, variant: str | None = None) -> Capabilities:
        return _CAN

    def check_more(self, setup: Setup) -> None:
        _sglang_options.check(setup)
        if not _sglang_options.is_gguf(setup):
            _hf_checkpoints.check_hf(setup.model, setup.engine.quantization, _sglang_options.ONLINE)
        elif setup.model.source == "synthetic":
            _checkpoints.check_makeable(setup.engine.quantization)
        if setup.engine.runtime == "venv" and setup.engine.version:
            _packages.check_version("sglang", setup.engine.version)

    def install(self, setup: Setup, progress: Progress) -> Install:
        engine = setup.engine
        version = engine.version or _packages.default_version("sglang")
        if engine.runtime == "path":
            return _at(engine.path, setup.hardware.kind == "cpu")
        if engine.runtime in ("docker", "kubernetes"):
            return self.contained(setup)
        python = _packages.environment(_package(version), progress)
        return Install(_packages.installed_version(python, "sglang"), (str(python), *_MODULE))

    def contained(self, setup: Setup) -> Install:
        engine = setup.engine
        image = engine.image or f"{_IMAGE}:v{engine.version or _packages.default_version('sglang')}"
        return Install(engine.version or image.rpartition(":")[2].removeprefix("v"), ("python3", *_MODULE[1:]),
                       image=image)

    def checkpoint(self, setup: Setup, progress: Progress) -> Checkpoint:
        model, quantization = setup.model, setup.engine.quantization
        if _sglang_options.is_gguf(setup):
            return _checkpoints.checkpoint(model, quantization, progress)
        return _hf_checkpoints.hf_checkpoint(model, quantization, progress, _sglang_options.ONLINE)

    def command(self, setup: Setup, install: Install, checkpoint: Checkpoint, port: int) -> Command:
        words = _sglang_options.options(setup, str(checkpoint.path), install.host, port)
        return Command(argv=(*install.program, *words, *setup.engine.extra_args),
                       environment={**install.environment, **_sglang_options.environment(setup),
                                    **setup.engine.environment},
                       threads=_sglang_options.threads(setup), notes=checkpoint.notes,
                       context_tokens=_sglang_options.context_tokens(setup))

    def endpoint(self, setup: Setup, url: str, checkpoint: Checkpoint | None) -> Endpoint:
        """Temperature 0 repeats as far as batching lets it; `ignore_eos` fixes output lengths."""
        return Endpoint(url=url, model=setup.model.name, tokenize_path="/tokenize", tokenize_field="prompt",
                        metrics_path="/metrics", reset_path="/flush_cache", usage_in_stream=True,
                        body={"temperature": 0.0},
                        fixed_length={"ignore_eos": True}, logprobs_form="sglang", logprobs_max=TOP,
                        logprobs_body={"return_text_in_logprobs": False})

    def health_path(self, variant: str | None) -> str | None:
        """503 until it is warm; generates nothing, by the environment that `command` sets."""
        return "/health"

    def inspect(self, variant: str | None, get: Callable[[str], Any], log: str = "") -> Inspection:
        return _sglang_says.inspect(get, log)

    def gauges(self, text: str) -> dict[str, float]:
        return _sglang_says.gauges(text)


ADAPTER = SGLang()


def _package(version: str) -> _packages.Package:
    return _packages.Package("sglang", version)


def _at(path: str | None, cpu: bool) -> Install:
    """The Python that runtime `path` names. Raises UserError when it is not there or cannot import sglang."""
    python = str(_installed.program(path, "python3", _WANTED))
    return Install(_version(python, cpu), (python, *_MODULE))


@lru_cache
def _version(python: str, cpu: bool) -> str:
    asked = "import sglang; print('version', sglang.__version__)"
    return _installed.version(python, _WANTED, r"^version (\d+\.\d+\S*)$", python, "-I", "-c", asked,
                              env={"SGLANG_USE_CPU_ENGINE": "1"} if cpu else None, timeout_s=_IMPORT_S)
