"""`dyno plan latency` as people meet it, learned from a part of the public measurements."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli_plan_latency import latency
from flows import own_stacks, public_stacks
from models import catalogue
from models.errors import UserError
from models.hardware import accelerator
from models.planning.zero_shot import Measured

pytest.importorskip("aiconfigurator_core")
LLAMA = "meta-llama/Llama-3.1-8B"


@pytest.fixture(autouse=True)
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sequence[Measured]:
    """Every eighth of vLLM's, so that it takes a second."""
    monkeypatch.setenv("DYNO_HOME", str(tmp_path))
    rows = [one for one in public_stacks.measured() if one.setting.engine == "vllm"][::8]
    monkeypatch.setattr(public_stacks, "measured", lambda: rows)
    return rows


def run(*argv: str) -> Result:
    return CliRunner().invoke(latency, argv)


def test_an_unmeasured_stack_is_foreseen_within_what_is_possible() -> None:
    rows = json.loads(run(LLAMA, "--hardware", "l40s", "--concurrency", "1,16", "--json").stdout)
    assert [r["concurrency"] for r in rows] == [1, 16]
    for row in rows:
        assert row["tpot_ms_low"] < row["tpot_ms"] < row["tpot_ms_high"] and row["tpot_ms"] > row["tpot_ms_bound"] * 0.9
        assert "chip" in row["new"] and row["tpot_ms_measured"] is None and 0 < row["distance"] <= 1
    one, many = rows
    assert one["tpot_ms"] < many["tpot_ms"] and one["ttft_ms"] < many["ttft_ms"]
    assert one["output_tokens_per_second"] == pytest.approx(200 / (one["ttft_ms"] + 199 * one["tpot_ms"]) * 1e3)


def test_a_faster_gpu_and_fewer_bits_take_less_time() -> None:
    def tpot(*more: str) -> float:
        return float(json.loads(run(LLAMA, "--concurrency", "1", "--json", *more).stdout)[0]["tpot_ms"])

    h100 = tpot("--hardware", "h100")
    assert tpot("--hardware", "h200") < h100 and tpot("--hardware", "h100", "--quantization", "FP8") < h100


def test_what_was_measured_stands_beside_it(few: Sequence[Measured], monkeypatch: pytest.MonkeyPatch) -> None:
    shape = catalogue.shape(LLAMA)
    assert shape
    mine = own_stacks.setting(shape, accelerator("h100_sxm"), "vllm", "BF16", concurrency=8, input_tokens=1040,
                              output_tokens=195)
    monkeypatch.setattr(own_stacks, "measured", lambda home: [Measured(setting=mine, tpot_ms=7.5, ttft_ms=60.0)])
    argv = (LLAMA, "--hardware", "h100_sxm", "--concurrency", "4,8")
    other, same = json.loads(run(*argv, "--json").stdout)
    assert other["tpot_ms_measured"] is None
    assert (same["tpot_ms_measured"], same["ttft_ms_measured"]) == (7.5, 60.0)
    text = run(*argv).stdout
    assert "measured" in text and f"Learned from 1 measurements of your own on GPUs and {len(few)} public ones" in text


@pytest.mark.parametrize(("argv", "says"), [
    ((LLAMA, "--hardware", "abacus"), "hardware abacus: no spec sheet of it"),
    ((LLAMA, "--hardware", "h100", "--quantization", "Q9"), "Q9"),
    (("meta-llama/Llama-3.3-70B-Instruct", "--hardware", "l40s"), "try --tensor-parallel 4"),
    ((LLAMA, "--hardware", "mine", "--tensor-parallel", "2"), "the spec sheet of mine tells no link"),
    ((LLAMA, "--hardware", "here"), "such predictions are for NVIDIA's GPUs"),
])
def test_what_cannot_be_foreseen_is_told_with_the_way_out(argv: tuple[str, ...], says: str, tmp_path: Path) -> None:
    (tmp_path / "hardware.yaml").write_text(
        "accelerators: [{name: mine, mib: 24576, tb_s: 1.0, tflops: {bf16: 100}, source: its data sheet}]")
    error = run(*argv).exception
    assert isinstance(error, UserError) and says in str(error)


def test_load_levels_are_numbers() -> None:
    result = run(LLAMA, "--concurrency", "1,many")
    assert result.exit_code == 2 and "whole numbers from 1 on" in result.stderr


def test_nothing_to_learn_from_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_stacks, "measured", lambda: ())
    error = run(LLAMA, "--hardware", "h100").exception
    assert isinstance(error, UserError) and "llm-dyno[planning]" in str(error)
