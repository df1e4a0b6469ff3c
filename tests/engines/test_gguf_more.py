"""What GGUF headers tell beyond a plain shape, by the names that llama.cpp's converter writes."""

from __future__ import annotations

from engines._gguf_more import more


def test_experts_and_the_weights_that_a_token_passes() -> None:
    metadata = {"qwen3moe.block_count": 2, "qwen3moe.expert_count": 8, "qwen3moe.expert_used_count": 2,
                "qwen3moe.expert_feed_forward_length": 64, "qwen3moe.expert_shared_feed_forward_length": 128}
    elements = {"token_embd.weight": 1000, "output.weight": 1000, "blk.0.ffn_up_exps.weight": 800,
                "blk.0.attn_q.weight": 50}
    found = more(metadata, "qwen3moe", elements)
    assert (found["experts"], found["experts_per_token"], found["shared_experts"]) == (8, 2, 2)
    assert found["active_parameters"] == 1000 + 50 + 800 * 2 // 8
    tied = {name: n for name, n in elements.items() if name != "output.weight"}
    assert more(metadata, "qwen3moe", tied)["active_parameters"] == 1000 + 50 + 200


def test_windows_by_pattern_and_by_family() -> None:
    base = {"x.block_count": 12, "x.attention.sliding_window": 512}
    assert "sliding_layers" not in more(base, "x", {})
    assert more(base | {"x.attention.sliding_window_pattern": [True, False] * 6}, "x", {})["sliding_layers"] == 6
    gemma = {"gemma3.block_count": 26, "gemma3.attention.sliding_window": 1024}
    assert more(gemma, "gemma3", {})["sliding_layers"] == 22


def test_latent_attention_and_unequal_keys() -> None:
    deepseek = {"deepseek2.block_count": 4, "deepseek2.attention.kv_lora_rank": 512,
                "deepseek2.rope.dimension_count": 64}
    found = more(deepseek, "deepseek2", {})
    assert (found["kv_lora_rank"], found["qk_rope_head_dim"]) == (512, 64)
    unequal = {"m.block_count": 4, "m.attention.key_length": 192, "m.attention.value_length": 128,
               "m.attention.head_count_kv": 4}
    assert more(unequal, "m", {})["kv_values_per_layer"] == 4 * 320


def test_recurrent_layers_keep_a_state_in_f32() -> None:
    sizes = {"q.ssm.state_size": 128, "q.ssm.inner_size": 4096, "q.ssm.group_count": 16, "q.ssm.conv_kernel": 4}
    found = more({"q.block_count": 8, "q.full_attention_interval": 4, **sizes}, "q", {})
    assert found["kvless_layers"] == 6
    assert found["state_bytes_per_sequence"] == 6 * 4 * (3 * (4096 + 2 * 16 * 128) + 128 * 4096)
    mixed = {"q.block_count": 4, "q.attention.head_count_kv": [0, 2, 0, 0],
             "q.feed_forward_length": [0, 0, 8, 0], **sizes}
    assert more(mixed, "q", {})["state_bytes_per_sequence"] == 2 * 4 * (3 * (4096 + 2 * 16 * 128) + 128 * 4096)
