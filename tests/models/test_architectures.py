"""Shapes read from config.json: weights counted against what the models' makers say, and what each layer keeps."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from models.architectures import from_config
from models.errors import ModelError
from models.specs import Architecture, content_id

LLAMA: dict[str, Any] = {  # Llama-3.1-8B
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256,
    "max_position_embeddings": 131072, "tie_word_embeddings": False}


def bundled(name: str) -> Architecture:
    spec = importlib.util.find_spec("aiconfigurator_core")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs the extra `planning`")
    file = Path(spec.submodule_search_locations[0]) / "model_configs" / f"{name}_config.json"
    return from_config(json.loads(file.read_text()))


def test_weights_are_counted_matrix_by_matrix() -> None:
    attention = 4096 * (4096 + 1024 + 1024) + 4096 * 4096
    by_hand = 2 * 128256 * 4096 + 32 * (attention + 3 * 4096 * 14336)
    assert from_config(LLAMA).parameters == by_hand == 8_029_995_008
    assert from_config(LLAMA, 5).parameters == 5
    assert from_config(LLAMA).active_parameters is None


@pytest.mark.parametrize(("name", "total", "active"), [
    ("meta-llama--Meta-Llama-3.1-8B", 8.03, None), ("meta-llama--Meta-Llama-3.1-70B", 70.6, None),
    ("meta-llama--Meta-Llama-3.1-405B", 405.9, None), ("Qwen--Qwen3-32B", 32.8, None),
    ("Qwen--Qwen3-235B-A22B", 235, 22), ("Qwen--Qwen3-Coder-480B-A35B-Instruct", 480, 35),
    ("mistralai--Mixtral-8x7B-v0.1", 46.7, 12.9), ("mistralai--Mixtral-8x22B-v0.1", 141, 39),
    ("deepseek-ai--DeepSeek-R1", 671, 37), ("openai--gpt-oss-120b", 117, 5.1), ("openai--gpt-oss-20b", 20.9, 3.6),
    ("zai-org--GLM-5", 744, None), ("meta-llama--Llama-4-Maverick-17B-128E-Instruct", 400, None),
    ("nvidia--Llama-3_3-Nemotron-Super-49B-v1", 49.9, None), ("Qwen--Qwen3.5-397B-A17B", 397, None),
    ("XiaomiMiMo--MiMo-V2-Flash", 309, 15), ("nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 31.6, 3.2),
    ("nvidia--NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16", 550, 55)])
def test_counts_are_those_that_the_makers_publish(name: str, total: float, active: float | None) -> None:
    """Billions, from the models' cards."""
    shape = bundled(name)
    assert shape.parameters / 1e9 == pytest.approx(total, rel=0.02)
    if active is not None:
        assert (shape.active_parameters or 0) / 1e9 == pytest.approx(active, rel=0.02)


def test_every_bundled_config_is_read() -> None:
    spec = importlib.util.find_spec("aiconfigurator_core")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs the extra `planning`")
    files = [f for f in (Path(spec.submodule_search_locations[0]) / "model_configs").glob("*_config.json")
             if "hf_quant" not in f.name]
    assert len(files) > 80
    for file in files:
        from_config(json.loads(file.read_text()))


def test_latent_attention_keeps_one_vector() -> None:
    shape = bundled("deepseek-ai--DeepSeek-R1")
    assert (shape.kv_lora_rank, shape.qk_rope_head_dim, 2 * shape.kv_heads * shape.head_dim) == (512, 64, 576)
    assert (shape.experts, shape.experts_per_token, shape.shared_experts, shape.dense_layers) == (256, 8, 1, 3)
    assert bundled("deepseek-ai--DeepSeek-V3.2").index_dim == 128


@pytest.mark.parametrize(("change", "layers", "window"), [
    ({"layer_types": ["sliding_attention", "full_attention"] * 16, "sliding_window": 128}, 16, 128),
    ({"model_type": "gemma3_text", "sliding_window": 1024, "num_hidden_layers": 26}, 22, 1024),
    ({"model_type": "gemma3_text", "sliding_window": 1024, "sliding_window_pattern": 2}, 16, 1024),
    ({"model_type": "gemma2", "sliding_window": 4096}, 16, 4096),
    ({"model_type": "mistral", "sliding_window": 4096}, 32, 4096),
    ({"model_type": "mistral", "sliding_window": None}, None, None),
    ({"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": False}, None, None),
    ({"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": True, "max_window_layers": 20}, 12, 4096)])
def test_layers_with_a_window(change: dict[str, Any], layers: int | None, window: int | None) -> None:
    shape = from_config(LLAMA | change)
    assert (shape.sliding_layers, shape.sliding_window_tokens) == (layers, window)


def test_layers_without_keys_and_values_keep_a_state() -> None:
    hybrid = bundled("Qwen--Qwen3.5-27B")
    assert (hybrid.layers, hybrid.kvless_layers) == (64, 48)
    one = (2 * 16 * 128 + 48 * 128) * 3 * 2 + 48 * 128 * 128 * 4
    assert hybrid.state_bytes_per_sequence == 48 * one
    mamba = bundled("nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16")
    assert (mamba.layers, mamba.kvless_layers) == (52, 46)  # six `*` in the pattern
    assert mamba.state_bytes_per_sequence == 23 * ((4096 + 2 * 8 * 128) * 3 * 2 + 4096 * 128 * 4)


def test_other_heads_in_sliding_layers() -> None:
    gemma = bundled("google--gemma-4-26B-A4B")
    assert (gemma.kv_values_per_layer, gemma.sliding_kv_values_per_layer) == (2 * 2 * 512, None)
    mimo = bundled("XiaomiMiMo--MiMo-V2-Flash")
    assert (mimo.kv_values_per_layer, mimo.sliding_kv_values_per_layer) == (4 * (192 + 128), 8 * (192 + 128))


def test_what_is_optional_changes_no_identity() -> None:
    plain = from_config(LLAMA)
    assert content_id(plain) == "32d37ac82d5973b9"
    more = plain.model_copy(update={"experts": 8, "sliding_layers": 4, "kvless_layers": 1})
    assert content_id(more) == content_id(plain)


@pytest.mark.parametrize("change", [{"architectures": ["BertModel"]}, {"vocab_size": None},
                                    {"num_hidden_layers": None}])
def test_what_is_no_text_model_says_so(change: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        from_config(LLAMA | change)


def test_a_family_with_other_names_goes_without_what_is_optional_where_its_weights_are_known() -> None:
    odd = LLAMA | {"num_experts": 8}  # how many are chosen is told under a name that nobody knows
    assert from_config(odd, 9_000).experts is None
    with pytest.raises(ModelError, match="num_experts_per_tok"):
        from_config(odd)
