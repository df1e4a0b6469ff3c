"""From the fields of a setup to SGLang's options, and what of them it cannot honour: after server_args of 0.5.23."""

from __future__ import annotations

import platform
from collections.abc import Mapping

from engines import _hardware
from engines._checkpoints import GUIDED_QUANTIZATIONS
from engines._checkpoints import QUANTIZATIONS as GGUF
from models.errors import Unsupported
from models.specs import Batching, Setup

DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Unquantised, with the value of --dtype."""
ON_GPU: Mapping[str, tuple[str, ...]] = {
    "FP8": ("--quantization", "fp8"),                 # made at load, or in the checkpoint
    "MXFP8": ("--quantization", "mxfp8"),             # the same
    "W8A8-INT8": ("--quantization", "w8a8_int8"),
    "W8A8-FP8": ("--quantization", "compressed-tensors"),
    "W4A16-INT4": ("--quantization", "compressed-tensors"),
    "GPTQ-INT4": ("--quantization", "gptq_marlin"),
    "AWQ-INT4": ("--quantization", "awq_marlin"),
    "AUTOROUND-INT4": ("--quantization", "auto-round"),
    "BNB-NF4": ("--quantization", "bitsandbytes", "--load-format", "bitsandbytes"),
    "BNB-INT8": ("--quantization", "bitsandbytes", "--load-format", "bitsandbytes"),
    "W4A8-FP8": ("--quantization", "w4afp8"),
    "MXFP4": ("--quantization", "mxfp4"),
    "NVFP4": ("--quantization", "modelopt_fp4"),
    "MODELOPT-FP8": ("--quantization", "modelopt_fp8"),
    "QUARK": ("--quantization", "quark"),
}
"""Options by quantisation of a Hugging Face folder, on NVIDIA's GPUs."""
ONLINE = frozenset({"FP8", "MXFP8", "BNB-NF4"})
"""Those of them that it makes itself of unquantised weights while it loads."""
GGUFS = tuple(q for q in GGUF + GUIDED_QUANTIZATIONS if q not in DTYPES and q[:2] != "TQ" and q != "MXFP4_MOE")
"""What its GGUF kernels read (layers/quantization/gguf.py): all but the ternary types and MXFP4."""
_GGUF = ("--quantization", "gguf", "--load-format", "gguf")
_ON_ROCM = {**{name: ON_GPU[name] for name in ("FP8", "MXFP8", "W8A8-FP8", "AUTOROUND-INT4", "MXFP4", "QUARK")},
            "AWQ-INT4": ("--quantization", "awq")}
"""Those that configs/model_config.py lets through on AMD's, less W8A8-INT8, whose kernel is CUDA's."""
_ON_CPU = {**{name: ON_GPU[name] for name in ("FP8", "W8A8-INT8", "AUTOROUND-INT4", "MXFP4")},
           "AWQ-INT4": ("--quantization", "awq"), "GPTQ-INT4": ("--quantization", "gptq")}
"""CPU_QUANTIZATION_METHODS of layers/quantization: Intel's AMX computes them."""

KV_TYPES = {"f16": "auto", "f32": "auto", "bf16": "bf16", "fp8": "fp8_e4m3", "fp8_e5m2": "fp8_e5m2",
            "mxfp8": "mxfp8", "nvfp4": "nvfp4"}
"""Values of --kv-cache-dtype; `auto` is the type of the weights, or of the activations where these are quantised."""
_POLICIES = frozenset({"fcfs", "lof", "random", "routing-key"})
_CACHE_POLICIES = frozenset({"lpm", "dfs-weight", "hrrn", "shortest-prefill-first"})
_NEWER_POLICIES = frozenset({"hrrn", "shortest-prefill-first"})
"""Not in 0.5.19, the oldest version that is supported."""
POOL_TOKENS_CPU = 65_536
"""Most tokens of the KV cache on a CPU where nothing says how many it needs: left alone it takes nearly all memory."""
_CONTEXT_TOKENS_CPU = 4096


def has_amx() -> bool:
    """Whether this machine's CPU has the matrix units that SGLang's CPU kernels are written for."""
    return "amx_tile" in _hardware.cpu_features().split()


def is_gguf(setup: Setup) -> bool:
    """Whether this setup's weights are read from a GGUF file."""
    return setup.model.format == "gguf" or (setup.model.format is None and setup.engine.quantization in GGUFS)


