"""From the fields of a setup to TGI's options, and what of them it cannot honour: after launcher/src/main.rs and
server/ of 3.3.7."""

from __future__ import annotations

import tempfile
from pathlib import Path

from engines import _hardware, _ports
from models.errors import Unsupported
from models.quality import TOP
from models.specs import Setup

DTYPES = {"F16": "float16", "BF16": "bfloat16"}
"""Unquantised, with the value of --dtype."""
QUANTIZE = {
    "FP8": "fp8", "W8A8-INT8": "compressed-tensors", "W8A8-FP8": "compressed-tensors",
    "W4A16-INT4": "compressed-tensors", "GPTQ-INT4": "gptq", "AWQ-INT4": "awq", "MARLIN-INT4": "marlin",
    "EETQ-INT8": "eetq", "EXL2": "exl2", "BNB-NF4": "bitsandbytes-nf4", "BNB-FP4": "bitsandbytes-fp4",
    "BNB-INT8": "bitsandbytes"}
"""Quantised, with the value of --quantize."""
ONLINE = frozenset({"FP8", "EETQ-INT8", "BNB-NF4", "BNB-FP4", "BNB-INT8"})
"""Those of them that it makes itself of unquantised weights while it loads."""
_ELSEWHERE = {"rocm": frozenset({"FP8", "W8A8-FP8", "GPTQ-INT4"}), "cpu": frozenset({"GPTQ-INT4", "AWQ-INT4"})}
"""What there are kernels for but on NVIDIA's GPUs, which have all (layers/, installation_amd.md)."""
KV_TYPES = {"f16": None, "bf16": None, "fp8": "fp8_e4m3fn", "fp8_e5m2": "fp8_e5m2"}
"""Values of --kv-cache-dtype; without it the type of the weights, or of the activations where these are quantised."""
_KV_ELSEWHERE = {"rocm": frozenset({"fp8"}), "cpu": frozenset({"fp8_e5m2"})}
"""8-bit ones but on NVIDIA's GPUs (layers/attention/kv_cache.py)."""
CONCURRENT_REQUESTS = 4096
"""Beyond its own limit, 128, it answers 429 where other engines let requests wait."""


def check(setup: Setup) -> None:
    """Raises Unsupported for what the capabilities cannot express: fields that depend on each other or the device."""
    engine, batching, hardware = setup.engine, setup.engine.batching, setup.hardware
    kind = hardware.kind
    if engine.quantization in QUANTIZE and engine.quantization not in _ELSEWHERE.get(kind, QUANTIZE):
        raise Unsupported("engine.quantization", f"TGI has no {engine.quantization} on {kind}: there it has"
                          f" {', '.join([*DTYPES, *sorted(_ELSEWHERE[kind])])}")
    if KV_TYPES[engine.kv_type] and engine.kv_type not in _KV_ELSEWHERE.get(kind, KV_TYPES):
        raise Unsupported("engine.kv_type", f"TGI has no KV cache of {engine.kv_type} on {kind}")
    if engine.kv_type == "bf16" and engine.quantization == "F16":
        raise Unsupported("engine.kv_type", "TGI's KV cache has the type of the weights: ask for BF16, or for f16")
    if engine.quantization == "EXL2" and batching.tensor_parallel > 1:
        raise Unsupported("engine.batching.tensor_parallel", "TGI does not split EXL2 over GPUs")
    if kind != "cpu" and batching.threads is not None:
        raise Unsupported("engine.batching.threads", "TGI computes on the GPU: threads are a setting of its CPU image")
    if kind != "cpu" and 0 < hardware.accelerators < batching.tensor_parallel:
        raise Unsupported("engine.batching.tensor_parallel", f"{hardware.name} has {hardware.accelerators} GPUs")


def options(setup: Setup, model: str, host: str, port: int) -> list[str]:
    """Every option of a setup that serves the model in a folder; `check` has let it through.

    Ports and socket besides the server's own have to be told, or two launchers on one machine meet on them. Without
    --num-shard it takes every GPU it sees.
    """
    engine, batching = setup.engine, setup.engine.batching
    socket = Path(tempfile.gettempdir()) / f"text-generation-server-{port}"
    words = ["--model-id", model, "--hostname", host, "--port", str(port), "--prometheus-port",
             str(_ports.free_port()), "--shard-uds-path", str(socket), "--master-port", str(_ports.free_port()),
             "--num-shard", str(batching.tensor_parallel), "--usage-stats", "off",
             "--max-top-n-tokens", str(TOP)]
    if engine.quantization in DTYPES:
        words += ["--dtype", DTYPES[engine.quantization]]
    else:  # it refuses --dtype beside it
        words += ["--quantize", QUANTIZE[engine.quantization]]
    if not any(word.startswith("--max-concurrent-requests") for word in engine.extra_args):
        words += ["--max-concurrent-requests", str(CONCURRENT_REQUESTS)]
    values = {"--kv-cache-dtype": KV_TYPES[engine.kv_type], "--max-batch-size": batching.max_sequences,
              "--max-batch-prefill-tokens": batching.max_batched_tokens,
              "--cuda-memory-fraction": batching.memory_fraction,
              "--max-total-tokens": batching.context_tokens,
              "--max-input-tokens": batching.context_tokens and batching.context_tokens - 1}
    return words + [word for option, value in values.items() if value is not None for word in (option, str(value))]


def environment(setup: Setup) -> dict[str, str]:
    """What has no option. Left alone, prefixes are cached."""
    found = {"PREFIX_CACHING": "1" if setup.engine.batching.prefix_caching else "0"}
    if (count := threads(setup)) is not None:
        found["OMP_NUM_THREADS"] = str(count)
    return found


def threads(setup: Setup) -> int | None:
    """Compute threads on a CPU: one physical core is left to the load generator. None on a GPU."""
    if setup.hardware.kind != "cpu":
        return None
    return setup.engine.batching.threads or max(1, _hardware.physical_cores() - 1)
