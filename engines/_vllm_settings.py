"""What vLLM can be set to, as tables, and which of it a version, a kind of hardware or a setup rules out."""

from __future__ import annotations

from typing import NamedTuple

from packaging.version import InvalidVersion, Version

from engines import _hardware, _packages, _vllm_install
from models.errors import Unsupported
from models.specs import Setup

_ALL = frozenset({"cpu", "cuda", "rocm"})
_GPU = frozenset({"cuda", "rocm"})
_CUDA = frozenset({"cuda"})


class Form(NamedTuple):
    """How a quantisation comes about. Without `dtype` and `method` it is the checkpoint's own: vLLM reads there which
    one, and picks the fastest kernel for it, as it would not for an explicit --quantization."""

    hardware: frozenset[str] = _ALL
    dtype: str = ""
    method: str = ""
    """--quantization, for what vLLM makes of unquantised weights while it loads them."""
    before: str = ""
    """The first version that does not have it any more."""
    needs: frozenset[str] = frozenset()
    """Features of a CPU, of which it needs one."""


_AMX = frozenset({"amx_tile"})
_WIDE = frozenset({"avx512f", "amx_tile"})
FORMS: dict[str, Form] = {
    "F32": Form(dtype="float32"),
    "F16": Form(dtype="float16"),
    "BF16": Form(dtype="bfloat16"),
    "W8A8-INT8": Form(),
    "W8A8-FP8": Form(),
    "FP8": Form(method="fp8", needs=_AMX),
    "FP8-BLOCK": Form(_GPU, method="fp8_per_block"),
    "FP8-CHANNEL": Form(_GPU, method="fp8_per_channel"),
    "W4A16-INT4": Form(needs=_WIDE),
    "W8A16-INT8": Form(_GPU),
    "GPTQ-INT4": Form(needs=_WIDE),
    "AWQ-INT4": Form(needs=_WIDE),
    "AUTOROUND-INT4": Form(needs=_WIDE),
    "GPTQ-INT8": Form(_GPU),
    "QUARK": Form(_GPU),
    "MODELOPT-FP8": Form(_CUDA),
    "BNB-NF4": Form(_CUDA, method="bitsandbytes", before="0.28.0"),
    "BNB-INT8": Form(_CUDA, before="0.28.0"),
    "MXFP4": Form(_GPU),
    "MXFP8": Form(_GPU, method="mxfp8"),
    "NVFP4": Form(_CUDA),
}
"""By dyno's names, read in the sources of 0.26 to 0.32. On a CPU with no more than AVX2, 0.32 was seen to serve F32,
F16, BF16, W8A8-INT8 and W8A8-FP8, and to die at the first token of the four-bit ones and at the start of FP8."""
ONLINE = frozenset(name for name, form in FORMS.items() if form.method)
"""What vLLM makes itself."""

KV_TYPES = {"f16": "auto", "bf16": "auto", "f32": "auto", "fp8": "fp8", "fp8_e5m2": "fp8_e5m2",
            "fp8_per_token_head": "fp8_per_token_head", "int8_per_token_head": "int8_per_token_head",
            "int4_per_token_head": "int4_per_token_head", "nvfp4": "nvfp4"}
"""--kv-cache-dtype by dyno's names. `auto` is the type that the model computes in."""
_KV_ON_CPU = frozenset({"f16", "bf16", "f32", "fp8", "fp8_e5m2"})

POLICIES = ("fcfs", "priority")


def check(setup: Setup) -> None:
    """Raises Unsupported for the first thing that the version, the hardware or another setting rules out."""
    engine, kind = setup.engine, setup.hardware.kind
    if engine.runtime == "venv":
        if kind == "rocm":
            raise Unsupported("engine.runtime", "vLLM's ROCm build is no package: use runtime docker, or path")
        if engine.version:
            _packages.check_version(_vllm_install.extra_for(kind), engine.version)
    _check_form(setup, engine.quantization, FORMS[engine.quantization])
    _check_kv(setup)
    _check_batching(setup)
    _check_threads(setup)


def _check_form(setup: Setup, name: str, form: Form) -> None:
    kind, version = setup.hardware.kind, setup.engine.version
    if kind not in form.hardware:
        raise Unsupported("engine.quantization", f"vLLM has {name} on {' and '.join(sorted(form.hardware))} only")
    asked = version or ("0" if setup.engine.runtime == "path" else form.before)  # what is at a path shows at its start
    if form.before and not _older(asked, form.before):
        raise Unsupported("engine.quantization", f"vLLM has no {name} of its own any more since {form.before}: name "
                                                 "an older engine.version")
    if kind == "cpu" and not _has_one(setup, form.needs):
        raise Unsupported("engine.quantization", f"vLLM computes {name} on CPUs with {_named(form.needs)} only, which "
                                                 "this one lacks")


