"""vLLM: how a setup becomes a command line, checked against its own parser, and one real run on this CPU."""

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from engines import _packages, _vllm_install, _vllm_settings
from engines._checkpoints import resolve_model
from engines._contract import Checkpoint, Command, Install
from engines.vllm import ADAPTER
from models.errors import Unsupported, UserError
from models.progress import silent
from models.specs import Batching, EngineSpec, HardwareSpec, ModelSpec, Setup
from warehouse import bundles

CPU = HardwareSpec(name="a-cpu", kind="cpu", cores=8, memory_gib=64)
H100 = HardwareSpec(name="2x-h100", kind="cuda", accelerator="H100", accelerators=2, accelerator_memory_gib=80)
INSTALL = Install("0.32.0", ("python", "-I", "-m", "vllm.entrypoints.cli.main", "serve"))
FOLDER = Checkpoint(Path("/models/m"), 1, 16.0)


def setup_of(hardware: HardwareSpec = CPU, quantization: str = "BF16", model: ModelSpec | None = None,
             **fields: Any) -> Setup:
    batching = {name: fields.pop(name) for name in list(fields) if name in Batching.model_fields}
    engine = EngineSpec(engine="vllm", quantization=quantization, batching=Batching(**batching), **fields)
    return Setup(model=model or resolve_model("synthetic-llama-15m"), engine=engine, hardware=hardware)


def made(setup: Setup, checkpoint: Checkpoint = FOLDER) -> Command:
    ADAPTER.check(setup)
    return ADAPTER.command(setup, INSTALL, checkpoint, 1234)


def option(command: Command, name: str) -> str | None:
    return command.argv[command.argv.index(name) + 1] if name in command.argv else None


def test_every_setting_becomes_its_option() -> None:
    command = made(setup_of(H100, "F16", max_sequences=8, max_batched_tokens=2048, prefill_chunk_tokens=512,
                            prefix_caching=True, context_tokens=1024, memory_fraction=0.8, tensor_parallel=2,
                            scheduling_policy="priority", kv_type="fp8", extra_args=("--seed", "7")))
    assert list(command.argv) == [
        *INSTALL.program, "/models/m", "--served-model-name", "synthetic-llama-15m", "--host", "127.0.0.1",
        "--port", "1234", "--max-model-len", "1024", "--max-logprobs", "1000", "--dtype", "float16",
        "--generation-config", "vllm", "--enable-prompt-tokens-details", "--disable-uvicorn-access-log",
        "--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--enable-prefix-caching",
        "--kv-cache-dtype", "fp8", "--max-num-seqs", "8", "--max-num-batched-tokens", "2048",
        "--enable-chunked-prefill", "--long-prefill-token-threshold", "512", "--scheduling-policy", "priority",
        "--gpu-memory-utilization", "0.8", "--tensor-parallel-size", "2", "--seed", "7"]
    assert (command.threads, command.context_tokens) == (None, 1024)
    assert "VLLM_CPU_KVCACHE_SPACE" not in command.environment


def test_on_a_cpu_threads_are_bound_and_the_kv_cache_has_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines._hardware.usable_cpus", lambda: frozenset(range(8)))
    monkeypatch.setattr("engines._hardware.core_cpus", lambda: (0, 2, 4, 6))
    command = made(setup_of())
    assert command.environment["VLLM_CPU_OMP_THREADS_BIND"] == "2,4,6"
    assert command.environment["VLLM_CPU_KVCACHE_SPACE"] == "4"
    assert command.threads == 3
    assert "--enforce-eager" in command.argv and any("--enforce-eager" in note for note in command.notes)
    assert any("CPU 2,4,6" in note for note in command.notes)
    assert made(setup_of(threads=5)).environment["VLLM_CPU_OMP_THREADS_BIND"] == "0,1,2,4,6"
    split = made(setup_of(threads=4, tensor_parallel=2))
    assert split.environment["VLLM_CPU_OMP_THREADS_BIND"] == "0,2|4,6"
    compiled = made(setup_of(extra_args=("--no-enforce-eager",)))
    assert "--enforce-eager" not in compiled.argv
    share = made(setup_of(memory_fraction=0.5))
    assert "VLLM_CPU_KVCACHE_SPACE" not in share.environment and option(share, "--gpu-memory-utilization") == "0.5"
    own = made(setup_of(environment={"VLLM_CPU_OMP_THREADS_BIND": "nobind"}))
    assert (own.environment["VLLM_CPU_OMP_THREADS_BIND"], own.threads) == ("nobind", None)


