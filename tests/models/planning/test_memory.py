"""Level 2 of memory: hand-worked numbers, vLLM's own logs, and what must hold of any model."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import catalogue
from models.errors import UserError
from models.planning import memory
from models.planning.kv import Paging, bytes_per_token, decode_read_bytes, layer_bytes, sequence_bytes
from models.planning.overhead_fit import Logged, fit, left_out
from models.planning.overheads import GIB, Overheads, predicted, rule
from models.planning.weights import bytes_per_weight, weight_bytes
from models.specs import Architecture

SMALL = Architecture(layers=12, hidden_size=768, heads=12, kv_heads=12, head_dim=64, intermediate_size=2048,
                     vocabulary=32000, parameters=109_529_856, context_tokens=2048)
H100 = 79.19 * GIB


def shape(name: str) -> Architecture:
    found = catalogue.shape(name)
    assert found
    return found


LLAMA = shape("meta-llama/Llama-3.1-8B-Instruct")
MLA = LLAMA.model_copy(update={"kv_heads": 1, "head_dim": 288, "kv_lora_rank": 512, "qk_rope_head_dim": 64})


def test_cache_bytes_by_attention() -> None:
    assert bytes_per_token(SMALL) == 36 * 1024
    assert bytes_per_token(SMALL, "q8_0") == 36 * 1024 * 34 / 64
    assert bytes_per_token(LLAMA) == 2 * 32 * 8 * 128 * 2 == 128 * 1024
    assert bytes_per_token(LLAMA, "fp8") == 64 * 1024
    assert bytes_per_token(MLA) == 32 * 576 * 2
    assert layer_bytes(MLA.model_copy(update={"index_dim": 128}))[0] == 576 * 2 + 128 + 4
    assert decode_read_bytes(1e8, SMALL, "f16", 10) == 1e8 + 360 * 1024


def test_gpus_share_kv_heads_and_copy_them_where_there_are_more_gpus() -> None:
    assert [bytes_per_token(LLAMA, gpus=n) / 1024 for n in (1, 2, 8, 16)] == [128, 64, 16, 16]
    assert bytes_per_token(MLA, gpus=8) == bytes_per_token(MLA)


def test_a_window_and_blocks() -> None:
    windowed = LLAMA.model_copy(update={"sliding_layers": 16, "sliding_window_tokens": 1024})
    layer = 2 * 8 * 128 * 2
    assert sequence_bytes(windowed, 4096) == layer * (16 * 4096 + 16 * 1024)
    paged = Paging(block_tokens=16, ahead_tokens=512)
    assert sequence_bytes(windowed, 4090, paging=paged) == layer * (16 * 4096 + 16 * 1536)
    recurrent = LLAMA.model_copy(update={"kvless_layers": 24, "state_bytes_per_sequence": 1000})
    assert sequence_bytes(recurrent, 100, gpus=2) == 8 * layer / 2 * 100 + 500


def test_weights_of_llama_3_1_8b_are_those_of_real_files() -> None:
    """Bytes of the GGUF files published for it, GB."""
    files = {"Q8_0": 8.541, "Q6_K": 6.596, "Q5_K_M": 5.733, "Q4_K_M": 4.921, "Q4_K_S": 4.693, "Q4_0": 4.661,
             "IQ4_XS": 4.448, "Q3_K_M": 4.019, "Q2_K": 3.179}
    for name, size in files.items():
        assert weight_bytes(LLAMA, name) / 1e9 == pytest.approx(size, rel=0.01), name


def test_engines_leave_embedding_and_output_at_16_bits() -> None:
    ends = 2 * 128256 * 4096
    assert weight_bytes(LLAMA, "FP8") == (LLAMA.parameters - ends) + 2 * ends
    assert weight_bytes(LLAMA, "AWQ-INT4") == (LLAMA.parameters - ends) * (4 + 20 / 128) / 8 + 2 * ends
    assert weight_bytes(LLAMA, "BF16") == 2 * LLAMA.parameters
    moe = shape("Mixtral-8x7B-Instruct-v0.1")
    experts = 32 * 8 * 3 * 4096 * 14336
    assert weight_bytes(moe, "MXFP4") == experts * 4.25 / 8 + 2 * (moe.parameters - experts)
    assert bytes_per_weight(LLAMA, "Q8_0") == pytest.approx(8.5 / 8)
    with pytest.raises(UserError, match="quantization Q9: not known"):
        weight_bytes(LLAMA, "Q9")
    with pytest.raises(UserError, match="kv-type f8: not known"):
        bytes_per_token(LLAMA, "f8")


def test_llama_cpp_keeps_a_second_copy_of_some_types_on_a_cpu() -> None:
    """110M, Q4_0: llama-server's buffers CPU_Mapped and CPU_REPACK together were 114 902 959 bytes."""
    shape_110m = SMALL.model_copy(update={"parameters": 109_529_856})
    asked = memory.Question(architecture=shape_110m, engine="llama_cpp", kind="cpu", quantization="Q4_0",
                            context_tokens=2048, memory_bytes=24 * GIB)
    assert memory.plan(asked).weights_bytes == pytest.approx(114_902_959, rel=0.01)
    on_gpu = asked.model_copy(update={"kind": "cuda"})
    assert memory.plan(on_gpu).weights_bytes == weight_bytes(shape_110m, "Q4_0")


