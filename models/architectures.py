"""The shape of a model from its config.json, whichever family wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.errors import ModelError
from models.layers import Layer, Mixer, Text, experts, layers, number, window
from models.parameters import (
    attention_heads,
    chosen_experts,
    count,
    expert_size,
    gated_delta_sizes,
    kv_heads,
    mamba_sizes,
    shared_size,
    tied,
)
from models.specs import Architecture

NESTED = ("text_config", "llm_config", "language_config", "thinker_config")
"""Where models of several modalities put their text model."""
_GENERATES = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")


def from_config(config: Mapping[str, Any], parameters: int | None = None) -> Architecture:
    """The shape that a Hugging Face config.json describes; weights are counted from it where not given.

    Raises ModelError when this is no decoder that generates text, or the config lacks what one has.
    """
    classes = [str(c) for c in config.get("architectures") or ()]
    if config.get("is_encoder_decoder") or not any(c.endswith(_GENERATES) for c in classes):
        raise ModelError(f"it is no decoder that generates text (its config.json says {', '.join(classes) or 'none'})")
    text = text_of(config)
    try:
        every = layers(text)
        return Architecture.model_validate({
            "family": str(text.get("model_type") or config["model_type"]), "layers": len(every),
            **_heads(text), "intermediate_size": _intermediate(text, every),
            "vocabulary": number(text, "vocab_size"), "tied_embeddings": tied(text, config),
            "parameters": parameters or count(text, config).total,
            "context_tokens": number(text, "max_position_embeddings", "n_positions", "seq_length"),
            **_more(text, config, every, must=parameters is None)})
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"its config.json lacks what a text model has: {error}") from error


def _more(text: Text, config: Text, every: list[Layer], must: bool) -> dict[str, int | None]:
    """The optional fields. A family that names them otherwise goes without, where its weights are known anyhow."""
    try:
        active = count(text, config).active if experts(text) else None
        return {"active_parameters": active, **_experts(text, every), **_cache(text, every)}
    except (KeyError, TypeError, ValueError):
        if must:
            raise
        return {}


def text_of(config: Text) -> Text:
    """The part of a config that describes the text model."""
    text = next((config[key] for key in NESTED if isinstance(config.get(key), dict)), config)
    return next((text[key] for key in NESTED if isinstance(text.get(key), dict)), text)


def _heads(text: Text) -> dict[str, int]:
    """KV heads and head size. With latent attention (DeepSeek) one vector of kv_lora_rank + qk_rope_head_dim is kept
    for a token and layer: as one head of half the size, for keys and values are counted separately."""
    found = {"hidden_size": number(text, "hidden_size", "n_embd"),
             "heads": number(text, "num_attention_heads", "n_head")}
    if rank := text.get("kv_lora_rank"):
        rope = int(text["qk_rope_head_dim"])
        return found | {"kv_heads": 1, "head_dim": (int(rank) + rope) // 2, "kv_lora_rank": int(rank),
                        "qk_rope_head_dim": rope}
    return found | {"kv_heads": kv_heads(text),
                    "head_dim": number(text, "head_dim", "attention_head_dim",
                                       default=found["hidden_size"] // found["heads"])}


def _intermediate(text: Text, every: list[Layer]) -> int:
    sizes = [layer.intermediate for layer in every if layer.intermediate]
    return max(sizes, default=0) or number(text, "intermediate_size", "n_inner", "ffn_hidden_size",
                                           default=4 * number(text, "hidden_size", "n_embd"))


def _experts(text: Text, every: list[Layer]) -> dict[str, int | None]:
    if not (routed := experts(text)):
        return {}
    size = expert_size(text)
    return {"experts": routed, "experts_per_token": chosen_experts(text), "expert_intermediate_size": size,
            "shared_experts": round(shared_size(text) / size) or None,
            "dense_layers": sum(layer.feed == "dense" for layer in every) or None}


def _cache(text: Text, every: list[Layer]) -> dict[str, int | None]:
    """What is kept for a sequence, by layer, where it is not a key and a value of every head in every layer."""
    kinds = [layer.mixer for layer in every]
    sliding, kvless = kinds.count("sliding"), len(kinds) - kinds.count("full") - kinds.count("sliding")
    found: dict[str, int | None] = {"kvless_layers": kvless or None,
                                    "index_dim": number(text, "index_head_dim", default=0) or None}
    if state := sum(_state_bytes(text, kind) for kind in kinds):
        found["state_bytes_per_sequence"] = state
    if sliding:
        found |= {"sliding_layers": sliding, "sliding_window_tokens": window(text)}
    if text.get("kv_lora_rank"):
        return found
    plain = 2 * _heads(text)["kv_heads"] * _heads(text)["head_dim"]
    kept: tuple[tuple[str, Mixer], ...] = (("kv_values_per_layer", "full"), ("sliding_kv_values_per_layer", "sliding"))
    for name, kind in kept:
        if kind in kinds and (values := _kv_values(text, kind)) != plain:
            found[name] = values
    return found


def _kv_values(text: Text, mixer: Mixer) -> int:
    """Numbers kept for a token in one layer. DeepSeek-V4 keeps one vector for several tokens: their mean."""
    if ratios := text.get("compress_ratios"):
        kept = [int(r) for r in ratios[:number(text, "num_hidden_layers")]]
        return round(sum(number(text, "head_dim") / r for r in kept if r) / len(kept))
    heads, key, value = attention_heads(text, mixer)
    return heads * (key + value)


def _state_bytes(text: Text, mixer: Mixer) -> int:
    """Of one sequence in one layer, whatever its length: the last inputs of its convolution in 16 bits, and the
    recurrent state in the type the config names (vllm/model_executor/layers/mamba/mamba_utils.py)."""
    wide = 4 if "float32" in (text.get("mamba_ssm_dtype"), text.get("mamba_ssm_cache_dtype")) else 2
    if mixer == "mamba":
        inner, mixed, _, kernel = mamba_sizes(text)
        return mixed * (kernel - 1) * 2 + inner * number(text, "ssm_state_size", "mamba_d_state") * wide
    if mixer == "linear" and (said := text.get("linear_attn_config")):
        heads, size = int(said["num_heads"]), int(said["head_dim"])
        return 3 * heads * size * (int(said["short_conv_kernel_size"]) - 1) * 2 + heads * size * size * 4
    if mixer == "linear":
        keys, values = gated_delta_sizes(text)
        return ((2 * keys + values) * (number(text, "linear_conv_kernel_dim") - 1) * 2
                + values * number(text, "linear_key_head_dim") * wide)
    if text.get("compress_ratios"):  # the latest tokens, which are not compressed yet
        return number(text, "sliding_window", default=0) * number(text, "head_dim") * 2
    return 0
