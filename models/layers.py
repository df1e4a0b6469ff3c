"""What each layer of a model is, from a Hugging Face config.json: how it attends, and its feed-forward part."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import repeat
from typing import Any, Literal, NamedTuple

Text = Mapping[str, Any]
Mixer = Literal["full", "sliding", "linear", "mamba", "none"]
Feed = Literal["dense", "moe", "none"]


class Layer(NamedTuple):
    """`full` and `sliding` keep keys and values; `linear` and `mamba` keep a state of fixed size; `none` keeps none.
    intermediate: of this layer's dense part, where it differs from layer to layer."""

    mixer: Mixer
    feed: Feed
    intermediate: int | None = None


_MIXERS: dict[str, Mixer] = {
    "full_attention": "full", "attention": "full", "sliding_attention": "sliding", "chunked_attention": "sliding",
    "linear_attention": "linear", "mamba": "mamba", "mamba2": "mamba"}
_ALONE: dict[str, Layer] = {
    "M": Layer("mamba", "none"), "*": Layer("full", "none"), "-": Layer("none", "dense"), "E": Layer("none", "moe"),
    "mamba": Layer("mamba", "none"), "attention": Layer("full", "none"), "mlp": Layer("none", "dense"),
    "moe": Layer("none", "moe")}
"""Nemotron-H's layers, each with one part only: letters of `hybrid_override_pattern`, words of `layers_block_type`."""


def number(text: Text, *names: str, default: int | None = None) -> int:
    """The first of several names for the same. Where it varies by layer, memory and time follow the largest.

    Raises KeyError with the first name when none is there and there is no default.
    """
    for name in names:
        if (value := text.get(name)) is not None:
            return int(max(value) if isinstance(value, list) else value)
    if default is None:
        raise KeyError(names[0])
    return default


def experts(text: Text) -> int:
    """Routed experts of a layer; 0 where the model has none."""
    return number(text, "num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", default=0)


def window(text: Text) -> int | None:
    """Tokens that a sliding or chunked layer looks back, None where the model has no such layer."""
    if text.get("use_sliding_window") is False or text.get("compress_ratios"):
        return None
    return number(text, "sliding_window", "attention_chunk_size", default=0) or None


def layers(text: Text) -> list[Layer]:
    """Every layer, first to last. Raises KeyError when the config does not tell how many there are."""
    alone = text.get("layers_block_type") or text.get("hybrid_override_pattern")
    if alone and all(kind in _ALONE for kind in alone):
        return [_ALONE[kind] for kind in alone]
    if blocks := text.get("block_configs"):
        return [_pruned(block, number(text, "hidden_size")) for block in blocks]
    count = number(text, "num_hidden_layers", "n_layer")
    return [Layer(mixer, feed) for mixer, feed in zip(_mixers(text, count), _feeds(text, count), strict=True)]


def _mixers(text: Text, count: int) -> list[Mixer]:
    told = text.get("layer_types") or text.get("layers_block_type")
    if told:
        kinds: list[Mixer] = [_MIXERS.get(kind, "full") for kind in told[:count]]
        return kinds if window(text) else ["full" if kind == "sliding" else kind for kind in kinds]
    if kda := (text.get("linear_attn_config") or {}).get("kda_layers"):
        return ["linear" if i + 1 in kda else "full" for i in range(count)]
    if interval := text.get("full_attention_interval"):
        return ["linear" if (i + 1) % interval else "full" for i in range(count)]
    if window(text) is None:
        return list(repeat("full", count))
    if binary := text.get("hybrid_layer_pattern"):
        return ["sliding" if kind else "full" for kind in binary]
    return ["full" if full else "sliding" for full in _full(text, count)]


def _full(text: Text, count: int) -> list[bool]:
    """Which layers of a model with a sliding window look back to the beginning."""
    family = str(text.get("model_type", ""))
    if family.startswith("llama4"):
        rope = text.get("no_rope_layers") or [(i + 1) % 4 for i in range(count)]
        return [not chunked for chunked in rope]
    every = text.get("sliding_window_pattern") or text.get("_sliding_window_pattern")
    every = every or {"gemma2": 2, "gemma3": 6, "gpt_oss": 2}.get(family.removesuffix("_text"))
    if isinstance(every, int):
        return [(i + 1) % every == 0 for i in range(count)]
    if family.startswith("qwen"):
        return [i < number(text, "max_window_layers", default=count) for i in range(count)]
    return [False] * count


def _feeds(text: Text, count: int) -> list[Feed]:
    if not experts(text):
        return list(repeat("dense", count))
    often = text.get("moe_layer_freq") or 1
    flags = often if isinstance(often, list) else [i % often == 0 for i in range(count)]
    step = number(text, "decoder_sparse_step", "interleave_moe_layer_step", default=1)
    first, dense = number(text, "first_k_dense_replace", default=0), text.get("mlp_only_layers") or ()
    return ["moe" if flags[i] and i >= first and i not in dense and (i + 1) % step == 0 else "dense"
            for i in range(count)]


def _pruned(block: Text, hidden: int) -> Layer:
    """A layer of NVIDIA's pruned models, whose feed-forward parts differ in size; rounded up to 256 like theirs."""
    attention, feed = block["attention"], block["ffn"]
    mixer: Mixer = "none" if attention.get("no_op") or attention.get("replace_with_linear") else "full"
    if feed.get("no_op"):
        return Layer(mixer, "none")
    size = int(2 * (feed.get("ffn_mult") or 0) * hidden / 3)
    return Layer(mixer, "dense", hidden if feed.get("replace_with_linear") else -(-size // 256) * 256)
