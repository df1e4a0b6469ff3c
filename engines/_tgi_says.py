"""What a running TGI tells of itself. Its /info leaves out types, quantisation and batch budget: they are read from the
log, where the launcher writes its arguments."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from engines._contract import Inspection, prometheus_gauges

_INFO = ("docker_label", "sha", "max_concurrent_requests", "max_input_tokens", "max_total_tokens",
         "max_client_batch_size", "validation_workers")
_ARGUMENTS = frozenset({
    "quantize", "dtype", "kv_cache_dtype", "num_shard", "speculate", "waiting_served_ratio",
    "max_batch_prefill_tokens", "max_batch_total_tokens", "max_waiting_tokens", "max_batch_size",
    "cuda_memory_fraction", "disable_custom_kernels", "disable_grammar_support"})
"""Of those it logs: those that decide speed or output. Its keys are not among them."""
_ARGUMENT = re.compile(r"^ {4}(\w+): (?:Some\(\s+)?\"?([\w.+-]+)\"?,?\s*$", re.MULTILINE)
_ATTENTION = re.compile(r"Using attention (\S+) - Prefix caching (\S+)")
_PREFILL = re.compile(r"Default `max_batch_prefill_tokens` to (\d+)")
_KV_TOKENS = re.compile(r"Setting max batch total tokens to (\d+)")
_BLOCKS = re.compile(r"KV-cache blocks: (\d+), size: (\d+)")

_GAUGES = {
    "tgi_batch_current_size": "requests_running",
    "tgi_queue_size": "requests_waiting",
    "tgi_request_input_length_sum": "prompt_tokens",
    "tgi_request_generated_tokens_sum": "generated_tokens",
    "tgi_batch_inference_count": "engine_steps",
    "tgi_batch_inference_count_total": "engine_steps",
}
_BY_METHOD = {"prefill": "prefill_s", "decode": "decode_s"}


def gauges(text: str) -> dict[str, float]:
    """Prompt tokens are counted when a request comes in, cached ones with them; output when it has ended."""
    found = prometheus_gauges(text, _GAUGES)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = _BY_METHOD.get(sample.labels.get("method", ""))
            if sample.name == "tgi_batch_inference_duration_sum" and name:
                found[name] = found.get(name, 0.0) + sample.value
    return found


def inspect(get: Callable[[str], Any], log: str) -> Inspection:
    """The KV cache holds what may be batched in all. What weights and graphs take of memory it does not tell."""
    info = get("/info") or {}
    settings: dict[str, str | int | float | bool | None] = {
        name: info[name] for name in _INFO if isinstance(info.get(name), str | int | float | bool)}
    settings |= {name: _value(said) for name, said in _ARGUMENT.findall(log) if name in _ARGUMENTS}
    if found := _ATTENTION.findall(log):
        settings["attention"], cached = found[-1]
        settings["prefix_caching"] = cached in ("1", "true")
    if found := _PREFILL.findall(log):
        settings["max_batch_prefill_tokens"] = int(found[-1])
    return Inspection(version=info.get("version"), context_tokens=info.get("max_total_tokens"),
                      kv_cache_tokens=_kv_tokens(log), settings=settings)


def _kv_tokens(log: str) -> int | None:
    if found := _KV_TOKENS.findall(log):
        return int(found[-1])
    blocks = _BLOCKS.findall(log)
    return int(blocks[-1][0]) * int(blocks[-1][1]) if blocks else None


def _value(text: str) -> str | int | float | bool | None:
    if text in ("true", "false", "None"):
        return {"true": True, "false": False, "None": None}[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