def test_a_chunk_alone_is_the_size_of_the_step() -> None:
    command = made(setup_of(prefill_chunk_tokens=256, max_sequences=4))
    assert option(command, "--max-num-batched-tokens") == "256"
    assert "--long-prefill-token-threshold" not in command.argv
    assert "--no-enable-prefix-caching" in command.argv


@pytest.mark.parametrize(("quantization", "kv_type", "dtype"), [
    ("F32", "f32", "float32"), ("F16", "f16", "float16"), ("BF16", "f16", "bfloat16"), ("BF16", "bf16", "bfloat16"),
    ("GPTQ-INT4", "f16", "auto"), ("AWQ-INT4", "bf16", "bfloat16")])
def test_weights_and_kv_cache_have_the_type_asked_for(quantization: str, kv_type: str, dtype: str) -> None:
    command = made(setup_of(quantization=quantization, kv_type=kv_type))
    assert option(command, "--dtype") == dtype
    assert option(command, "--kv-cache-dtype") is option(command, "--quantization") is None


def test_vllm_quantises_only_what_is_not_quantised_yet(tmp_path: Path) -> None:
    folder = Checkpoint(tmp_path, 1, 16.0)
    (tmp_path / "config.json").write_text("{}")
    assert option(made(setup_of(H100, "FP8"), folder), "--quantization") == "fp8"
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "fp8"}}))
    assert option(made(setup_of(H100, "FP8"), folder), "--quantization") is None


