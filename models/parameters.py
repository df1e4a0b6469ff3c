"""How many weights a model has, and how many of them one token passes, from a Hugging Face config.json.

Counted matrix by matrix as the models' own code builds them (github.com/huggingface/transformers, src/transformers/
models); norms, biases and what only predicts further tokens (MTP) are left out: below 2 % together.
"""

from __future__ import annotations

from typing import NamedTuple

from models.layers import Layer, Mixer, Text, experts, layers, number

_UNGATED = ("relu2", "gelu", "gelu_new", "gelu_fast", "relu")
_UNGATED_FAMILIES = ("gpt2", "gpt_neox", "gptj", "phi", "opt", "bloom", "falcon", "nemotron_h", "nemotron",
                     "starcoder2", "gpt_bigcode")
_TIED_FAMILIES = ("gemma", "gpt2", "bloom", "cohere", "opt", "gpt_bigcode", "falcon", "granite")
"""Families that use one matrix as embedding and output unless their config says otherwise."""


class Count(NamedTuple):
    """Weights in all, and those that one decoded token is multiplied with (the embedding is only looked up)."""

    total: int
    active: int


def tied(text: Text, outer: Text) -> bool:
    """Is the output the embedding again?"""
    for place in (outer, text):
        if (said := place.get("tie_word_embeddings")) is not None:
            return bool(said)
    return str(text.get("model_type", "")).startswith(_TIED_FAMILIES)


def expert_size(text: Text) -> int:
    """Intermediate size of one routed expert. Raises KeyError when the config does not tell it."""
    return number(text, "moe_intermediate_size", "expert_intermediate_size", "intermediate_size")


def shared_size(text: Text) -> int:
    """Intermediate size of what every token passes beside its routed experts; 0 where there is nothing."""
    if text.get("enable_moe_block"):  # Gemma 4: the dense part stays, beside the experts
        return number(text, "intermediate_size")
    if str(text.get("model_type", "")).startswith("llama4"):
        return number(text, "intermediate_size")
    shared = number(text, "n_shared_experts", "num_shared_experts", default=0)
    return number(text, "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "share_expert_dim",
                  "shared_intermediate_size", default=shared * expert_size(text))


def dense_size(text: Text, hidden: int) -> int:
    """Intermediate size of a dense layer."""
    return number(text, "dense_intermediate_size", "intermediate_size_mlp", "intermediate_size", "n_inner",
                  "ffn_hidden_size", default=4 * hidden)


def count(text: Text, outer: Text) -> Count:
    """Weights of the text model. Raises KeyError, TypeError or ValueError when the config lacks what one has."""
    hidden, vocabulary = number(text, "hidden_size", "n_embd"), number(text, "vocab_size")
    output = vocabulary * hidden
    total, active = output if tied(text, outer) else 2 * output, output
    for layer in layers(text):
        mixer, (every, chosen) = _mixer(text, layer.mixer, hidden), _feed(text, layer, hidden)
        total, active = total + mixer + every, active + mixer + chosen
    return Count(total, active)


def _feed(text: Text, layer: Layer, hidden: int) -> Count:
    matrices = 2 if _ungated(text) else 3
    if layer.feed == "none":
        return Count(0, 0)
    if layer.feed == "dense":
        size = matrices * hidden * (layer.intermediate or dense_size(text, hidden))
        return Count(size, size)
    latent = number(text, "moe_latent_size", "routed_expert_hidden_size", default=0)
    one = matrices * (latent or hidden) * expert_size(text)
    always = matrices * hidden * shared_size(text) + hidden * experts(text) + 2 * hidden * latent
    return Count(always + experts(text) * one, always + chosen_experts(text) * one)


def chosen_experts(text: Text) -> int:
    """Routed experts that a token passes."""
    return number(text, "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts",
                  "moe_topk")


def _ungated(text: Text) -> bool:
    family, act = str(text.get("model_type", "")), str(text.get("mlp_hidden_act") or text.get("hidden_act") or "")
    return act in _UNGATED and family in _UNGATED_FAMILIES


def _mixer(text: Text, mixer: Mixer, hidden: int) -> int:
    if mixer == "none":
        return 0
    if mixer == "mamba":
        return _mamba(text, hidden)
    if mixer == "linear":
        return _kimi_delta(text, hidden) if text.get("linear_attn_config") else _gated_delta(text, hidden)
    if text.get("kv_lora_rank"):
        return _latent_attention(text, hidden)
    if text.get("compress_ratios"):
        return _compressed_attention(text, hidden)
    return _attention(text, mixer, hidden)


def _attention(text: Text, mixer: Mixer, hidden: int) -> int:
    heads = number(text, "num_attention_heads", "n_head")
    pairs, key, value = attention_heads(text, mixer)
    queries = heads * key * (2 if text.get("attn_output_gate") else 1)
    values = 0 if mixer == "full" and text.get("attention_k_eq_v") else pairs * value
    return hidden * (queries + pairs * key + values + heads * value)


