"""Hugging Face folders: what they say of themselves, and those of one's own."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from engines import _hf_config, _hf_folder
from engines._checkpoints import hf_checkpoint, resolve_model
from engines._hf_types import Stored
from engines._llama_build import Toolchain
from models.errors import ModelError, Unsupported

TINY = "synthetic-llama-15m"
LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 100,
    "max_position_embeddings": 512}


def stored(name: str, *shape: int, dtype: str = "BF16", size: int = 2) -> Stored:
    count = 1
    for n in shape:
        count *= n
    return Stored(name, dtype, shape, count * size)


@pytest.fixture
def mine(llama_install: Toolchain, tmp_path: Path) -> Path:
    return Path(shutil.copytree(hf_checkpoint(resolve_model(TINY), "BF16").path, tmp_path / "mine"))


def test_a_folder_of_ones_own(mine: Path) -> None:
    model = resolve_model(str(mine))
    assert (model.name, model.source, model.format, model.quantization) == ("mine", "file", "safetensors", "BF16")
    assert model.architecture == resolve_model(TINY).architecture
    assert hf_checkpoint(model, "BF16").path == mine
    named = resolve_model({"name": "named", "path": str(mine)})
    assert (named.name, named.content) == ("named", model.content)
    with pytest.raises(Unsupported, match="mine is BF16, of which no AWQ-INT4 is made here"):
        hf_checkpoint(model, "AWQ-INT4")


def test_content_is_what_an_engine_reads(mine: Path) -> None:
    model = resolve_model(str(mine))
    (mine / "README.md").write_text("more")
    (mine / "pytorch_model.bin").write_bytes(b"more")
    assert resolve_model(str(mine)).content == model.content
    (mine / "tokenizer_config.json").write_text("{}")
    assert resolve_model(str(mine)).content != model.content
    with pytest.raises(ModelError, match="has changed since this experiment was expanded"):
        hf_checkpoint(model, "BF16")
    shutil.rmtree(mine)
    with pytest.raises(ModelError, match=r"model mine: .*mine: it has no config\.json"):
        hf_checkpoint(model, "BF16")


@pytest.mark.parametrize(("file", "content", "why"), [
    ("config.json", None, "it has no config.json"),
    ("config.json", b"[]", "config.json is not a JSON object"),
    ("config.json", b"{", "config.json cannot be read"),
    ("config.json", b"{}", "it is no decoder that generates text"),
    ("model.safetensors", None, "it has no model.safetensors"),
    ("model.safetensors", b"\x09", "model.safetensors: not a safetensors file"),
    ("model.safetensors.index.json", b'{"weight_map":{"a":"model-00001-of-00002.safetensors"}}', "which is not there"),
])
def test_a_folder_that_is_no_model(file: str, content: bytes | None, why: str, mine: Path) -> None:
    (mine / file).unlink(missing_ok=True)
    if content is not None:
        (mine / file).write_bytes(content)
    with pytest.raises(ModelError, match=why) as raised:
        resolve_model(str(mine))
    assert str(mine) in str(raised.value)


def test_the_end_is_what_the_generation_config_says(mine: Path) -> None:
    (mine / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 7]}))
    assert _hf_folder.end_tokens(mine) == (2, 7)
    (mine / "generation_config.json").unlink()
    assert _hf_folder.end_tokens(mine) == (2,)


def test_a_shape_is_read_with_its_grouped_heads() -> None:
    tensors = [stored("model.embed_tokens.weight", 100, 64), stored("lm_head.weight", 100, 64)]
    a = _hf_config.architecture(LLAMA, tensors)
    assert (a.kv_heads, a.head_dim, a.parameters, a.tied_embeddings) == (2, 8, 12800, False)
    assert _hf_config.architecture(LLAMA | {"head_dim": 32}, tensors).head_dim == 32


@pytest.mark.parametrize("key", ["text_config", "llm_config"])
def test_the_text_part_of_a_model_of_several_is_what_counts(key: str) -> None:
    inner = {k: v for k, v in LLAMA.items() if k != "architectures"} | {"model_type": "qwen3"}
    config = {"architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl", key: inner,
              "vision_config": {"hidden_size": 1}}
    a = _hf_config.architecture(config, [stored("a.weight", 10, 10)])
    assert (a.family, a.hidden_size, a.layers) == ("qwen3", 64, 2)


def test_latent_attention_keeps_one_vector_a_token() -> None:
    deepseek = LLAMA | {"architectures": ["DeepseekV3ForCausalLM"], "kv_lora_rank": 512, "qk_rope_head_dim": 64}
    a = _hf_config.architecture(deepseek, [stored("a.weight", 10, 10)])
    assert 2 * a.kv_heads * a.head_dim == 512 + 64


@pytest.mark.parametrize("change", [
    {"architectures": ["BertModel"]}, {"architectures": None},
    {"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}])
def test_what_does_not_generate_text_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="no decoder that generates text"):
        _hf_config.architecture(LLAMA | change, [])


def test_a_config_that_lacks_something_names_it() -> None:
    with pytest.raises(ModelError, match="lacks what a text model has: 'vocab_size'"):
        _hf_config.architecture({k: v for k, v in LLAMA.items() if k != "vocab_size"}, [stored("a.weight", 1, 1)])


@pytest.mark.parametrize(("config", "name"), [
    ({"quant_method": "gptq", "bits": 8, "group_size": 32}, "GPTQ-INT8"),
    ({"quant_method": "awq", "bits": 4}, "AWQ-INT4"),
    ({"quant_method": "auto-round", "bits": 4}, "AUTOROUND-INT4"),
    ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "FP8"),
    ({"quant_method": "mxfp4"}, "MXFP4"),
    ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "BNB-NF4"),
    ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "BNB-INT8"),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "NVFP4"),
    ({"quant_method": "modelopt", "quant_algo": "FP8"}, "MODELOPT-FP8"),
    ({"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": {"group_0": {
        "weights": {"num_bits": 8, "type": "int"}, "input_activations": {"num_bits": 8}}}}, "W8A8-INT8"),
    ({"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {"group_0": {
        "weights": {"num_bits": 8, "type": "float"}, "input_activations": {"num_bits": 8}}}}, "W8A8-FP8"),
    ({"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": {
        "weights": {"num_bits": 4, "type": "int"}, "input_activations": None}}}, "W4A16-INT4"),
    ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized", "config_groups": {"group_0": {
        "weights": {"num_bits": 4, "type": "float"}, "input_activations": {"num_bits": 4}}}}, "NVFP4"),
    ({"quant_method": "exl2"}, "EXL2"),
])
def test_a_quantisation_has_dynos_name(config: dict[str, Any], name: str) -> None:
    assert _hf_config.quantization({"quantization_config": config}, []) == name
    assert _hf_config.quantization({"text_config": {"quantization_config": config}}, []) == name


@pytest.mark.parametrize(("file", "said", "name"), [
    ("quantize_config.json", {"bits": 4, "group_size": 128, "desc_act": False}, "GPTQ-INT4"),
    ("quant_config.json", {"zero_point": True, "q_group_size": 128, "w_bit": 4, "version": "GEMM"}, "AWQ-INT4"),
    ("hf_quant_config.json", {"producer": {}, "quantization": {"quant_algo": "FP8"}}, "MODELOPT-FP8")])
def test_a_quantisation_may_be_told_beside_the_config(file: str, said: dict[str, Any], name: str, mine: Path) -> None:
    (mine / file).write_text(json.dumps(said))
    assert resolve_model(str(mine)).quantization == name


def test_an_unquantised_model_is_what_most_of_it_is_stored_in() -> None:
    assert _hf_config.quantization({}, [stored("a", 9, dtype="F16"), stored("b", 2, dtype="F32")]) == "F16"


def test_packed_weights_are_counted_one_by_one() -> None:
    gptq = [stored("q_proj.qweight", 16, 128, dtype="I32"), stored("q_proj.scales", 1, 128),
            stored("q_proj.qzeros", 1, 16, dtype="I32"), stored("norm.weight", 128)]
    assert _hf_config.parameters({"quantization_config": {"bits": 4}}, gptq) == 128 * 128 + 128
    assert _hf_config.parameters({"quantization_config": {"bits": 8}}, gptq) == 64 * 128 + 128
    mxfp4 = [stored("experts.gate_up_proj_blocks", 2, 8, 16, dtype="U8", size=1),
             stored("experts.gate_up_proj_scales", 2, 8, dtype="U8", size=1)]
    assert _hf_config.parameters({}, mxfp4) == 2 * 8 * 16 * 2


def test_copies_of_the_weights_are_not_needed() -> None:
    names = ["config.json", "tokenizer.model", "chat_template.jinja", "model.safetensors", "consolidated.safetensors",
             "pytorch_model.bin", "original/params.json", "README.md", "merges.txt", "modeling_x.py"]
    weights = _hf_config.weight_files(names, None)
    assert _hf_config.needed(names, weights) == [
        "chat_template.jinja", "config.json", "merges.txt", "model.safetensors", "modeling_x.py", "tokenizer.model"]