def test_the_parser_of_tool_calls_is_the_one_that_the_tokenizer_is_made_for(tmp_path: Path) -> None:
    folder = Checkpoint(tmp_path, 1, 16.0)
    for token, parser in (("<|python_tag|>", "llama3_json"), ("[TOOL_CALLS]", "mistral"), ("<tool_call>", "hermes")):
        (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": [{"id": 5, "content": token}]}))
        assert option(made(setup_of(), folder), "--tool-call-parser") == parser


@pytest.mark.parametrize(("setup", "field", "reason"), [
    (setup_of(quantization="Q4_0"), "engine.quantization", "vllm has no 'Q4_0'"),
    (setup_of(quantization="FP8-BLOCK"), "engine.quantization", "on cuda and rocm only"),
    (setup_of(H100, "BNB-NF4"), "engine.quantization", "any more since 0.28.0: name an older engine.version"),
    (setup_of(H100, "BNB-NF4", version="0.30.0"), "engine.quantization", "any more since 0.28.0"),
    (setup_of(version="0.8.0"), "engine.version", "vllm-cpu 0.8.0 is not supported"),
    (setup_of(H100, version="0.8.0"), "engine.version", "vllm 0.8.0 is not supported"),
    (setup_of(quantization="F32"), "engine.kv_type", "F32 weights in the type that it computes in: ask for f32"),
    (setup_of(quantization="F16", kv_type="bf16"), "engine.kv_type", "ask for f16"),
    (setup_of(kv_type="q8_0"), "engine.kv_type", "vllm has no 'q8_0'"),
    (setup_of(kv_type="nvfp4"), "engine.kv_type", "on GPUs only"),
    (setup_of(max_sequences=64, max_batched_tokens=32), "engine.batching.max_batched_tokens", "32 are too few"),
    (setup_of(max_sequences=64, prefill_chunk_tokens=32), "engine.batching.prefill_chunk_tokens", "32 are too few"),
    (setup_of(max_batched_tokens=64, prefill_chunk_tokens=128), "engine.batching.prefill_chunk_tokens", "larger"),
    (setup_of(scheduling_policy="lpm"), "engine.batching.scheduling_policy", "it has fcfs, priority"),
    (setup_of(H100, threads=4), "engine.batching.threads", "on the GPU"),
    (setup_of(H100, tensor_parallel=4), "engine.batching.tensor_parallel", "has 2 accelerators, 4 needed"),
    (setup_of(threads=1, tensor_parallel=2), "engine.batching.tensor_parallel", "set threads"),
    (setup_of(threads=2, runtime="kubernetes"), "engine.batching.threads", "in a pod"),
    (setup_of(context_tokens=100_000), "engine.batching.context_tokens", "2048"),
    (setup_of(extra_args=("--max_num_seqs=4",)), "engine.extra_args", "set by dyno"),
    (setup_of(HardwareSpec(name="mi300x", kind="rocm", accelerators=1)), "engine.runtime", "use runtime docker"),
    (setup_of(HardwareSpec(name="m4", kind="metal")), "hardware.kind", "no 'metal'"),
    (setup_of(model=ModelSpec(name="m", source="file", path="/m.gguf")), "model", "m is gguf"),
])
def test_what_it_cannot_honour_is_refused_with_the_reason(setup: Setup, field: str, reason: str) -> None:
    with pytest.raises(Unsupported) as caught:
        ADAPTER.check(setup)
    assert caught.value.field == field
    assert reason in caught.value.reason


def test_what_this_cpu_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    here = CPU.model_copy(update={"cpu": "this one"})
    monkeypatch.setattr("engines._hardware.cpu_name", lambda: "this one")
    monkeypatch.setattr("engines._hardware.cpu_features", lambda: "avx2")
    for fields, needed in (({"quantization": "FP8"}, "with AMX only"), ({"kv_type": "fp8"}, "AVX-512 or AMX"),
                           ({"quantization": "AWQ-INT4"}, "AVX-512 or AMX")):
        with pytest.raises(Unsupported, match=needed):
            ADAPTER.check(setup_of(here, **fields))  # type: ignore[arg-type]
        monkeypatch.setattr("engines._hardware.cpu_features", lambda: "avx2 avx512f amx_tile")
        ADAPTER.check(setup_of(here, **fields))  # type: ignore[arg-type]
        monkeypatch.setattr("engines._hardware.cpu_features", lambda: "avx2")
    ADAPTER.check(setup_of(here, "W8A8-FP8"))


@pytest.mark.parametrize(("hardware", "fields", "image", "version"), [
    (H100, {}, "vllm/vllm-openai:v0.33.0", "0.33.0"),
    (H100, {"version": "0.26.0"}, "vllm/vllm-openai:v0.26.0", "0.26.0"),
    (CPU, {"version": "0.30.0"}, "vllm/vllm-openai-cpu:v0.30.0", "0.30.0"),
    (H100, {"image": "registry:5000/mine:v0.31.0"}, "registry:5000/mine:v0.31.0", "0.31.0"),
    (H100, {"image": "registry:5000/mine"}, "registry:5000/mine", "unknown"),
])
def test_containers_have_the_official_image_of_the_version(hardware: HardwareSpec, fields: dict[str, str], image: str,
                                                           version: str) -> None:
    install = ADAPTER.install(setup_of(hardware, runtime="docker", **fields), silent)
    assert (install.image, install.version, install.program) == (image, version, ("vllm", "serve"))


def test_a_path_that_is_no_vllm_says_so(tmp_path: Path) -> None:
    program = tmp_path / "vllm"
    with pytest.raises(UserError, match=r"engine\.path: .*vllm does not exist or cannot be run: give a vllm program"):
        ADAPTER.install(setup_of(runtime="path", path=str(program)), silent)
    program.write_text("#!/bin/sh\necho out of order\n")
    program.chmod(0o755)
    with pytest.raises(UserError, match=r"engine\.path: .*vllm is not a vllm program.*: out of order"):
        ADAPTER.install(setup_of(runtime="path", path=str(program)), silent)
    program.write_text("#!/bin/sh\necho 0.31.0\n")
    assert ADAPTER.install(setup_of(runtime="path", path=str(program)), silent) == Install(
        "0.31.0", (str(program), "serve"))


# What follows needs vLLM itself: minutes to install when the cache is empty.

PARSE = """
import json, sys
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = make_arg_parser(FlexibleArgumentParser())
parser.error = lambda message: (_ for _ in ()).throw(ValueError(message))
said = []
for words in json.load(sys.stdin):
    try:
        said.append(AsyncEngineArgs.from_cli_args(parser.parse_args(words)) and None)
    except Exception as error:
        said.append(f"{type(error).__name__}: {error}")
print(json.dumps(said), file=sys.__stdout__)
"""


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    return _packages.environment(_vllm_install.package("cpu"), silent)


def parsed(python: Path, lines: Sequence[Sequence[str]]) -> list[str | None]:
    """What vLLM's own parser says to each command line: None is yes."""
    done = subprocess.run([str(python), "-I", "-c", PARSE], input=json.dumps(lines), capture_output=True, text=True,
                          timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return list(json.loads(done.stdout.splitlines()[-1]))


def matrix() -> list[Setup]:
    """Every quantisation and KV type on every kind of hardware that takes it, and every batching setting."""
    everything = {"max_sequences": 8, "max_batched_tokens": 1024, "prefill_chunk_tokens": 256, "prefix_caching": True,
                  "context_tokens": 512, "memory_fraction": 0.5, "scheduling_policy": "priority"}
    found = [setup_of(hardware, quantization, kv_type=kv, **batching) for hardware in (CPU, H100)
             for quantization in _vllm_settings.FORMS for kv in _vllm_settings.KV_TYPES
             for batching in ({}, everything)]
    found += [setup_of(**{name: value}) for name, value in everything.items()]
    found += [setup_of(H100, tensor_parallel=2), setup_of(scheduling_policy="fcfs"), setup_of(threads=1)]
    return [setup for setup in found if accepted(setup)]


def accepted(setup: Setup) -> bool:
    try:
        ADAPTER.check(setup)
    except Unsupported:
        return False
    return True


@pytest.mark.engine
def test_its_own_parser_takes_every_command_line(vllm_python: Path) -> None:
    setups = matrix()
    lines = [made(setup).argv[len(INSTALL.program):] for setup in setups]
    assert len({setup.engine.quantization for setup in setups}) > 10
    said = parsed(vllm_python, [*lines, ["m", "--no-such-option"], ["m", "--kv-cache-dtype", "q8_0"]])
    assert [f"{why}: {' '.join(line)}" for line, why in zip(lines, said, strict=False) if why] == []
    assert None not in said[-2:]  # it does refuse


@pytest.mark.engine
def test_it_is_measured_from_an_experiment_to_bundles(vllm_python: Path, dyno: Callable[..., Any],
                                                      tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(yaml.safe_dump({
        "name": "vllm-small", "models": ["synthetic-llama-15m"], "quantizations": ["BF16"],
        "engines": [{"engine": "vllm", "batching": [{"max_sequences": 2, "max_batched_tokens": 512,
                                                     "prefix_caching": True, "context_tokens": 1024}]}],
        "workloads": [{"name": "chat", "scale": {"input": 0.05, "output": 0.05}}],
        "load": {"concurrency": [1, 2], "requests": 6, "warmup_requests": 1}}))
    done = dyno("evaluate", file)
    assert done.returncode == 0, done.stdout + done.stderr
    home = tmp_path / "home"
    stored = [bundles.read(path) for path in bundles.paths(home)]
    assert sorted(b.measurement.trial.load.concurrency or 0 for b in stored) == [1, 2]
    for bundle in stored:
        assert (bundle.measurement.summary.requests_ok, bundle.measurement.summary.requests_failed) == (6, 0)
        run = bundle.measurement.run
        assert run.engine_version == "0.32.0+cpu" and run.argv[0] == str(vllm_python)
        assert run.context_tokens == 1024 and run.kv_cache_tokens and run.kv_cache_tokens > 100_000
        assert run.settings["max_num_seqs"] == 2 and run.settings["enable_prefix_caching"] is True
        assert run.settings["dtype"] == "bfloat16" and run.settings["omp_cpus"]
        answered = bundle.requests.filter(pl.col("outcome") == "ok")
        assert set(answered["output_tokens_source"]) == {"usage"} and answered["cached_tokens"].max() == 0
        gauges = bundle.telemetry.filter(pl.col("source") == "gauges")
        assert {"requests_running", "generated_tokens", "kv_cache_tokens"} <= set(gauges["metric"])
        assert gauges.filter(pl.col("metric") == "generated_tokens")["value"].max() > 0  # type: ignore[operator]
