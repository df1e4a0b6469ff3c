"""`dyno plan memory` and `dyno plan concurrency` as people meet them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli_plan_concurrency import concurrency
from app.cli_plan_memory import memory
from models.errors import UserError

LLAMA = "meta-llama/Llama-3.3-70B-Instruct"


def run(command: object, *argv: str) -> Result:
    return CliRunner().invoke(command, argv)  # type: ignore[arg-type]  # a click command


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNO_HOME", str(tmp_path))


def test_memory_as_a_table_and_as_json() -> None:
    argv = (LLAMA, "--hardware", "h100", "--tensor-parallel", "2", "--quantization", "FP8", "--concurrency", "16")
    text = run(memory, *argv).stdout
    assert "weights (GiB)" in text and "It fits. At 16 at once" in text and "2 × h100_sxm" in text
    rows = json.loads(run(memory, *argv, "--json").stdout)
    assert [r["quantity"] for r in rows] == ["weights", "KV cache a token", "16 × 8192 tokens", "beside them", "needed",
                                             "offered"]
    assert rows[0]["architecture"] == pytest.approx(67.7, rel=0.01) and rows[0]["measured"] is None


def test_concurrency_is_what_vllm_logs() -> None:
    """vLLM 0.19 on two H100 logged 29.82 at 8192 tokens (llm-d-planner, accuracy/results/v0.19.0)."""
    rows = json.loads(run(concurrency, LLAMA, "--hardware", "h100", "--tensor-parallel", "2", "--quantization", "FP8",
                          "--engine-version", "0.19.0", "--memory-fraction", "0.95", "--json").stdout)
    assert {r["context_tokens"]: r["architecture"] for r in rows}[8192] == 29


def test_what_is_impossible_is_told_in_sentences() -> None:
    text = run(memory, LLAMA, "--hardware", "l4", "--quantization", "AWQ-INT4").stdout
    assert "It does not fit: the weights alone do not fit" in text and "such GPUs hold it" in text


@pytest.mark.parametrize(("argv", "why"), [
    (("--hardware", "toaster"), "hardware toaster"), (("--quantization", "Q9"), "quantization Q9"),
    (("--kv-type", "f8"), "kv-type f8"), (("--engine-version", "new"), "engine-version new")])
def test_what_is_not_known_says_what_is(argv: tuple[str, ...], why: str) -> None:
    done = run(memory, LLAMA, *argv)
    assert isinstance(done.exception, UserError) and str(done.exception).startswith(why)
