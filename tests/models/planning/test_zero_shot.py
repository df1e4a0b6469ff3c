"""Zero-shot prediction in a made-up world whose law is known, and what it says of what it does not know."""

from __future__ import annotations

import numpy as np
import pytest

from models.errors import UserError
from models.planning import leaving_out, zero_shot
from models.planning.roofline import Chip, Stack, decode_step
from models.planning.terms import TPOT_TERMS, Setting, coefficients, features, tpot_terms
from models.planning.zero_shot import Measured, ZeroShot
from models.specs import Architecture


def shape(layers: int, hidden: int) -> Architecture:
    return Architecture(layers=layers, hidden_size=hidden, heads=hidden // 128, kv_heads=8, head_dim=128,
                        intermediate_size=3 * hidden, vocabulary=32_000, context_tokens=131_072, tied_embeddings=False,
                        parameters=layers * (2 * hidden * hidden + 2 * hidden * 1024 + 9 * hidden * hidden)
                        + 2 * 32_000 * hidden)


def chip(name: str, terabytes: float) -> Chip:
    return Chip(name=name, memory_bandwidth_bytes_per_s=terabytes * 1e12, flops_per_s=300e12 * terabytes,
                attention_flops_per_s=300e12 * terabytes, link_bytes_per_s=450e9, memory_bytes=80e9)


MODELS = [shape(layers, hidden) for layers, hidden in ((24, 2048), (32, 4096), (40, 5120), (48, 6144))]
CHIPS = [chip("a", 2.0), chip("b", 3.35), chip("c", 4.8), chip("d", 8.0)]
ENGINES = {"quick": 1.0, "slow": 1.4}


def setting(model: Architecture, on: Chip, engine: str, users: float, prompt: float = 1000) -> Setting:
    return Setting(stack=Stack(architecture=model, chip=on), engine=engine, precision="bf16", concurrency=users,
                   input_tokens=prompt, output_tokens=500)


def truth(one: Setting) -> float:
    """A law with an efficiency, a cost a layer, and one factor an engine."""
    step = decode_step(one.stack, one.batch, one.input_tokens + one.output_tokens / 2)
    return ENGINES[one.engine] * (1.2 * step.memory_ms + 0.03 * one.stack.architecture.layers)


def rows(models: list[Architecture] = MODELS, chips: list[Chip] = CHIPS, noise: float = 0.02) -> list[Measured]:
    source = np.random.default_rng(0)
    return [Measured(setting=s, tpot_ms=truth(s) * np.exp(noise * source.normal()))
            for model in models for on in chips for engine in ENGINES for users in (1, 8, 32)
            for s in (setting(model, on, engine, users),)]


@pytest.fixture(scope="module")
def learnt() -> ZeroShot:
    return zero_shot.fit(rows(MODELS[:3], CHIPS[:3]))


def test_terms_are_told_by_name() -> None:
    one = setting(MODELS[1], CHIPS[1], "quick", 8)
    told = dict(zip(TPOT_TERMS, tpot_terms(one), strict=True))
    step = decode_step(one.stack, 8, 1250)
    assert told["dense weights"] == step.weights_ms
    assert told["KV cache"] == step.kv_ms
    assert told["layers, each"] == pytest.approx(0.32)
    assert told["layers with experts, each"] == told["experts' weights"] == told["exchanges, each"] == 0
    assert told["prefill arithmetic"] == pytest.approx(step.compute_ms * 2)  # 1000 prompt tokens for 500 decoded ones
    assert features(one, [1.0, 3.0])[-3:] == pytest.approx(np.log([0.27, 0.77, 4.0]))


def test_coefficients_are_found_and_never_negative() -> None:
    source = np.random.default_rng(0)
    terms = source.uniform(0.1, 1, (50, 3))
    assert coefficients(terms, terms @ np.array([2.0, 0.0, 0.5])) == pytest.approx([2, 0, 0.5], abs=1e-6)
    spoilt = terms @ np.array([2.0, 0.0, 0.5])
    spoilt[:5] *= 10  # something else slowed these down
    assert coefficients(terms, spoilt) == pytest.approx([2, 0, 0.5], abs=0.05)


