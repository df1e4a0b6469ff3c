"""Planning memory: models and machines by name, three levels and what was measured, and how wrong they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engines._hardware import detect
from flows import accuracy_memory, catalogue, plan_memory
from flows.plan_memory import Asked
from models.errors import ModelError, UserError
from models.planning.overheads import GIB
from models.records import Measurement
from models.specs import HardwareSpec, Setup
from tests.warehouse import fake
from warehouse import bundles, writer
from warehouse.launches import launches, plain

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 768, "num_hidden_layers": 12,
          "num_attention_heads": 12, "intermediate_size": 2048, "vocab_size": 32000, "max_position_embeddings": 2048}
MODEL = "synthetic-llama-110m"


def store(home: Path, setup: Setup, **told: object) -> None:
    """A bundle of a trial whose engine told its memory."""
    what = fake.trial(setup)
    requests = fake.requests_of(what)
    telemetry = fake.telemetry_of(requests)
    measured: Measurement = fake.measurement_of(what, requests, telemetry)
    run = measured.run.model_copy(update={"engine_version": "0.3.36 (llama.cpp 0.5.0-dev)", **told})
    bundles.write(home, measured.model_copy(update={"run": run}), requests, telemetry, "")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """One measured setup on this machine: 4 slots of 2048 tokens, 12 layers of 4 KV heads of 64."""
    here = detect("cpu")
    of = fake.setup(hardware=here)
    store(tmp_path, of, kv_cache_tokens=8192, weights_bytes=117_000_000, overhead_bytes=20_000_000,
          settings={"context_tokens_a_sequence": 2048, "sequences": 4, "pass_tokens": 512,
                    "kv_cache_bytes": 8192 * 2 * 12 * 4 * 64 * 2})
    store(tmp_path, fake.setup(quantization="F16", hardware=here), kv_cache_tokens=None, weights_bytes=None)
    writer.ingest(tmp_path)
    writer.publish(tmp_path)
    return tmp_path


def test_own_launches_and_their_error(home: Path) -> None:
    only, = launches(home)
    assert (only.sequences, only.context_tokens, only.kv_tokens) == (4, 2048, 8192)
    assert only.predicted_kv_bytes == only.kv_bytes == 8192 * 12288
    found = {(f.quantity, f.level): f for f in accuracy_memory.figures(home)}
    assert found["kv_memory", "architecture"].mape == 0
    assert found["kv_memory", "rough"].mape == 1 - 768 * 8 / 12288
    assert found["weights_memory", "architecture"].points == 1


def test_versions_by_their_numbers() -> None:
    assert (plain("0.3.36 (llama.cpp 0.5.0-dev)"), plain("b6123")) == ("0.3.36", None)


def test_nothing_measured_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing has been measured"):
        accuracy_memory.figures(tmp_path)


def test_three_levels_and_what_was_measured_here(home: Path) -> None:
    asked = Asked(model=MODEL, engine="llama_cpp", quantization="Q8_0", context_tokens=2048, concurrency=4)
    found = plan_memory.answer(home, asked)
    rows = {r["quantity"]: r for r in plan_memory.memory_rows(found)}
    assert rows["weights"]["measured"] == rows["weights"]["calibrated"] == 117_000_000 / GIB
    assert rows["KV cache a token"]["measured"] == 12
    assert rows["KV cache a token"]["rough"] == 768 * 8 / 1024
    assert "measured here" in found.architecture.overheads.source
    assert found.nearest == [] and plan_memory.sentences(found)[0].startswith("It fits.")
    at = {r["context_tokens"]: r for r in plan_memory.concurrency_rows(home, asked, found)}
    assert sorted(at) == [512, 1024, 2048, 4096]
    assert at[1024]["architecture"] >= at[2048]["architecture"] and at[2048]["measured"] is None


def test_on_another_machine_nothing_is_called_measured(home: Path) -> None:
    found = plan_memory.answer(home, Asked(model=MODEL, engine="llama_cpp", quantization="Q8_0", hardware="l4"))
    assert found.measured is None and found.calibrated is not None


def test_what_is_impossible_gets_the_nearest_that_is_not(tmp_path: Path) -> None:
    told = plan_memory.sentences(plan_memory.answer(tmp_path, Asked(
        model="meta-llama/Llama-3.3-70B-Instruct", hardware="h100")))
    assert told[0].startswith("It does not fit: the weights alone do not fit")
    assert "What would do: 2 such GPUs hold it." in told
    assert any("weights fit as it is" in line for line in told)
    found = plan_memory.answer(tmp_path, Asked(model="meta-llama/Llama-3.1-8B-Instruct", hardware="l4",
                                               engine_version="0.32.0", context_tokens=131072))
    assert any("the longest request that fits has" in line for line in plan_memory.sentences(found))
    with pytest.raises(UserError, match="tensor-parallel 64: this machine has"):
        plan_memory.answer(tmp_path, Asked(model=MODEL, engine="llama_cpp", tensor_parallel=64))


def test_a_model_is_found_by_config_folder_or_name(tmp_path: Path) -> None:
    file = tmp_path / "mine" / "config.json"
    file.parent.mkdir()
    file.write_text(json.dumps(CONFIG | {"quantization_config": {"quant_method": "fp8"}}))
    for name in (str(file), str(file.parent)):
        found = catalogue.find_model(name)
        assert (found.name, found.quantization, found.architecture.layers) == ("mine", "FP8", 12)
    assert catalogue.find_model("google/gemma-2-9b-it").architecture.layers == 42
    assert catalogue.find_model(MODEL).source == "synthetic"
    file.write_text("[]")
    with pytest.raises(ModelError, match=r"mine: config\.json is not a JSON object"):
        catalogue.find_model(str(file.parent))


def test_hardware_of_ones_own_wins(tmp_path: Path) -> None:
    (tmp_path / "hardware.yaml").write_text(
        "accelerators: [{name: h100_sxm, mib: 1024, tb_s: 1, source: mine, tflops: {bf16: 1}}]")
    assert catalogue.find_hardware("h100_sxm", tmp_path).memory_bytes < GIB
    here = catalogue.find_hardware(None, tmp_path)
    assert isinstance(here.here, HardwareSpec) and here.memory_bytes > GIB
    with pytest.raises(UserError, match="--tensor-parallel"):
        catalogue.find_hardware("4x h100", tmp_path)
    (tmp_path / "hardware.yaml").write_text("a: 1")
    with pytest.raises(UserError, match=r"hardware\.yaml: it has no list `accelerators`"):
        catalogue.find_hardware("h100", tmp_path)


HEAD = ",".join(accuracy_memory._NEEDED)
LOGS = f"""{HEAD}
google/gemma-2-9b-it,1,8192,auto,0.95,79.19,17.22,3.65,0.25,54.12,168880,20.6
ibm-granite/granite-3.1-8b-instruct,1,8192,auto,0.95,79.19,15.25,0.85,0.46,58.66,384432,46.93
google/gemma-7b,1,8192,auto,0.95,79.19,15.91,3.63,0.25,55.44,129760,15.84
nobody/nothing,1,8192,auto,0.95,79.19,15.91,3.63,0.25,55.44,129760,15.84
"""
"""Three starts of vLLM 0.19 on H100 (llm-d-planner, Apache-2.0, accuracy/results/v0.19.0) and one of nothing."""


def test_errors_on_logs_of_vllm(tmp_path: Path) -> None:
    file = tmp_path / "logs.csv"
    file.write_text(LOGS)
    runs, unknown = accuracy_memory.read_logs(file)
    assert (len(runs), unknown) == (3, ["nobody/nothing"])
    found = accuracy_memory.of_logs(file)
    rough, *levels = [f for f in found if f.quantity == "max_concurrency"]
    assert rough.median_ape > 3.5
    assert [f.mape < limit for f, limit in zip(levels, (0.001, 0.02, 0.02), strict=True)] == [True] * 3
    kv = [f for f in found if f.quantity == "kv_memory" and f.level == "architecture"]
    assert kv[0].mape < 0.001


@pytest.mark.parametrize(("text", "why"), [
    ("a,b\n1,2\n", "it has no column model"), (f"{HEAD}\n", "fewer than two rows")])
def test_a_csv_that_is_none_of_these(text: str, why: str, tmp_path: Path) -> None:
    file = tmp_path / "logs.csv"
    file.write_text(text)
    with pytest.raises(UserError, match=why):
        accuracy_memory.read_logs(file)
    with pytest.raises(UserError, match="cannot be read"):
        accuracy_memory.read_logs(tmp_path / "none.csv")
