"""Synthetic models: random weights at the shape of a real architecture, with a real tokenizer, made without a download.

Weights keep every activation near unit variance, so nothing overflows in F16. Greedy decoding gives one visible token
after another and does not fall into repeating one: see `_embedding`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from engines._gguf import Header, read_header
from models.errors import ModelError
from models.specs import Architecture, ModelSpec

_NORMAL = 1  # gguf.TokenType.NORMAL
_EMBEDDING_STD = 0.02


class Shape(NamedTuple):
    """One entry of data/shapes.yaml."""

    name: str
    source: str
    family: str
    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    intermediate_size: int
    context_tokens: int
    rope_base: float
    norm_epsilon: float
    vocabulary: str
    vocabulary_size: int

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.heads


class Weight(NamedTuple):
    """A tensor to be made; `shape` is numpy's (rows, row length)."""

    name: str
    shape: tuple[int, ...]
    std: float


@cache
def _data() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((files("engines") / "data/shapes.yaml").read_text())
    return loaded


def names() -> list[str]:
    """Names of the synthetic models."""
    return list(_data()["shapes"])


def shape(name: str) -> Shape:
    """Raises ModelError for a name that is none of `names()`."""
    if name not in _data()["shapes"]:
        raise ModelError(f"unknown synthetic model {name!r}: there are {', '.join(names())}")
    return Shape(name=name, **_data()["shapes"][name])


def synthetic(name: str, seed: int = 0) -> ModelSpec:
    """Returns the synthetic model of that name; its `content` is the recipe's version and the seed."""
    s = shape(name)
    architecture = Architecture(
        family=s.family, layers=s.layers, hidden_size=s.hidden_size, heads=s.heads, kv_heads=s.kv_heads,
        head_dim=s.head_dim, intermediate_size=s.intermediate_size, vocabulary=s.vocabulary_size,
        parameters=sum(int(np.prod(w.shape)) for w in weights(s)), tied_embeddings=True,
        context_tokens=s.context_tokens)
    return ModelSpec(name=name, source="synthetic", content=f"recipe {_data()['recipe']}, seed {seed}",
                     architecture=architecture)


def seed_of(model: ModelSpec) -> int:
    """Raises ModelError for a recipe that this version of dyno does not have."""
    recipe, _, seed = (model.content or "").partition(", seed ")
    if recipe != f"recipe {_data()['recipe']}" or not seed.isdigit():
        raise ModelError(f"model {model.name}: weights of {model.content!r} cannot be made by this version of dyno, "
                         f"which has recipe {_data()['recipe']}")
    return int(seed)


def weights(s: Shape) -> list[Weight]:
    """Every tensor of a shape. A matrix's standard deviation is 1/√(row length): unit variance in, the same out."""
    hidden, ffn, kv = s.hidden_size, s.intermediate_size, s.kv_heads * s.head_dim
    found = [Weight("token_embd.weight", (s.vocabulary_size, hidden), _EMBEDDING_STD)]
    for i in range(s.layers):
        rows = {"attn_q": (hidden, hidden), "attn_k": (kv, hidden), "attn_v": (kv, hidden),
                "attn_output": (hidden, hidden), "ffn_gate": (ffn, hidden), "ffn_up": (ffn, hidden),
                "ffn_down": (hidden, ffn)}
        found += [Weight(f"blk.{i}.{name}.weight", (r, n), n ** -0.5) for name, (r, n) in rows.items()]
        found += [Weight(f"blk.{i}.{name}.weight", (hidden,), 0.0) for name in ("attn_norm", "ffn_norm")]
        if s.family == "qwen2":
            found += [Weight(f"blk.{i}.{name}.bias", (rows[name][0],), 0.1) for name in ("attn_q", "attn_k", "attn_v")]
    return [*found, Weight("output_norm.weight", (hidden,), 0.0)]


