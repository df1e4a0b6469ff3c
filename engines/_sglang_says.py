"""What a running SGLang tells of itself: its resolved settings, where its memory goes, its gauges."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from engines._contract import Inspection, prometheus_gauges

_GIB = 2**30
_KEPT = (
    "device", "dtype", "quantization", "kv_cache_dtype", "load_format", "context_length", "max_running_requests",
    "max_queued_requests", "max_total_tokens", "max_prefill_tokens", "chunked_prefill_size", "mem_fraction_static",
    "schedule_policy", "schedule_conservativeness", "page_size", "disable_radix_cache", "radix_eviction_policy",
    "enable_mixed_chunk", "disable_overlap_schedule", "num_continuous_decode_steps", "stream_interval", "tp_size",
    "pp_size", "dp_size", "ep_size", "attention_backend", "prefill_attention_backend", "decode_attention_backend",
    "sampling_backend", "grammar_backend", "moe_runner_backend", "fp8_gemm_runner_backend", "enable_torch_compile",
    "disable_cuda_graph", "speculative_algorithm", "random_seed")
"""Of several hundred: those that decide speed or output. Keys, paths and the whole command line are not among them."""
_NO_AMX = "does not support Intel AMX, will fallback to torch_native"
_LOGGED = {
    "weights": re.compile(r"Load weight end\..* mem usage=([\d.]+) GB"),
    "baseline": re.compile(r"Memory baseline taken\. mem usage=([\d.]+) GB"),
    "graphs": re.compile(r"Capture .* end\..* mem usage=([\d.]+) GB"),
    "kv_type": re.compile(r"KV Cache is allocated\. dtype: torch\.(\w+)"),
    "kv_tokens": re.compile(r"\bmax_total_num_tokens=(\d+)"),
    "context": re.compile(r"\bcontext_len=(\d+)"),
}

_GAUGES = {
    "sglang:num_running_reqs": "requests_running",
    "sglang:num_queue_reqs": "requests_waiting",
    "sglang:token_usage": "kv_cache_usage",
    "sglang:num_used_tokens": "kv_cache_tokens",
    "sglang:prompt_tokens_total": "prefix_cache_queried_tokens",
    "sglang:cached_tokens_total": "prefix_cache_hit_tokens",
    "sglang:generation_tokens_total": "generated_tokens",
    "sglang:num_retracted_requests_total": "preemptions",
    "sglang:cuda_graph_passes_total": "engine_steps",  # by kind of graph, none included
}


def gauges(text: str) -> dict[str, float]:
    """Its counter of prompt tokens has the cached ones in it."""
    found = prometheus_gauges(text, _GAUGES)
    if "prefix_cache_queried_tokens" in found:
        found["prompt_tokens"] = found["prefix_cache_queried_tokens"] - found.get("prefix_cache_hit_tokens", 0.0)
    return found


def inspect(get: Callable[[str], Any], log: str) -> Inspection:
    """GET /server_info says most (0.5: /get_server_info before), the log the rest and what is left where nothing
    answers. Weights and overhead (CUDA's own memory and graphs) are those of all GPUs; on a CPU, where they are
    differences of the machine's free memory, they are left out."""
    info = get("/server_info") or get("/get_server_info") or {}
    state = (info.get("internal_states") or [{}])[0]
    memory = state.get("memory_usage") or {}
    said = {name: found[-1] for name, pattern in _LOGGED.items() if (found := pattern.findall(log))}
    ranks = int(info.get("tp_size") or 1) * int(info.get("pp_size") or 1)
    on_cpu = info.get("device") == "cpu" or _NO_AMX in log
    settings = {name: info[name] for name in _KEPT if isinstance(info.get(name), str | int | float | bool)}
    if memory.get("kvcache"):
        settings["kv_cache_bytes"] = round(memory["kvcache"] * _GIB) * ranks
    if "kv_type" in said:
        settings["kv_cache_type"] = said["kv_type"]
    return Inspection(
        version=info.get("version"), context_tokens=_context(get) or _int(said.get("context")),
        kv_cache_tokens=info.get("max_total_num_tokens") or _int(said.get("kv_tokens")),
        weights_bytes=None if on_cpu else _bytes(memory.get("weight") or said.get("weights"), ranks),
        overhead_bytes=None if on_cpu else _overhead(memory, said, log, ranks), settings=settings,
        functional_only=_functional_only(info, log))


def _functional_only(info: Mapping[str, Any], log: str) -> str | None:
    plain = info.get("device") == "cpu" and info.get("attention_backend") == "torch_native"
    return ("SGLang runs on a CPU without its own kernels, on torch's plain attention"
            if plain or _NO_AMX in log else None)


def _context(get: Callable[[str], Any]) -> int | None:
    served = (get("/v1/models") or {}).get("data") or [{}]
    return _int(served[0].get("max_model_len"))


def _overhead(memory: Mapping[str, Any], said: Mapping[str, str], log: str, ranks: int) -> int | None:
    by_kind = memory.get("graph")
    graphs = (sum(by_kind.values()) if isinstance(by_kind, dict) else
              sum(map(float, _LOGGED["graphs"].findall(log))))
    return _bytes(graphs + float(said.get("baseline") or 0), ranks)


def _bytes(gib: float | str | None, ranks: int) -> int | None:
    return round(float(gib) * _GIB) * ranks if gib is not None and float(gib) > 0 else None


def _int(value: object) -> int | None:
    return int(str(value)) if value is not None and str(value).isdigit() else None