def logged(model: str, stored: str, gpus: int, weights: float, activation: float, other: float, kv: float,
           tokens: int, most: float) -> Logged:
    return Logged(model=model, architecture=shape(model), quantization=stored, gpus=gpus, context_tokens=8192,
                  utilisation=0.95, memory_bytes=H100, weights_bytes=weights * GIB, activation_bytes=activation * GIB,
                  non_torch_bytes=other * GIB, kv_bytes=kv * GIB, kv_tokens=tokens, max_concurrency=most)


RUNS = [
    logged("RedHatAI/Llama-3.3-70B-Instruct-fp8-dynamic", "FP8", 2, 33.88, 1.96, 2.1, 37.28, 244304, 29.82),
    logged("RedHatAI/Llama-3.3-70B-Instruct-fp8-dynamic", "FP8", 4, 16.96, 1.97, 2.21, 54.09, 708992, 86.55),
    logged("google/gemma-2-9b-it", "BF16", 1, 17.22, 3.65, 0.25, 54.12, 168880, 20.6),
    logged("google/gemma-3-27b-it", "BF16", 1, 51.45, 3.99, 0.26, 19.53, 36560, 4.46),
    logged("mistralai/Mixtral-8x7B-Instruct-v0.1", "BF16", 2, 43.51, 1.21, 2.07, 28.44, 465936, 56.88),
    logged("ibm-granite/granite-3.1-8b-instruct", "BF16", 1, 15.25, 0.85, 0.46, 58.66, 384432, 46.93)]
"""Start-up logs of vLLM 0.19 on H100-80GB, GiB: llm-d-incubation/llm-d-planner (Apache-2.0),
accuracy/results/v0.19.0/results_raw.csv at d3121e0."""


def most(run: Logged, weights_bytes: float | None, overheads: Overheads | None) -> float:
    return memory.plan(memory.Question(
        architecture=run.architecture, engine="vllm", engine_version="0.19.0", quantization=run.quantization,
        context_tokens=run.context_tokens, gpus=run.gpus, memory_bytes=run.memory_bytes, utilisation=run.utilisation,
        weights_bytes=weights_bytes, overheads=overheads)).max_concurrency


@pytest.mark.parametrize("run", RUNS, ids=lambda r: f"{r.model.rpartition('/')[2]}-{r.gpus}")
def test_the_largest_concurrency_is_what_vllm_logged(run: Logged) -> None:
    """gemma: its layers with a window hold a whole step beside it, and its 62 layers are padded to 70."""
    assert most(run, run.weights_bytes * run.gpus, run.overheads) == pytest.approx(run.max_concurrency, rel=0.002)
    assert most(run, None, run.overheads) == pytest.approx(run.max_concurrency, rel=0.02)
    assert most(run, None, None) == pytest.approx(run.max_concurrency, rel=0.03)


def test_overheads_fitted_on_other_models_are_near() -> None:
    errors = [most(r, None, o) / r.max_concurrency - 1 for r, o in zip(RUNS, left_out(RUNS), strict=True)]
    assert sum(map(abs, errors)) / len(errors) < 0.02
    bundled = rule("vllm", "0.19")
    assert fit(RUNS).logit_copies == pytest.approx(bundled.logit_copies, rel=0.05)
    with pytest.raises(ValueError, match="at least two"):
        fit(RUNS[:1])


def test_the_rough_formula_allows_several_times_too_many() -> None:
    asked = memory.Question(architecture=shape("google/gemma-2-9b-it"), engine="vllm", context_tokens=8192,
                            memory_bytes=H100)
    by_hand = math.floor((H100 - 2 * asked.architecture.parameters) / (8192 * 3584 * 8))
    assert memory.rough(asked)["max_concurrency"] == by_hand == 283  # vLLM: 20.6


def test_versions_have_their_own_defaults() -> None:
    assert (rule("vllm", "0.19.1").utilisation, rule("vllm", "0.32.0").utilisation) == (0.9, 0.92)
    assert predicted(rule("vllm", "0.19"), LLAMA, H100).graphs_bytes == 0
    assert predicted(rule("vllm", "0.32"), LLAMA, H100).graphs_bytes == pytest.approx((0.4 + 0.0166 * 32) * GIB)
    assert rule("vllm", None, "cpu").kv_gib == 4
    assert predicted(rule("sglang"), LLAMA, H100).total_bytes == pytest.approx(
        max(10 * GIB, (0.5 + 8192 * 1.5 / 1024 + 256 * 2 / 1024 + 0.125) * GIB))
    with pytest.raises(UserError, match="engine toaster"):
        rule("toaster")
    with pytest.raises(UserError, match="engine-version new"):
        rule("vllm", "new")


def ask(**more: object) -> memory.Question:
    return memory.Question.model_validate({
        "architecture": shape("meta-llama/Llama-3.3-70B-Instruct"), "engine": "vllm", "context_tokens": 8192,
        "memory_bytes": H100, **more})


