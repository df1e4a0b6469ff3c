"""What a vLLM says of itself: its metrics, its resolved configuration, its start-up log."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from engines._contract import Inspection, prometheus_gauges

_GIB = 1 << 30
SERVER_INFO = "/server_info?config_format=json"
"""Answered in development mode only (VLLM_SERVER_DEV_MODE), which dyno's own launches are in."""

_GAUGES = {
    "vllm:num_requests_running": "requests_running",
    "vllm:num_requests_waiting": "requests_waiting",
    "vllm:kv_cache_usage_perc": "kv_cache_usage",
    "vllm:prompt_tokens_total": "prompt_tokens",
    "vllm:generation_tokens_total": "generated_tokens",
    "vllm:prefix_cache_hits_total": "prefix_cache_hit_tokens",
    "vllm:prefix_cache_queries_total": "prefix_cache_queried_tokens",
    "vllm:num_preemptions_total": "preemptions",
    "vllm:iteration_tokens_total_count": "engine_steps",
    "vllm:prompt_tokens_cached_total": "_cached",
}
_SETTINGS = {
    "model_config": ("dtype", "quantization", "enforce_eager", "max_model_len"),
    "cache_config": ("block_size", "cache_dtype", "enable_prefix_caching", "gpu_memory_utilization", "num_gpu_blocks",
                     "kv_cache_memory_bytes"),
    "scheduler_config": ("max_num_seqs", "max_num_batched_tokens", "enable_chunked_prefill",
                         "long_prefill_token_threshold", "policy", "async_scheduling"),
    "parallel_config": ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"),
    "device_config": ("device",),
}
"""Of /server_info: what decides speed, by vLLM's own names."""
_IN_LOG = ("dtype", "quantization", "enforce_eager", "enable_prefix_caching", "tensor_parallel_size", "max_num_seqs",
           "max_num_batched_tokens", "policy")


def gauges(text: str) -> dict[str, float]:
    """Prompt tokens are those computed: cached ones are counted too, and taken off. The tokens in the KV cache come
    from the share in use and the size that cache_config_info tells."""
    found = prometheus_gauges(text, _GAUGES)
    if "prompt_tokens" in found:
        found["prompt_tokens"] -= found.pop("_cached", 0.0)
    size = _kv_tokens(_cache_config(text))
    if size and "kv_cache_usage" in found:
        found["kv_cache_tokens"] = round(found["kv_cache_usage"] * size)
    return found


def inspection(get: Callable[[str], Any], log: str) -> Inspection:
    """From /server_info where it answers, else from the metrics and the log; memory from the log only."""
    # The first time it describes the machine as well, which may take longer than anybody waits, and remembers that.
    info = (get(SERVER_INFO) or get(SERVER_INFO) or {}).get("vllm_config") or {}
    metrics = get("/metrics")
    cache = info.get("cache_config") or (_cache_config(metrics) if isinstance(metrics, str) else {})
    served = ((get("/v1/models") or {}).get("data") or [{}])[0]
    weights = _gib(r"Model loading took ([\d.]+) GiB", log)
    return Inspection(version=(get("/version") or {}).get("version"), context_tokens=served.get("max_model_len"),
                      kv_cache_tokens=_kv_tokens(cache) or _logged_kv_tokens(log), weights_bytes=weights,
                      overhead_bytes=_overhead(log, weights), settings=_settings(info, log))


def _settings(info: Mapping[str, Any], log: str) -> dict[str, str | int | float | bool | None]:
    found: dict[str, str | int | float | bool | None] = {}
    for part, names in _SETTINGS.items():
        found |= {name: info[part][name] for name in names if name in info.get(part, {})}
    found = found or _logged_settings(log)
    if isinstance(dtype := found.get("dtype"), str):
        found["dtype"] = dtype.removeprefix("torch.")
    bound = re.findall(r"local_rank=\d+, core ids=\[([\d, ]+)\]", log)
    return found | ({"omp_cpus": "|".join(b.replace(" ", "") for b in bound)} if bound else {})


def _logged_settings(log: str) -> dict[str, str | int | float | bool | None]:
    """What the log tells of the configuration: a part of it, and what was asked for of the rest."""
    found: dict[str, str | int | float | bool | None] = {}
    resolved, asked = re.search(r"with config: (.*)", log), re.search(r"non-default args: \{(.*)\}", log)
    for line, form in ((asked, r"'{}': ([^,}}]+)"), (resolved, r"\b{}=([^,\s]+)")):
        for name in _IN_LOG if line else ():
            if value := re.search(form.format(name), line[1]):  # type: ignore[index]  # there is a line
                found[name] = _value(value[1].strip("'"))
    if budget := re.search(r"Chunked prefill is enabled with max_num_batched_tokens=(\d+)", log):
        found["max_num_batched_tokens"] = int(budget[1])
    return found


def _value(text: str) -> str | int | float | bool | None:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if value is None or isinstance(value, str | int | float | bool) else text


def _cache_config(metrics: str) -> dict[str, str]:
    """The labels of cache_config_info: every field of the cache's configuration."""
    for family in text_string_to_metric_families(metrics):
        if family.name == "vllm:cache_config_info" and family.samples:
            return dict(family.samples[0].labels)
    return {}


def _kv_tokens(cache: Mapping[str, Any]) -> int | None:
    """Its size in tokens; versions before 0.31 tell blocks only."""
    size = str(cache.get("kv_cache_size_tokens"))
    if size.isdigit():
        return int(size)
    blocks, block = str(cache.get("num_gpu_blocks")), str(cache.get("block_size"))
    return int(blocks) * int(block) if blocks.isdigit() and block.isdigit() else None


def _logged_kv_tokens(log: str) -> int | None:
    found = re.search(r"KV cache size: ([\d,]+) tokens", log)
    return int(found[1].replace(",", "")) if found else None


def _overhead(log: str, weights: int | None) -> int | None:
    """What a GPU holds beside weights and KV cache: activations, CUDA graphs and what torch does not see. Newer
    versions tell weights and the last together."""
    found = re.search(r"Actual usage is ([\d.]+) GiB (for weight|for consumed memory)(.*)", log)
    if not found or weights is None:
        return None
    rest = sum(float(gib) for gib in re.findall(
        r"([\d.]+) GiB for (?:peak activation|non-torch memory|CUDAGraph memory)", found[3]))
    beside = max(0.0, float(found[1]) - weights / _GIB) if found[2] == "for consumed memory" else 0.0
    return round((rest + beside) * _GIB)


def _gib(pattern: str, log: str) -> int | None:
    found = re.search(pattern, log)
    return round(float(found[1]) * _GIB) if found else None