def check(setup: Setup) -> None:
    """Raises Unsupported for what the capabilities cannot express: fields that depend on each other or the device."""
    _check_quantization(setup)
    _check_kv(setup)
    _check_policy(setup.engine.batching, setup.engine.version)
    _check_device(setup)


def _check_quantization(setup: Setup) -> None:
    quantization, kind = setup.engine.quantization, setup.hardware.kind
    if quantization in DTYPES and not is_gguf(setup):
        return
    if kind == "cpu" and not has_amx():
        raise Unsupported("engine.quantization", f"SGLang has no kernels for {quantization} on a CPU without AMX, where"
                          f" it ends at start: ask for {', '.join(DTYPES)}")
    if is_gguf(setup) and quantization in GGUFS + tuple(DTYPES):
        if kind != "cuda":
            raise Unsupported("engine.quantization", "SGLang reads GGUF files on NVIDIA's GPUs only")
    elif setup.model.format == "gguf" or quantization in GGUFS:
        raise Unsupported("engine.quantization", f"{quantization} and {setup.model.name} are of different formats:"
                          " GGUF files have GGUF's own, Hugging Face folders the others")
    elif quantization not in (known := _by_device(kind)):
        raise Unsupported("engine.quantization", f"SGLang has no {quantization} on {kind}: there it has"
                          f" {', '.join([*DTYPES, *known])}")


def _by_device(kind: str) -> Mapping[str, tuple[str, ...]]:
    return {"cpu": _ON_CPU, "rocm": _ON_ROCM}.get(kind, ON_GPU)


def _check_kv(setup: Setup) -> None:
    kv, quantization = setup.engine.kv_type, setup.engine.quantization
    if (kv == "f32") != (quantization == "F32") and kv in ("f16", "f32"):
        raise Unsupported("engine.kv_type", f"SGLang's KV cache has the type of the weights, or is BF16 or smaller:"
                          f" with {quantization} ask for {'f32' if quantization == 'F32' else 'f16'}, not {kv}")
    if setup.hardware.kind == "cpu" and kv not in ("f16", "f32", "bf16") and not (kv == "fp8" and has_amx()):
        raise Unsupported("engine.kv_type", f"SGLang ends at start with a KV cache of {kv} on this CPU")


def _check_policy(batching: Batching, version: str | None) -> None:
    name, policy = "engine.batching.scheduling_policy", batching.scheduling_policy
    if policy is None or policy in _POLICIES:
        return
    if policy == "priority":
        raise Unsupported(name, "requests here have no priorities; SGLang's own way is --enable-priority-scheduling"
                                " in extra_args, with fcfs")
    if policy not in _CACHE_POLICIES:
        raise Unsupported(name, f"SGLang has no {policy!r}: it has {', '.join(sorted(_POLICIES | _CACHE_POLICIES))}")
    if policy in _NEWER_POLICIES and version and version.startswith("0.5.19"):
        raise Unsupported(name, f"SGLang {version} has no {policy} yet")
    if not batching.prefix_caching:
        raise Unsupported(name, f"{policy} goes by the prefix cache, and without it SGLang takes fcfs: set"
                                " prefix_caching")


def _check_device(setup: Setup) -> None:
    batching, hardware = setup.engine.batching, setup.hardware
    if setup.engine.runtime in ("docker", "kubernetes") and hardware.kind != "cuda" and not setup.engine.image:
        raise Unsupported("engine.image", f"the official image without a name is for NVIDIA's GPUs: for {hardware.kind}"
                          " name one (ROCm's tags end in its release; CPU's is made from docker/xeon.Dockerfile)")
    if hardware.kind == "cpu":
        if setup.engine.runtime == "venv":
            raise Unsupported("engine.runtime", "PyPI's sglang is built for CUDA: for a CPU give a Python that has"
                              " SGLang's CPU build (runtime path), or use runtime docker")
        if batching.memory_fraction is not None:
            raise Unsupported("engine.batching.memory_fraction", "on a CPU SGLang's KV cache is set by tokens: set"
                              " context_tokens and max_sequences")
        if batching.tensor_parallel > 1:
            raise Unsupported("engine.batching.tensor_parallel", "on a CPU SGLang wants a NUMA node for each part")
    elif batching.threads is not None:
        raise Unsupported("engine.batching.threads", "SGLang computes on the GPU: threads are a setting of its CPU"
                                                     " engine")
    elif 0 < hardware.accelerators < batching.tensor_parallel:
        raise Unsupported("engine.batching.tensor_parallel", f"{hardware.name} has {hardware.accelerators} GPUs")