def write(model: ModelSpec, vocabulary: Path, out: Path, told: Callable[[float], None]) -> None:
    """Writes the model's F16 weights and tokenizer as a GGUF; `told` gets the share done.

    The same model gives the same bytes. Raises ModelError when the vocabulary is not the one the shape was made for.
    """
    import gguf

    s, tokenizer = shape(model.name), read_header(vocabulary)
    writer = gguf.GGUFWriter(out, s.family)
    _describe(writer, s, tokenizer)
    every = weights(s)
    # The file is written tensor by tensor: a model need not fit in memory twice.
    for w in every:
        writer.add_tensor_info(w.name, w.shape, _dtype(w), int(np.prod(w.shape)) * _dtype(w).itemsize)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for i, (_, values) in enumerate(tensors(model, tokenizer)):
        writer.write_tensor_data(values)
        told((i + 1) / len(every))
    writer.close()


def tensors(model: ModelSpec, tokenizer: Header) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Every tensor by its name in a GGUF, in the order of `weights`; matrices are F16, vectors F32.

    Raises ModelError when the vocabulary is not the one the shape was made for.
    """
    s, seed = shape(model.name), seed_of(model)
    if (found := len(tokenizer.metadata["tokenizer.ggml.tokens"])) != s.vocabulary_size:
        raise ModelError(f"model {model.name}: a vocabulary of {found} tokens, {s.vocabulary_size} expected")
    for w in weights(s):
        yield w.name, _embedding(w, seed, tokenizer) if w.name == "token_embd.weight" else _values(w, seed)


def _dtype(w: Weight) -> np.dtype[Any]:
    """Vectors stay in F32, as in every GGUF."""
    return np.dtype(np.float16 if len(w.shape) > 1 else np.float32)


def _values(w: Weight, seed: int) -> np.ndarray[Any, Any]:
    """Norms are one; everything else is normal, from a stream of its own for each tensor."""
    if w.std == 0:
        return np.ones(w.shape, np.float32)
    generator = np.random.Generator(np.random.PCG64([seed, zlib.crc32(w.name.encode())]))
    drawn = generator.standard_normal(w.shape, dtype=np.float32)
    drawn *= w.std
    return drawn.astype(_dtype(w))


def _embedding(w: Weight, seed: int, tokenizer: Header) -> np.ndarray[Any, Any]:
    """The tied embedding and output matrix.

    Rows of tokens that show no text (control, byte, padding, part of a character) are zero: their logit is then 0, far
    below the largest of 30 000 others, and greedy decoding never picks one. The rest is small against what the layers
    add to the residual stream; otherwise the tied output would find the token just read the likeliest, for ever.
    """
    values = _values(w, seed)
    values[~visible_tokens(tokenizer)] = 0
    return values


def visible_tokens(tokenizer: Header) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Marks the tokens that are printable text on their own."""
    m = tokenizer.metadata
    byte_level = m["tokenizer.ggml.model"] == "gpt2"
    pairs = zip(m["tokenizer.ggml.tokens"], m["tokenizer.ggml.token_type"], strict=True)
    return np.array([kind == _NORMAL and _visible(text, byte_level) for text, kind in pairs])


def _visible(token: str, byte_level: bool) -> bool:
    if byte_level:
        try:
            token = bytes(_byte_of()[c] for c in token).decode()
        except (KeyError, UnicodeDecodeError):
            return False
    else:
        token = token.replace("▁", " ")
    return token.isprintable() and token.strip() != ""


@cache
def _byte_of() -> dict[str, int]:
    """The byte that a character of a byte-level vocabulary stands for (GPT-2's table)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


def _describe(writer: Any, s: Shape, tokenizer: Header) -> None:
    """Writes the metadata: the shape's, and the tokenizer's as it is."""
    import gguf

    writer.add_name(s.name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(s.context_tokens)
    writer.add_embedding_length(s.hidden_size)
    writer.add_block_count(s.layers)
    writer.add_feed_forward_length(s.intermediate_size)
    writer.add_head_count(s.heads)
    writer.add_head_count_kv(s.kv_heads)
    writer.add_rope_dimension_count(s.head_dim)
    writer.add_rope_freq_base(float(s.rope_base))
    writer.add_layer_norm_rms_eps(s.norm_epsilon)
    writer.add_vocab_size(s.vocabulary_size)
    for key, value in tokenizer.metadata.items():
        if not key.startswith("tokenizer."):
            continue
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_uint32(key, value)
