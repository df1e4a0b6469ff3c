"""Level 2: the bytes that weights take, by quantisation: real bits a weight, with what engines leave unquantised."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import NamedTuple

import yaml

from models.errors import UserError
from models.specs import Architecture

_SPECIAL = ("value", "down", "attention_output")


class Parts(NamedTuple):
    """Weights of a model by what may be stored differently; experts are within `body` too."""

    body: int
    experts: int
    value: int
    down: int
    attention_output: int
    embedding: int
    output: int


@cache
def _table() -> dict[str, dict[str, dict[str, float]]]:
    loaded: dict[str, dict[str, dict[str, float]]] = yaml.safe_load(
        resources.files("models").joinpath("data/quantisations.yaml").read_text())
    return loaded


def known(gguf: bool) -> list[str]:
    """Quantisations of GGUF files, or of the others, most bits first."""
    rows = _table()["gguf" if gguf else "others"]
    return sorted(rows, key=lambda name: -rows[name]["body"])


def parts(shape: Architecture) -> Parts:
    """From the shape: the vocabulary's matrices are known exactly, the rest of all weights is the layers'."""
    matrix = shape.vocabulary * shape.hidden_size
    output = 0 if shape.tied_embeddings else matrix
    feeding = shape.layers - (shape.dense_layers or 0) if shape.experts else 0
    one = shape.hidden_size * (shape.expert_intermediate_size or 0)
    routed = 3 * one * (shape.experts or 0) * feeding
    body = max(shape.parameters - matrix - output, 0)
    dense = shape.dense_layers or 0 if shape.experts else shape.layers
    attending = shape.layers - (shape.kvless_layers or 0)
    heads = attending * shape.hidden_size * shape.head_dim
    return Parts(body, min(routed, body), heads * shape.kv_heads,
                 dense * shape.hidden_size * shape.intermediate_size + routed // 3, heads * shape.heads, matrix, output)


def weight_bytes(shape: Architecture, quantization: str) -> float:
    """Bytes of all weights as an engine holds them.

    Norms and biases are counted as the rest, below 0.1 %. GGUF mixes are reckoned by the share of layers that llama.cpp
    gives more bits; within 2 % of real files. Raises UserError for an unknown quantisation.
    """
    name = quantization.upper()
    gguf, others = _table()["gguf"], _table()["others"]
    of = parts(shape)
    if name in gguf:
        bits = gguf[name]
        special: dict[str, int] = {part: getattr(of, part) for part in _SPECIAL if part in bits}
        plain = of.body - sum(special.values())
        last = bits.get("output", bits["body"])
        ends = of.output * last + of.embedding * (bits["body"] if of.output else last)
        return (plain * bits["body"] + sum(n * bits[key] for key, n in special.items()) + ends) / 8
    if name not in others:
        raise UserError(f"quantization {quantization}: not known; known are {', '.join([*gguf, *others])}")
    few = of.experts if others[name].get("experts_only") and of.experts else of.body
    return few * others[name]["body"] / 8 + (shape.parameters - few) * 2


def repacked_bytes(shape: Architecture, quantization: str) -> float:
    """The second copy that llama.cpp on a CPU keeps of the layers' matrices in some types; 0 for the others."""
    bits = _table()["gguf"].get(quantization.upper(), {})
    return parts(shape).body * bits["body"] / 8 if bits.get("repacked") else 0.0


def bytes_per_weight(shape: Architecture, quantization: str) -> float:
    """The mean over all weights. Raises UserError for an unknown quantisation."""
    return weight_bytes(shape, quantization) / shape.parameters