def test_what_does_not_fit_is_told_with_what_would() -> None:
    head, *ways = memory.nearest(ask())
    assert head.startswith("the weights alone do not fit: 13")
    assert "4 such GPUs hold it" not in ways and "2 such GPUs hold it" in ways  # 131 GiB of weights on 2 × 72.9
    assert any("weights fit as it is" in w for w in memory.nearest(ask(concurrency=1)))
    assert memory.nearest(ask(gpus=4)) == []


def test_a_context_that_is_too_long_is_told_with_the_longest() -> None:
    question = ask(gpus=2, quantization="FP8", context_tokens=2_000_000)
    found = memory.plan(question)
    assert not found.fits and found.max_concurrency < 1
    told = memory.nearest(question)
    assert told[0].startswith("not one request of that context fits")
    assert f"the longest request that fits has {found.max_context_tokens} tokens" in told
    longest = question.model_copy(update={"context_tokens": found.max_context_tokens})
    assert memory.plan(longest).fits
    assert not memory.plan(longest.model_copy(update={"context_tokens": found.max_context_tokens + 16})).fits


def test_too_many_requests_are_told_with_how_many_fit() -> None:
    told = memory.nearest(ask(gpus=2, quantization="FP8", concurrency=500))
    assert any("requests of 8192 tokens fit at once" in t for t in told)


sizes = st.integers(1, 64)
shapes = st.builds(
    lambda layers, heads, group, dim, window: Architecture(
        layers=layers, hidden_size=heads * group * dim, heads=heads * group, kv_heads=heads, head_dim=dim,
        intermediate_size=4 * heads * group * dim, vocabulary=32000, parameters=10**9, context_tokens=10**6,
        sliding_layers=layers // 2 if window else None, sliding_window_tokens=window),
    sizes, st.sampled_from([1, 2, 4, 8, 16]), st.sampled_from([1, 2, 4, 8]), st.sampled_from([64, 80, 128, 256]),
    st.sampled_from([None, 128, 1024, 4096]))
pagings = st.sampled_from([None, Paging(16, 2048, True), Paging(256, 512), Paging()])


@settings(deadline=None)
@given(shapes, st.integers(1, 200_000), st.integers(1, 200_000), pagings, st.sampled_from([1, 2, 4, 8, 16]))
def test_memory_grows_with_context(one: Architecture, a: int, b: int, paging: Paging | None, gpus: int) -> None:
    few, many = sorted((a, b))
    assert sequence_bytes(one, few, gpus=gpus, paging=paging) <= sequence_bytes(one, many, gpus=gpus, paging=paging)
    assert sequence_bytes(one, few, gpus=gpus, paging=paging) >= sequence_bytes(one, few, gpus=gpus) or paging


@settings(deadline=None)
@given(shapes, st.integers(1, 100_000), st.sampled_from(["f32", "f16", "q8_0", "q4_0", "fp8"]))
def test_grouped_heads_never_take_more_than_all_heads_and_one_vector_less(
        one: Architecture, tokens: int, kv_type: str) -> None:
    every = one.model_copy(update={"kv_heads": one.heads})
    assert sequence_bytes(one, tokens, kv_type) <= sequence_bytes(every, tokens, kv_type)
    whole = every.model_copy(update={"sliding_layers": None})
    rank = max(1, whole.heads * whole.head_dim // 4)
    latent = whole.model_copy(update={"kv_heads": 1, "kv_lora_rank": rank, "qk_rope_head_dim": whole.head_dim // 2})
    assert sequence_bytes(latent, tokens, kv_type) < sequence_bytes(whole, tokens, kv_type)


@settings(deadline=None)
@given(st.integers(16, 100_000), st.integers(16, 100_000), st.sampled_from(["vllm", "sglang", "tgi", "llama_cpp"]))
def test_concurrency_falls_with_context(a: int, b: int, engine: str) -> None:
    few, many = sorted((a, b))
    stored = "Q8_0" if engine == "llama_cpp" else "BF16"
    plans = [memory.plan(memory.Question(architecture=LLAMA, engine=engine, quantization=stored, context_tokens=n,
                                         memory_bytes=H100)) for n in (few, many)]
    assert plans[0].max_concurrency >= plans[1].max_concurrency
    assert plans[0].pool_bytes >= plans[1].pool_bytes


@settings(deadline=None, max_examples=30)
@given(shapes, st.integers(1, 32), st.integers(1, 50_000))
def test_what_is_said_to_be_longest_fits_and_one_block_more_does_not(
        one: Architecture, concurrency: int, tokens: int) -> None:
    question = memory.Question(architecture=one, engine="vllm", context_tokens=tokens, concurrency=concurrency,
                               memory_bytes=24 * GIB)
    longest = memory.plan(question).max_context_tokens
    if 0 < longest < 2 * one.context_tokens:
        fits = [memory.plan(question.model_copy(update={"context_tokens": n})).fits for n in (longest, longest + 1)]
        assert fits == [True, False]