def attention_heads(text: Text, mixer: Mixer) -> tuple[int, int, int]:
    """KV heads, size of a key and of a value of a full or sliding layer: some models have other heads in each."""
    heads, pairs = number(text, "num_attention_heads", "n_head"), kv_heads(text)
    key = number(text, "head_dim", "attention_head_dim", default=number(text, "hidden_size", "n_embd") // heads)
    value = number(text, "v_head_dim", default=key)
    if mixer == "sliding":
        key = number(text, "swa_head_dim", default=key)
        return (number(text, "swa_num_key_value_heads", default=pairs), key,
                number(text, "swa_v_head_dim", default=value))
    if text.get("global_head_dim"):
        key = value = number(text, "global_head_dim")
        return number(text, "num_global_key_value_heads", default=pairs), key, value
    return pairs, key, value


def kv_heads(text: Text) -> int:
    """As most families tell them, or block by block (NVIDIA's pruned models)."""
    heads = number(text, "num_attention_heads", "n_head")
    groups = [b["attention"].get("n_heads_in_group") for b in text.get("block_configs") or ()]
    grouped = heads // min(g for g in groups if g) if any(groups) else heads
    return number(text, "num_key_value_heads", "num_kv_heads", "n_head_kv", default=grouped)


def _latent_attention(text: Text, hidden: int) -> int:
    """DeepSeek's MLA (arXiv 2405.04434), and the index of its sparse form where there is one."""
    heads, rank, rope = number(text, "num_attention_heads"), int(text["kv_lora_rank"]), int(text["qk_rope_head_dim"])
    plain, value, query = int(text["qk_nope_head_dim"]), int(text["v_head_dim"]), text.get("q_lora_rank")
    to_queries = heads * (plain + rope)
    queries = query * (hidden + to_queries) if query else hidden * to_queries
    gate = hidden * heads * value if text.get("mla_use_output_gate") else 0
    return (queries + gate + hidden * (rank + rope) + rank * heads * (plain + value) + heads * value * hidden
            + _index(text, hidden))


def _compressed_attention(text: Text, hidden: int) -> int:
    """DeepSeek-V4: one shared key and value a token, low-rank queries and grouped low-rank output."""
    heads, size, query = number(text, "num_attention_heads"), number(text, "head_dim"), number(text, "q_lora_rank")
    groups, rank = number(text, "o_groups"), number(text, "o_lora_rank")
    return (query * (hidden + heads * size) + hidden * size + heads * size * rank + groups * rank * hidden
            + 4 * hidden * size + _index(text, hidden))


def _index(text: Text, hidden: int) -> int:
    size, heads = number(text, "index_head_dim", default=0), number(text, "index_n_heads", default=0)
    return size * heads * number(text, "q_lora_rank", default=0) + hidden * (size + heads)


def _gated_delta(text: Text, hidden: int) -> int:
    """Qwen3-Next's linear attention."""
    keys, values = gated_delta_sizes(text)
    heads, kernel = number(text, "linear_num_value_heads"), number(text, "linear_conv_kernel_dim")
    return hidden * (2 * keys + 3 * values + 2 * heads) + (2 * keys + values) * kernel


def gated_delta_sizes(text: Text) -> tuple[int, int]:
    """Keys and values of one token in a linear layer."""
    return (number(text, "linear_num_key_heads") * number(text, "linear_key_head_dim"),
            number(text, "linear_num_value_heads") * number(text, "linear_value_head_dim"))


def _kimi_delta(text: Text, hidden: int) -> int:
    """Kimi Linear's delta attention (arXiv 2510.26692)."""
    said = text["linear_attn_config"]
    heads, size = int(said["num_heads"]), int(said["head_dim"])
    wide = heads * size
    gates = hidden * wide if said.get("use_full_rank_gate") else size * (hidden + wide)
    return hidden * (4 * wide + heads) + size * (hidden + wide) + gates + 3 * wide * int(said["short_conv_kernel_size"])


def _mamba(text: Text, hidden: int) -> int:
    """Mamba 2 (arXiv 2405.21060)."""
    inner, mixed, heads, kernel = mamba_sizes(text)
    return hidden * (inner + mixed + heads) + mixed * kernel + inner * hidden


def mamba_sizes(text: Text) -> tuple[int, int, int, int]:
    """Inner size, what is convolved, heads and kernel."""
    heads = number(text, "mamba_num_heads", "mamba_n_heads")
    inner = heads * number(text, "mamba_head_dim", "mamba_d_head")
    groups, state = number(text, "n_groups", "mamba_n_groups"), number(text, "ssm_state_size", "mamba_d_state")
    return inner, inner + 2 * groups * state, heads, number(text, "conv_kernel", "mamba_d_conv")