def _check_kv(setup: Setup) -> None:
    kv, quantization = setup.engine.kv_type, setup.engine.quantization
    own = {"F32": ("f32",), "F16": ("f16",), "BF16": ("f16", "bf16")}.get(quantization, ("f16", "bf16"))
    if KV_TYPES[kv] == "auto" and kv not in own:
        raise Unsupported("engine.kv_type", f"vLLM keeps the KV cache of {quantization} weights in the type that it "
                                            f"computes in: ask for {own[-1]}, or fp8")
    if setup.hardware.kind == "cpu":
        if kv not in _KV_ON_CPU:
            raise Unsupported("engine.kv_type", f"vLLM has {kv} on GPUs only")
        if KV_TYPES[kv] != "auto" and not _has_one(setup, _WIDE):
            raise Unsupported("engine.kv_type", f"vLLM has {kv} on CPUs with {_named(_WIDE)} only, which this one "
                                                "lacks")


def _check_batching(setup: Setup) -> None:
    b = setup.engine.batching
    budget = b.max_batched_tokens or b.prefill_chunk_tokens
    if budget and budget < (b.max_sequences or 1):
        field = "max_batched_tokens" if b.max_batched_tokens else "prefill_chunk_tokens"
        raise Unsupported(f"engine.batching.{field}", f"vLLM decodes {b.max_sequences} sequences in one step, which "
                                                      f"takes as many tokens: {budget} are too few")
    if b.prefill_chunk_tokens and b.max_batched_tokens and b.prefill_chunk_tokens > b.max_batched_tokens:
        raise Unsupported("engine.batching.prefill_chunk_tokens",
                          f"vLLM's step holds max_batched_tokens, {b.max_batched_tokens}: a chunk cannot be larger")
    if b.scheduling_policy not in (None, *POLICIES):
        raise Unsupported("engine.batching.scheduling_policy",
                          f"vLLM has no {b.scheduling_policy!r}: it has {', '.join(POLICIES)}")


def _check_threads(setup: Setup) -> None:
    b, hardware = setup.engine.batching, setup.hardware
    if hardware.kind != "cpu":
        if b.threads:
            raise Unsupported("engine.batching.threads", "vLLM computes on the GPU: threads are for CPUs")
        if b.tensor_parallel > max(1, hardware.accelerators):
            raise Unsupported("engine.batching.tensor_parallel",
                              f"{hardware.name} has {hardware.accelerators} accelerators, {b.tensor_parallel} needed")
        return
    if b.threads and setup.engine.runtime == "kubernetes":
        raise Unsupported("engine.batching.threads", "in a pod vLLM takes the CPUs that it finds, but one")
    if _is_here(setup) and threads(setup) > (there := len(_hardware.usable_cpus())):
        raise Unsupported("engine.batching.threads", f"vLLM binds each thread to its own CPU, and there are {there}")
    if b.tensor_parallel > threads(setup):
        raise Unsupported("engine.batching.tensor_parallel",
                          f"each of {b.tensor_parallel} ranks needs a thread of its own, and {threads(setup)} are left "
                          "beside the load generator: set threads")


def threads(setup: Setup) -> int:
    """Compute threads on a CPU: one physical core is left to the load generator and to vLLM's own scheduler and HTTP
    server, which wait for each other in turn."""
    return setup.engine.batching.threads or max(1, _hardware.physical_cores() - 1)


def cpu_lists(setup: Setup) -> str:
    """VLLM_CPU_OMP_THREADS_BIND: the CPUs of each rank, one a core from the last on, ranks separated by `|`."""
    count, ranks = threads(setup), setup.engine.batching.tensor_parallel
    cores = _hardware.core_cpus()
    twins = sorted(_hardware.usable_cpus() - set(cores))
    mine = sorted([*cores[::-1], *twins][:count])
    share = len(mine) // ranks
    return "|".join(",".join(map(str, mine[i * share:(i + 1) * share])) for i in range(ranks))


def _older(version: str, than: str) -> bool:
    try:
        return Version(version) < Version(than)
    except InvalidVersion:
        return False


def _has_one(setup: Setup, features: frozenset[str]) -> bool:
    """Whether the CPU has one of the features; True where it is not this machine's and nobody knows."""
    return not features or not _is_here(setup) or not features.isdisjoint(_hardware.cpu_features().split())


def _named(features: frozenset[str]) -> str:
    return " or ".join(name for feature, name in (("avx512f", "AVX-512"), ("amx_tile", "AMX")) if feature in features)


def _is_here(setup: Setup) -> bool:
    return setup.hardware.cpu == _hardware.cpu_name()
