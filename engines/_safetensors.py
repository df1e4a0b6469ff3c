"""Synthetic models as Hugging Face folders: the weights and the tokenizer of the GGUF of the same name and seed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engines import _hf_tokenizer, _synthetic
from engines._gguf import Header, read_header
from engines._hf_quant import SCHEMES, group_size
from engines._hf_types import DTYPES, Array, dtype
from engines._synthetic import Shape
from models.errors import ModelError
from models.specs import ModelSpec

RECIPE = 3
"""Raised when the same weights are to be written in another way."""
_CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}
_NAMES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
          "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
          "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
_OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}


def write(model: ModelSpec, vocabulary: Path, folder: Path, quantization: str,
          told: Callable[[float], None]) -> tuple[str, ...]:
    """Writes config, weights and tokenizer into a folder; `told` gets the share done. The same model gives the same
    bytes. Returns what is to be noted. Raises ModelError when the vocabulary is not the one the shape was made for,
    Unsupported when its rows do not suit the quantisation."""
    s, tokenizer = _synthetic.shape(model.name), read_header(vocabulary)
    every = _synthetic.weights(s)
    kept: dict[str, Array] = {}
    scheme = SCHEMES.get(quantization)
    group = group_size(scheme, (w.shape[1] for w in every if len(w.shape) > 1)) if scheme else 0
    compute = scheme.compute if scheme else quantization
    for i, (name, values) in enumerate(tensors(model, tokenizer)):
        if scheme and name.endswith("_proj.weight"):
            packed = scheme.pack(values.astype(np.float32), group)
            kept |= {name.removesuffix("weight") + part: array for part, array in packed.items()}
        else:
            kept[name] = values.astype(dtype(compute))
        told((i + 1) / (len(every) + 1))
    save(kept, folder)
    _hf_tokenizer.write(tokenizer, folder, s.context_tokens)
    write_config(folder, s, tokenizer, compute, **{"quantization_config": scheme.config(group)} if scheme else {})
    told(1.0)
    return ("rounded to nearest, without calibration",) * bool(scheme) + (
        (f"groups of {group}: rows are not divisible by 128",) if group not in (0, 128) else ())


def save(tensors: Mapping[str, Array], folder: Path) -> None:
    """Writes model.safetensors, readable by others too (a container's user)."""
    from safetensors.numpy import save_file

    file = folder / "model.safetensors"
    # The library writes memory as it lies, whatever the strides say.
    save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, file, metadata={"format": "pt"})
    file.chmod(0o644)


def tensors(model: ModelSpec, tokenizer: Header) -> Iterator[tuple[str, Array]]:
    """Every tensor of a synthetic model by its name in Hugging Face's code, F16 where it is a matrix."""
    s = _synthetic.shape(model.name)
    for name, values in _synthetic.tensors(model, tokenizer):
        yield hf_name(name), _rows_for_halves(name, values, s)


def hf_name(name: str) -> str:
    """`model.layers.0.self_attn.q_proj.weight` for `blk.0.attn_q.weight`."""
    if found := re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name):
        return f"model.layers.{found[1]}.{_NAMES[found[2]]}.{found[3]}"
    base, _, kind = name.rpartition(".")
    return f"{_OUTSIDE[base]}.{kind}"


def _rows_for_halves(name: str, values: Array, s: Shape) -> Array:
    """A llama GGUF has each head's rows in pairs that are rotated together, neighbours; Hugging Face's code rotates the
    first half against the second (the inverse of `permute` in convert_hf_to_gguf.py). Qwen's are halves in both."""
    heads = {"attn_q": s.heads, "attn_k": s.kv_heads}.get(name.split(".")[-2])
    if s.family != "llama" or heads is None:
        return values
    paired = values.reshape(heads, s.head_dim // 2, 2, *values.shape[1:])
    return np.ascontiguousarray(paired.swapaxes(1, 2)).reshape(values.shape)


def write_config(folder: Path, s: Shape, tokenizer: Header, compute: str, **more: Any) -> None:
    """Writes config.json and generation_config.json; `compute` is the 16 or 32 bit type of what is not quantised."""
    if s.family not in _CLASSES:
        raise ModelError(f"model {s.name}: the family {s.family} has no Hugging Face class here")
    ids = {f"{key}_token_id": tokenizer.metadata[field] for key in ("bos", "eos")
           if (field := f"tokenizer.ggml.{key}_token_id") in tokenizer.metadata}
    config = {
        "architectures": [_CLASSES[s.family]], "model_type": s.family, "vocab_size": s.vocabulary_size,
        "hidden_size": s.hidden_size, "intermediate_size": s.intermediate_size, "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads, "num_key_value_heads": s.kv_heads, "head_dim": s.head_dim,
        "max_position_embeddings": s.context_tokens, "rope_theta": float(s.rope_base), "rms_norm_eps": s.norm_epsilon,
        "hidden_act": "silu", "tie_word_embeddings": True, "use_cache": True, "torch_dtype": DTYPES[compute],
        "transformers_version": "4.51.0",  # the oldest that reads all this; newer ones suspect a Mistral without it
        **ids}
    if s.family == "llama":
        config |= {"attention_bias": False, "mlp_bias": False}
    (folder / "config.json").write_text(json.dumps(config | more, indent=1))
    # Sampling is each request's: nothing but the ids is set here.
    (folder / "generation_config.json").write_text(json.dumps(ids, indent=1))