def test_it_predicts_what_was_not_measured(learnt: ZeroShot) -> None:
    for engine in ENGINES:
        between = setting(MODELS[1], CHIPS[1], engine, 16)
        found = learnt.predict(between)
        assert found.value == pytest.approx(truth(between), rel=0.04)
        assert found.low < truth(between) < found.high
        assert not found.extrapolates
        assert found.new == ()


def test_intervals_widen_with_distance(learnt: ZeroShot) -> None:
    known, new_chip, nothing_known = (learnt.predict(one) for one in (
        setting(MODELS[1], CHIPS[1], "quick", 8), setting(MODELS[1], CHIPS[3], "quick", 8),
        setting(MODELS[3], CHIPS[3], "quick", 300, prompt=30_000)))
    ratios = [p.high / p.low for p in (known, new_chip, nothing_known)]
    assert ratios == sorted(ratios)
    assert known.distance < new_chip.distance < nothing_known.distance <= 1
    assert new_chip.new == ("stack", "chip")
    assert nothing_known.new[:3] == ("stack", "model", "chip")
    assert "concurrency 300 (1 to 32 were measured)" in nothing_known.new
    assert nothing_known.extrapolates


def test_leaving_out_is_by_group_and_the_physics_carry_over() -> None:
    all_rows = rows()
    measured = np.array([row.tpot_ms for row in all_rows])
    for name in ("model", "chip"):
        groups = leaving_out.by_label(all_rows, name)
        assert len(set(groups)) == 4
        predicted = leaving_out.leave_out(all_rows, groups)
        errors = np.abs(np.array([p.value for p in predicted]) / measured - 1)
        assert np.median(errors) < 0.06
        assert all(name in p.new for p in predicted)
        alone = np.abs(np.array(leaving_out.physics_alone(all_rows, groups)) / measured - 1)
        assert np.median(errors) < np.median(alone)  # which cannot tell engines apart


def test_folds_keep_a_configuration_together() -> None:
    all_rows = rows()
    folds = leaving_out.by_folds(all_rows, "curve", folds=5)
    assert len(set(folds)) == 5
    by_curve = dict(zip(leaving_out.by_label(all_rows, "curve"), folds, strict=True))
    assert [by_curve[row.setting.labels["curve"]] for row in all_rows] == folds


def test_two_names_of_one_shape_are_one_model() -> None:
    one = setting(MODELS[0], CHIPS[0], "quick", 1)
    longer = setting(MODELS[0].model_copy(update={"context_tokens": 8192, "family": "other"}), CHIPS[0], "quick", 1)
    assert one.labels["model"] == longer.labels["model"] != setting(MODELS[1], CHIPS[0], "quick", 1).labels["model"]


def test_rows_of_a_cpu_and_times_to_first_token_are_learnt_too() -> None:
    cpu = Chip(name="this machine", memory_bandwidth_bytes_per_s=30e9, flops_per_s=2e11, attention_flops_per_s=2e11)
    own = [Measured(setting=s, tpot_ms=1.5 * t[0] + 1.5 * t[2], ttft_ms=2 * s.input_tokens)
           for users in (1, 2, 4, 8) for prompt in (100, 300, 900)
           for s in (setting(MODELS[0], cpu, "llama-server", users, prompt),) for t in (tpot_terms(s),)]
    question = setting(MODELS[0], cpu, "llama-server", 3, 500)
    terms = tpot_terms(question)
    found = zero_shot.fit([*own, *rows()]).predict(question)
    assert found.value == pytest.approx(1.5 * (terms[0] + terms[2]), rel=0.15)
    assert zero_shot.fit(own, "ttft").predict(question).value == pytest.approx(1000, rel=0.15)


def test_too_few_rows_are_refused_with_the_way_out() -> None:
    with pytest.raises(UserError, match="7 measured rows are too few"):
        zero_shot.fit(rows()[:7])
    with pytest.raises(UserError, match="ttft: 0 measured rows"):
        zero_shot.fit(rows(), "ttft")
