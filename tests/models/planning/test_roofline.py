"""The roofline against figures worked by hand, and what must hold for any stack."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.planning import cpu, roofline
from models.planning.roofline import Chip, Stack
from models.specs import Architecture

LLAMA_8B = Architecture(layers=32, hidden_size=4096, heads=32, kv_heads=8, head_dim=128, intermediate_size=14336,
                        vocabulary=128256, parameters=8_030_261_248, tied_embeddings=False, context_tokens=131072)
MIXTURE = Architecture(layers=4, hidden_size=1024, heads=16, kv_heads=4, head_dim=64, intermediate_size=4096,
                       vocabulary=1000, parameters=112_000_000, tied_embeddings=True, context_tokens=4096, experts=8,
                       experts_per_token=2, expert_intermediate_size=1024)
H100 = Chip(name="h100_sxm", memory_bandwidth_bytes_per_s=3.35e12, flops_per_s=989e12, attention_flops_per_s=989e12,
            memory_bytes=80 * 2 ** 30, link_bytes_per_s=450e9)


def test_parameters_by_hand() -> None:
    part = roofline.parameters(LLAMA_8B)
    assert part.head == 128256 * 4096 == 525_336_576
    assert part.dense == 3 * 4096 * 14336 * 32 == 5_637_144_576
    assert part.attention == 1_342_443_520  # q, k, v and o of 32 layers, and 65 norms of 4096
    assert part.experts == 0
    assert roofline.active_parameters(LLAMA_8B) == 8_030_261_248 - 525_336_576
    assert roofline.parameters(MIXTURE).experts == 3 * 1024 * 1024 * 8 * 4 == 100_663_296


def test_one_decode_step_by_hand() -> None:
    step = roofline.decode_step(Stack(architecture=LLAMA_8B, chip=H100), 1, 1000)
    assert step.weights_ms == pytest.approx(7_504_924_672 * 2 / 3.35e12 * 1e3)
    assert step.weights_ms == pytest.approx(4.4806, rel=1e-4)
    assert step.kv_ms == pytest.approx(131_072 * 1000 / 3.35e12 * 1e3)  # 2 · 8 · 128 · 2 bytes · 32 layers a token
    assert step.compute_ms == pytest.approx(2 * 7_504_924_672 / 989e12 * 1e3)
    assert step.attention_ms == pytest.approx(4 * 32 * 128 * 32 * 1000 / 989e12 * 1e3)
    assert step.exchange_ms == step.experts_ms == step.state_ms == 0
    assert step.bound_ms == pytest.approx(step.weights_ms + step.kv_ms)


def test_two_chips_halve_the_reading_and_exchange() -> None:
    step = roofline.decode_step(Stack(architecture=LLAMA_8B, chip=H100, chips=2), 10, 1000)
    assert step.weights_ms == pytest.approx(4.4806 / 2, rel=1e-4)
    assert step.kv_ms == pytest.approx(131_072 * 1000 * 10 / 2 / 3.35e12 * 1e3)
    assert step.exchange_ms == pytest.approx(2 * 32 * 4096 * 2 * 10 / 2 / 450e9 * 1e3)  # half of it is foreign


def test_prefill_is_bound_by_arithmetic() -> None:
    stack = Stack(architecture=LLAMA_8B, chip=H100)
    step = roofline.prefill_step(stack, 8192)
    assert step.compute_ms == pytest.approx(2 * 7_504_924_672 * 8192 / 989e12 * 1e3)
    assert step.attention_ms == pytest.approx(4 * 32 * 128 * 32 * 4096 * 8192 / 989e12 * 1e3)
    assert roofline.ttft_bound_ms(stack, 8192) == pytest.approx(step.compute_ms + step.attention_ms)
    assert roofline.ttft_bound_ms(stack, 8192) == pytest.approx(142.1, rel=1e-3)


def test_experts_touched() -> None:
    assert roofline.experts_touched(MIXTURE, 1) == 0.25
    assert roofline.experts_touched(MIXTURE, 2) == pytest.approx(1 - 0.75 ** 2)
    assert roofline.experts_touched(LLAMA_8B, 5) == 0
    step = roofline.decode_step(Stack(architecture=MIXTURE, chip=H100, weight_bytes=1.0), 2, 10)
    assert step.experts_ms == pytest.approx(100_663_296 * 0.4375 / 3.35e12 * 1e3)


def test_what_is_read_of_a_cache() -> None:
    latent = LLAMA_8B.model_copy(update={"kv_heads": 1, "head_dim": 288, "kv_lora_rank": 512, "qk_rope_head_dim": 64})
    assert roofline.kv_read_bytes(latent, 100) == 576 * 2 * 32 * 100
    sliding = LLAMA_8B.model_copy(update={"sliding_layers": 16, "sliding_window_tokens": 128})
    assert roofline.kv_read_bytes(sliding, 1000) == 2 * 8 * 128 * 2 * (16 * 1000 + 16 * 128)
    hybrid = LLAMA_8B.model_copy(update={"kvless_layers": 24})
    assert roofline.kv_read_bytes(hybrid, 1000) == 2 * 8 * 128 * 2 * 8 * 1000
    sparse = latent.model_copy(update={"index_dim": 128})
    assert roofline.kv_read_bytes(sparse, 10_000) == 32 * (132 * 10_000 + 576 * 2 * 2048)  # 8-bit keys and a scale
    assert roofline.kv_read_bytes(LLAMA_8B, 1000, "fp8", 16) == 2 * 128 * 32 * 1000  # 8 heads, each on two chips


def test_what_does_not_fit_waits() -> None:
    small = H100.model_copy(update={"memory_bytes": 20e9})
    fits = roofline.running(Stack(architecture=LLAMA_8B, chip=small), 1000, 1000, 1000)
    weights = (5_637_144_576 + 1_342_443_520) * 2 + 4 * 525_336_576
    assert fits == pytest.approx((0.9 * 20e9 - weights) / (131_072 * 1500))
    assert roofline.running(Stack(architecture=LLAMA_8B, chip=H100), 4, 1000, 1000) == 4
    assert roofline.running(Stack(architecture=LLAMA_8B, chip=small.model_copy(update={"memory_bytes": 1e9})),
                            4, 1000, 1000) == 1


def test_stacks_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="equal groups"):
        Stack(architecture=LLAMA_8B, chip=H100, chips=8, attention_groups=3)
    with pytest.raises(ValueError, match="link"):
        Stack(architecture=LLAMA_8B, chip=H100.model_copy(update={"link_bytes_per_s": None}), chips=2)


SHAPES = st.sampled_from([LLAMA_8B, MIXTURE])
BATCHES = st.integers(1, 512)
TOKENS = st.integers(1, 32_000)


@given(SHAPES, BATCHES, TOKENS, TOKENS, st.floats(0.1, 1.0), st.sampled_from([1, 2, 8]))
def test_less_bandwidth_is_never_faster(shape: Architecture, batch: int, prompt: int, output: int, share: float,
                                        chips: int) -> None:
    slow = H100.model_copy(update={"memory_bandwidth_bytes_per_s": 3.35e12 * share, "memory_bytes": None})
    fast = Stack(architecture=shape, chip=H100.model_copy(update={"memory_bytes": None}), chips=chips)
    for of in (roofline.tpot_bound_ms, roofline.tpot_ms):
        assert of(fast.model_copy(update={"chip": slow}), batch, prompt, output) >= of(fast, batch, prompt, output)


@given(SHAPES, BATCHES, TOKENS, TOKENS, st.integers(1, 100))
def test_more_sequences_or_context_are_never_faster(shape: Architecture, batch: int, prompt: int, output: int,
                                                    more: int) -> None:
    stack = Stack(architecture=shape, chip=H100)
    one = roofline.tpot_bound_ms(stack, batch, prompt, output)
    assert roofline.tpot_bound_ms(stack, batch + more, prompt, output) >= one
    assert roofline.tpot_bound_ms(stack, batch, prompt + more, output) >= one
    assert roofline.tpot_ms(stack, batch, prompt, output) >= one
    assert roofline.ttft_bound_ms(stack, prompt + more) >= roofline.ttft_bound_ms(stack, prompt)


@given(BATCHES, TOKENS, st.sampled_from([1, 2, 4, 8, 16, 32]))
def test_grouped_heads_never_read_more_than_all_heads(batch: int, context: int, kv_heads: int) -> None:
    def kv_ms(heads: int) -> float:
        shape = LLAMA_8B.model_copy(update={"kv_heads": heads})
        return roofline.decode_step(Stack(architecture=shape, chip=H100), batch, context).kv_ms
    assert kv_ms(kv_heads) <= kv_ms(32)


def test_threads_by_hand() -> None:
    """1 GB of weights, 10 MB of cache a sequence, 30 GB/s: at 20 tokens a second a thread, a step may read 1.5 GB."""
    machine = (20.0, 1e9, 10e6, 30e9)
    assert cpu.proportional_until(64, *machine) == 50
    assert cpu.proportional_until(8, *machine) == 8
    assert cpu.proportional_until(8, 40.0, 1e9, 10e6, 30e9) == 0  # 750 MB a step, less than the weights
    assert cpu.cpu_tokens_per_second(50, 64, *machine) == pytest.approx(1000)
    assert cpu.cpu_tokens_per_second(64, 64, *machine) == pytest.approx(64 * 30e9 / 1.64e9)
    assert cpu.cpu_tokens_per_second(64, 8, *machine) == pytest.approx(160)
    assert cpu.proportional_until(8, 20.0, 1e9, 0, 30e9) == 8


@given(st.integers(1, 200), st.integers(1, 64), st.floats(0.1, 100), st.floats(1e6, 1e11), st.floats(0, 1e9),
       st.floats(1e9, 1e12))
def test_a_cpu_obeys_both_limits(concurrency: int, threads: int, rate: float, weights: float, kv: float,
                                 bandwidth: float) -> None:
    def at(users: int) -> float:
        return cpu.cpu_tokens_per_second(users, threads, rate, weights, kv, bandwidth)
    assert at(concurrency) <= at(concurrency + 1) * (1 + 1e-12)
    assert at(concurrency) <= threads * rate * (1 + 1e-12)
    until = cpu.proportional_until(threads, rate, weights, kv, bandwidth)
    if 1 <= concurrency <= until:
        assert at(concurrency) == pytest.approx(concurrency * rate, rel=1e-6)
