"""What a Hugging Face folder says of its model: shape, quantisation, and which of its files are needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from engines._hf_types import DTYPES, Stored
from models.architectures import NESTED, from_config
from models.errors import ModelError
from models.specs import Architecture

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
BESIDE = {"quantize_config.json": "gptq", "quant_config.json": "awq", "hf_quant_config.json": "modelopt"}
"""Files in which a quantisation may be told, and the method when they do not say."""
_SMALL = (".json", ".jinja", ".model", ".tiktoken", ".txt", ".py")
_SCALES = frozenset({
    "scales", "qzeros", "g_idx", "weight_scale", "weight_scale_2", "weight_scale_inv", "weight_shape",
    "weight_zero_point", "weight_g_idx", "weight_global_scale", "input_scale", "input_global_scale", "input_zero_point",
    "k_scale", "v_scale", "q_scale", "absmax", "quant_map", "nested_absmax", "nested_quant_map", "SCB",
    "bitsandbytes__nf4", "bitsandbytes__fp4"})
"""Last parts of the names of what belongs to quantisation and is no weight."""


def completed(config: Mapping[str, Any], beside: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The config with the quantisation that older and NVIDIA's tools write in a file `beside` it, of BESIDE."""
    found = dict(config)
    for name, said in beside.items():
        if quantization_config(found) is None:
            inner = said.get("quantization") if name == "hf_quant_config.json" else said
            if isinstance(inner, dict):
                found["quantization_config"] = {"quant_method": BESIDE[name]} | inner
    return found


def patterns(weights: Iterable[str]) -> list[str]:
    """The same choice as `needed`, but for folders, in the words of huggingface_hub."""
    return [*weights, *(f"*{end}" for end in _SMALL)]


def needed(names: Iterable[str], weights: Iterable[str]) -> list[str]:
    """Returns the files that an engine reads: the weights, and at the top of the folder what is small. Copies of the
    weights in other formats, or whole (`consolidated…`) beside the parts of the index, are left out."""
    wanted = set(weights)
    return sorted(n for n in names if "/" not in n and (n in wanted or n.endswith(_SMALL)))


def weight_files(names: Iterable[str], index: Mapping[str, Any] | None) -> list[str]:
    """Raises ModelError when there are no safetensors, or a part that the index names is missing."""
    there = set(names)
    if index is not None:
        parts = sorted(set(index.get("weight_map", {}).values()))
        if missing := [p for p in parts if p not in there]:
            raise ModelError(f"{INDEX} names {missing[0]}, which is not there")
        return parts
    if SINGLE in there:
        return [SINGLE]
    ggufs = sorted(n for n in there if n.endswith(".gguf"))
    raise ModelError(f"it has no {SINGLE}" + (f": name one of its files, as in file: {ggufs[0]}" if ggufs else
                                              " (other formats are not read: convert it)"))


def architecture(config: Mapping[str, Any], tensors: Iterable[Stored]) -> Architecture:
    """Raises ModelError when this is no decoder that generates text, or the config lacks what one has."""
    stored = list(tensors)
    shape = from_config(config, parameters(config, stored) or None)
    return shape.model_copy(update={"tied_embeddings": not any(t.name.endswith("lm_head.weight") for t in stored)})


def parameters(config: Mapping[str, Any], tensors: Iterable[Stored]) -> int:
    """Weights, where several may be packed into one stored element."""
    bits = (quantization_config(config) or {}).get("bits", 4)
    total = 0
    for t in tensors:
        last = t.name.rpartition(".")[2]
        if last in _SCALES or last.startswith("quant_state") or t.name.endswith("_scales"):
            continue
        if t.dtype == "I32" and last in ("qweight", "weight_packed", "weight"):
            total += t.elements * 32 // int(bits)
        else:
            total += t.elements * (2 if t.dtype == "U8" else 1)
    return total


def quantization_config(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Where the different tools put it."""
    nested = (config.get(key) for key in NESTED)
    for place in (config, *(n for n in nested if isinstance(n, dict))):
        if found := place.get("quantization_config") or place.get("compression_config"):
            return dict(found)
    return None


def quantization(config: Mapping[str, Any], tensors: Iterable[Stored]) -> str:
    """dyno's name of what the weights are stored in."""
    if (found := quantization_config(config)) is None:
        commonest = Counter[str]()
        for t in tensors:
            commonest[t.dtype] += t.elements
        name = commonest.most_common(1)[0][0] if commonest else ""
        return name if name in DTYPES else f"stored as {name or 'nothing'}"
    method = str(found.get("quant_method", "")).lower().replace("_", "-")
    if method == "compressed-tensors":
        return _compressed(found)
    if method in ("gptq", "awq", "auto-round"):
        return f"{method.replace('-', '').upper()}-INT{found.get('bits') or found.get('w_bit', 4)}"
    if method == "bitsandbytes":
        kind = str(found.get("bnb_4bit_quant_type", "fp4")) if found.get("load_in_4bit") else "int8"
        return f"BNB-{kind.upper()}"
    if method == "modelopt":
        algorithm = str(found.get("quant_algo", "?")).upper()
        return algorithm if algorithm == "NVFP4" else f"MODELOPT-{algorithm}"
    return {"w4afp8": "W4A8-FP8"}.get(method, method.upper() or "unknown")


def _compressed(found: Mapping[str, Any]) -> str:
    """`W8A8-INT8` for eight bits in both, integers; `W4A16-INT4` where inputs stay as they are."""
    groups = list((found.get("config_groups") or {}).values())
    weights, inputs = (groups[0].get("weights"), groups[0].get("input_activations")) if groups else (None, None)
    if not weights:
        return "COMPRESSED-TENSORS"
    if str(found.get("format", "")).startswith(("nvfp4", "mxfp4")):
        return str(found["format"])[:5].upper()
    bits = int(weights["num_bits"])
    kind = "FP" if weights.get("type") == "float" else "INT"
    return f"W{bits}A{inputs['num_bits'] if inputs else 16}-{kind}{bits}"
