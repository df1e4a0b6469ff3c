"""The warehouse's measurements on GPUs, as what zero-shot prediction learns from."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows import own_stacks
from models import catalogue
from models.hardware import accelerator
from tests.choosing import world
from warehouse import reader

BYTES = {"BF16": 2.0, "FP8": 1.0, "AWQ-INT4": 0.5625, "W8A8-INT8": 1.0}


def test_closed_loops_on_known_gpus_are_learned_from(tmp_path: Path) -> None:
    assert own_stacks.measured(tmp_path) == []  # nothing was published
    world.store(tmp_path, world.trial(world.setup("llama_cpp", "Q8_0", world.GPU, "llama-server"), 8), 30.0, 2.0)
    world.store(tmp_path, world.trial(world.VLLM, None, rate=2.0), 30.0, 2.0)
    found = own_stacks.measured(world.build(tmp_path))
    assert len(found) == 3 * len(world.SLOWER)  # neither llama.cpp's, nor fatal ones, nor open loops
    assert {(m.setting.engine, m.setting.precision) for m in found} == {("vllm", "bf16"), ("vllm", "fp8"),
                                                                        ("sglang", "bf16")}
    assert {m.setting.stack.chip.name for m in found} == {"h100_sxm"}
    one = next(m for m in found if m.setting.engine == "sglang" and m.setting.concurrency == 8)
    row = reader.query(tmp_path, "from measurements where engine = 'sglang' and concurrency = 8 and not fatal").row(
        0, named=True)
    assert (one.tpot_ms, one.ttft_ms) == (row["tpot_ms_mean"], row["ttft_ms_mean"])
    assert (one.setting.input_tokens, one.setting.version) == (row["input_tokens_mean"], row["engine_version"])


def test_a_setting_has_the_bytes_and_the_units_of_its_quantisation() -> None:
    shape, h100 = catalogue.shape("meta-llama/Llama-3.1-8B"), accelerator("h100_sxm")
    assert shape and h100.fp8_flops_per_s

    def made(quantization: str) -> tuple[str, float]:
        one = own_stacks.setting(shape, h100, "vllm", quantization, concurrency=1, input_tokens=9, output_tokens=9)
        assert one.stack.weight_bytes == pytest.approx(BYTES[quantization], rel=0.15)
        return one.precision, one.stack.chip.flops_per_s

    assert made("BF16") == ("bf16", h100.bf16_flops_per_s) and made("FP8") == ("fp8", h100.fp8_flops_per_s)
    assert made("AWQ-INT4") == ("int4", h100.bf16_flops_per_s)
    assert made("W8A8-INT8") == ("w8a8-int8", h100.int8_flops_per_s)