def options(setup: Setup, model: str, host: str, port: int) -> list[str]:
    """Every option of a setup that serves the model at a path; `check` has let it through."""
    engine, batching = setup.engine, setup.engine.batching
    words = ["--model-path", model, "--served-model-name", setup.model.name, "--host", host,
             "--port", str(port), "--enable-metrics", "--enable-cache-report", *_weights(setup),
             *_device(setup)]
    if not any(word.startswith("--tool-call-parser") for word in engine.extra_args):
        words += ["--tool-call-parser", "auto"]  # by the chat template; without one, calls are answered as plain text
    if engine.kv_type not in ("f16", "f32"):
        words += ["--kv-cache-dtype", KV_TYPES[engine.kv_type]]
    if not batching.prefix_caching:
        words.append("--disable-radix-cache")
    if context := context_tokens(setup):
        words += ["--context-length", str(context)]
    return words + _batching(batching)


def _weights(setup: Setup) -> tuple[str, ...]:
    """A quantised model's activations keep the type that its config.json says."""
    quantization = setup.engine.quantization
    if is_gguf(setup):
        return (*_GGUF, *(("--dtype", DTYPES[quantization]) if quantization in DTYPES else ()))
    if quantization in DTYPES:
        return ("--dtype", DTYPES[quantization])
    return _by_device(setup.hardware.kind)[quantization]


def _device(setup: Setup) -> list[str]:
    if setup.hardware.kind != "cpu":
        return ["--device", "cuda"]  # ROCm's too goes by that name
    slots, context = setup.engine.batching.max_sequences, context_tokens(setup) or _CONTEXT_TOKENS_CPU
    return ["--device", "cpu", "--max-total-tokens", str(slots * context if slots else max(POOL_TOKENS_CPU, context))]


def context_tokens(setup: Setup) -> int | None:
    """The longest sequence; None leaves it to the engine, which takes the model's own."""
    model, wanted = setup.model.architecture, setup.engine.batching.context_tokens
    if wanted or setup.hardware.kind != "cpu":
        return wanted
    return min(model.context_tokens, _CONTEXT_TOKENS_CPU) if model else None


def _batching(batching: Batching) -> list[str]:
    """Prompts are computed in passes of their own, each of at most --chunked-prefill-size tokens over all sequences;
    --max-prefill-tokens alone would let one long prompt exceed it."""
    words: list[str] = []
    chunk = batching.prefill_chunk_tokens
    if most := batching.max_batched_tokens:
        words += ["--max-prefill-tokens", str(most)]
        chunk = min(chunk, most) if chunk else most
    values = {"--chunked-prefill-size": chunk, "--max-running-requests": batching.max_sequences,
              "--mem-fraction-static": batching.memory_fraction, "--schedule-policy": batching.scheduling_policy,
              "--tp-size": batching.tensor_parallel if batching.tensor_parallel > 1 else None}
    for option, value in values.items():
        if value is not None:
            words += [option, str(value)]
    return words


def environment(setup: Setup) -> dict[str, str]:
    """GET /health generates a token in an idle engine unless it is told not to."""
    found = {"SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION": "0"}
    if setup.hardware.kind == "cpu":
        found["SGLANG_USE_CPU_ENGINE"] = "1"
        if platform.machine() == "x86_64" and has_amx():
            found["SGLANG_CPU_OMP_THREADS_BIND"] = _cores(threads(setup) or 1)
        else:
            found["OMP_NUM_THREADS"] = str(threads(setup))
    return found


def threads(setup: Setup) -> int | None:
    """Compute threads on a CPU: one physical core is left to the load generator. None on a GPU."""
    if setup.hardware.kind != "cpu":
        return None
    return setup.engine.batching.threads or max(1, _hardware.physical_cores() - 1)


def _cores(count: int) -> str:
    return ",".join(str(cpu) for cpu in sorted(_hardware.usable_cpus())[:count])
