"""What llama.cpp's start-up logs tell of memory and settings: recorded ones, and lines of other builds."""

from __future__ import annotations

from pathlib import Path

import pytest

import engines
from engines import _llama_log

SAMPLES = Path(__file__).parent / "samples/llama_cpp"
MIB = 2**20


def test_the_c_plus_plus_servers_log_tells_its_buffers_and_settings() -> None:
    said = _llama_log.said((SAMPLES / "llama-server/start.log").read_text())
    assert said.kv_cache_tokens == 4 * 2048
    assert said.weights_bytes == round(28.64 * MIB)
    assert said.overhead_bytes == round(8.51 * MIB) + round(0.49 * MIB)
    assert said.settings == {
        "context_tokens_total": 8192, "context_tokens_a_sequence": 2048, "sequences": 4, "batch_tokens": 2048,
        "pass_tokens": 512, "flash_attention": True, "kv_shared_by_sequences": False, "kv_cache_bytes": 64 * MIB}


def test_the_python_servers_log_tells_the_same() -> None:
    said = _llama_log.said((SAMPLES / "llama_cpp.server/start.log").read_text())
    assert (said.kv_cache_tokens, said.weights_bytes) == (2048, round(28.64 * MIB))
    assert said.settings["sequences"] == 1 and said.settings["flash_attention"] == "disabled"


@pytest.mark.parametrize(("shared", "tokens"), [("false", 4096), ("true", 1024)])
def test_a_quiet_log_still_tells_how_many_tokens_the_cache_holds(shared: str, tokens: int) -> None:
    line = f"I srv    load_model: initializing, n_slots = 4, n_ctx_slot = 1024, kv_unified = '{shared}'\n"
    assert _llama_log.said(line).kv_cache_tokens == tokens
    assert _llama_log.said(line).weights_bytes is None


def test_weights_on_several_devices_add_up_and_a_buffer_reserved_again_counts_once() -> None:
    log = """load_tensors:   CPU_Mapped model buffer size =    10.00 MiB
load_tensors:        CUDA0 model buffer size =   200.50 MiB
llama_kv_cache:      CUDA0 KV buffer size =    64.00 MiB
llama_kv_cache:      CUDA0 KV buffer size =    16.00 MiB
llama_context:  CUDA_Host  output buffer size =     0.50 MiB
sched_reserve:      CUDA0 compute buffer size =   100.00 MiB
sched_reserve:  CUDA_Host compute buffer size =     8.00 MiB
sched_reserve:      CUDA0 compute buffer size =   120.00 MiB
"""
    said = _llama_log.said(log)
    assert said.weights_bytes == round(210.5 * MIB) and said.settings["kv_cache_bytes"] == 80 * MIB
    assert said.overhead_bytes == round(128.5 * MIB)


def test_a_log_that_tells_nothing_gives_nothing() -> None:
    said = engines.adapter("llama_cpp").inspect("llama-server", lambda path: None, "")
    assert (said.kv_cache_tokens, said.weights_bytes, said.overhead_bytes) == (None, None, None) and not said.settings
