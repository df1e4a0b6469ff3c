"""What llama.cpp writes while it loads a model: where its memory goes and what its settings came to."""

from __future__ import annotations

import re
from collections.abc import Mapping

from engines._contract import Inspection

_BUFFER = re.compile(r"(?<!\S)(\S+) +(model|KV|compute|output) buffer size = +([\d.]+) MiB")
_SETTING = re.compile(r"llama_context: (\w+) += (\S+)")
_SLOTS = re.compile(r"n_slots = (\d+), n_ctx_slot = (\d+), kv_unified = '(\w+)'")
_KEPT = {"n_ctx": "context_tokens_total", "n_ctx_seq": "context_tokens_a_sequence", "n_seq_max": "sequences",
         "n_batch": "batch_tokens", "n_ubatch": "pass_tokens", "flash_attn": "flash_attention",
         "kv_unified": "kv_shared_by_sequences"}
_MIB = 2**20


def said(log: str) -> Inspection:
    """Returns what a start-up log tells; nothing of what it leaves out (builds that log no loading at all).

    The KV cache holds as many tokens as the whole context: one sequence's times the sequences, unless these share it.
    Weights are those in memory, whichever device; overhead is the compute and output buffers.
    """
    sizes = _buffers(log)
    settings: dict[str, str | int | float | bool | None] = {
        name: _value(value) for key, value in _SETTING.findall(log) if (name := _KEPT.get(key))}
    if re.search(r"Flash Attention (enabled|disabled)", log):
        settings["flash_attention"] = "Flash Attention enabled" in log
    if "KV" in sizes:
        settings["kv_cache_bytes"] = sizes["KV"]
    overhead = [sizes[kind] for kind in ("compute", "output") if kind in sizes]
    return Inspection(kv_cache_tokens=_kv_tokens(settings, log), weights_bytes=sizes.get("model"),
                      overhead_bytes=sum(overhead) if overhead else None, settings=settings)


def _buffers(log: str) -> dict[str, int]:
    """Bytes by kind. Compute and output buffers may be reserved again: the last of a device counts. Weights and KV
    caches come in several buffers of one device (layers with a sliding window have a cache of their own)."""
    found: dict[str, int] = {}
    last: dict[tuple[str, str], int] = {}
    for device, kind, mib in _BUFFER.findall(log):
        size = round(float(mib) * _MIB)
        again = last.get((device, kind), 0) if kind in ("compute", "output") else 0
        found[kind] = found.get(kind, 0) + size - again
        last[device, kind] = size
    return found


def _kv_tokens(settings: Mapping[str, object], log: str) -> int | None:
    whole = settings.get("context_tokens_total")
    if isinstance(whole, int):
        return whole
    slots = _SLOTS.search(log)  # all that is left at the default verbosity
    return int(slots[2]) * (1 if slots[3] == "true" else int(slots[1])) if slots else None


def _value(text: str) -> str | int | bool:
    if text in ("true", "false"):
        return text == "true"
    return int(text) if re.fullmatch(r"-?\d+", text) else text
