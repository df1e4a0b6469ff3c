"""SGLang: which options a setup becomes, what is refused, what the recorded samples are read as; with a Python that has
it (DYNO_SGLANG_PYTHON), its own parser's word on every option, and a run on this machine."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

import engines
from engines import _hardware, _sglang_options, _sglang_says
from engines._checkpoints import resolve_model
from engines._contract import Checkpoint, Install
from engines._hardware import detect
from flows.measure import measure_setup
from models.errors import Unsupported, UserError
from models.progress import silent
from models.records import HostInfo, Measurement
from models.specs import Batching, EngineSpec, HardwareSpec, Lengths, Load, ModelSpec, Setup, Trial, Workload
from tests.engines import recorded

PYTHON = os.environ.get("DYNO_SGLANG_PYTHON")
needs_sglang = pytest.mark.skipif(PYTHON is None, reason="DYNO_SGLANG_PYTHON names no Python that has sglang")
GPU = HardwareSpec(name="h100", kind="cuda", accelerator="H100", accelerators=2)
CPU = HardwareSpec(name="cpu")
AMD = HardwareSpec(name="mi300x", kind="rocm", accelerators=8)
GGUF = ModelSpec(name="m", source="file", path="m.gguf")
FOLDER = ModelSpec(name="m", source="file", path="m")
ADAPTER = engines.adapter("sglang")


def setup(hardware: HardwareSpec = GPU, model: ModelSpec | None = None, **fields: object) -> Setup:
    batching = {name: fields.pop(name) for name in list(fields) if name in Batching.model_fields}
    engine = EngineSpec.model_validate({"engine": "sglang", "runtime": "path", "batching": batching, **fields})
    return Setup(model=model or resolve_model("synthetic-llama-15m"), engine=engine, hardware=hardware)


def argv(one: Setup) -> list[str]:
    ADAPTER.check(one)
    command = ADAPTER.command(one, Install("0.5.23", ("python",)), Checkpoint(Path("folder"), 1, 16.0), 30000)
    return list(command.argv[1:])


def value(words: list[str], option: str) -> str | None:
    return words[words.index(option) + 1] if option in words else None


@pytest.fixture
def amx(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Gives this CPU AMX, or takes it."""
    def set_to(there: bool) -> None:
        monkeypatch.setattr(_hardware, "cpu_features", lambda: "avx512f amx_tile amx_int8" if there else "avx2")
    return set_to


def test_a_plain_setup_leaves_the_engines_own_defaults() -> None:
    assert argv(setup()) == [
        "--model-path", "folder", "--served-model-name", "synthetic-llama-15m", "--host", "127.0.0.1", "--port",
        "30000", "--enable-metrics", "--enable-cache-report", "--dtype", "float16", "--device", "cuda",
        "--tool-call-parser", "auto", "--disable-radix-cache"]
    assert "auto" not in argv(setup(extra_args=("--tool-call-parser", "qwen")))


def test_every_batching_field_becomes_an_option() -> None:
    words = argv(setup(max_sequences=64, max_batched_tokens=4096, prefill_chunk_tokens=8192, prefix_caching=True,
                       context_tokens=2048, memory_fraction=0.8, tensor_parallel=2, scheduling_policy="lpm"))
    assert "--disable-radix-cache" not in words
    assert {option: value(words, option) for option in (
        "--max-running-requests", "--max-prefill-tokens", "--chunked-prefill-size", "--context-length",
        "--mem-fraction-static", "--tp-size", "--schedule-policy")} == {
        "--max-running-requests": "64", "--max-prefill-tokens": "4096", "--chunked-prefill-size": "4096",
        "--context-length": "2048", "--mem-fraction-static": "0.8", "--tp-size": "2", "--schedule-policy": "lpm"}
    assert value(argv(setup(prefill_chunk_tokens=512)), "--chunked-prefill-size") == "512"


@pytest.mark.parametrize(("hardware", "model", "quantization", "said"), [
    (GPU, None, "BF16", "--dtype bfloat16"), (GPU, None, "FP8", "--quantization fp8"),
    (GPU, FOLDER, "GPTQ-INT4", "--quantization gptq_marlin"), (GPU, FOLDER, "AWQ-INT4", "--quantization awq_marlin"),
    (GPU, FOLDER, "BNB-NF4", "--quantization bitsandbytes --load-format bitsandbytes"),
    (GPU, GGUF, "Q4_K_M", "--quantization gguf --load-format gguf"),
    (GPU, GGUF, "F16", "--quantization gguf --load-format gguf --dtype float16"),
    (GPU, None, "Q8_0", "--quantization gguf --load-format gguf"), (AMD, FOLDER, "AWQ-INT4", "--quantization awq"),
])
def test_a_quantisation_is_named_as_the_device_has_it(hardware: HardwareSpec, model: ModelSpec | None,
                                                      quantization: str, said: str) -> None:
    assert said in " ".join(argv(setup(hardware, model, quantization=quantization)))


def test_a_kv_type_becomes_an_option_where_it_is_not_that_of_the_weights() -> None:
    assert "--kv-cache-dtype" not in argv(setup())
    assert "--kv-cache-dtype" not in argv(setup(quantization="F32", kv_type="f32"))
    assert value(argv(setup(kv_type="fp8")), "--kv-cache-dtype") == "fp8_e4m3"


@pytest.mark.parametrize(("field", "one"), [
    ("engine.kv_type", setup(quantization="F32")), ("engine.kv_type", setup(kv_type="f32")),
    ("engine.quantization", setup(AMD, FOLDER, quantization="GPTQ-INT4")),
    ("engine.quantization", setup(AMD, GGUF, quantization="Q4_0")),
    ("engine.quantization", setup(model=GGUF, quantization="FP8")),
    ("engine.quantization", setup(quantization="NVFP4")), ("engine.quantization", setup(quantization="IQ1_S")),
    ("engine.quantization", setup(model=FOLDER, quantization="Q4_0")),
    ("engine.batching.scheduling_policy", setup(scheduling_policy="lpm")),
    ("engine.batching.scheduling_policy", setup(scheduling_policy="priority")),
    ("engine.batching.scheduling_policy", setup(scheduling_policy="sjf")),
    ("engine.batching.scheduling_policy", setup(version="0.5.19", scheduling_policy="hrrn", prefix_caching=True)),
    ("engine.batching.tensor_parallel", setup(tensor_parallel=4)), ("engine.batching.threads", setup(threads=2)),
    ("engine.batching.memory_fraction", setup(CPU, memory_fraction=0.5)),
    ("engine.batching.tensor_parallel", setup(CPU, tensor_parallel=2)),
    ("engine.runtime", setup(CPU, runtime="venv")), ("engine.image", setup(AMD, runtime="docker")),
    ("engine.version", setup(runtime="venv", version="0.1.0")),
    ("engine.extra_args", setup(extra_args=("--tp-size=2",))),
])
def test_what_it_cannot_honour_is_refused_by_field(field: str, one: Setup) -> None:
    with pytest.raises(Unsupported) as caught:
        ADAPTER.check(one)
    assert caught.value.field == field


def test_a_cpu_without_amx_serves_unquantised_weights_only(amx: Callable[[bool], None]) -> None:
    amx(False)
    for one in (setup(CPU, quantization="W8A8-INT8"), setup(CPU, kv_type="fp8")):
        with pytest.raises(Unsupported):
            ADAPTER.check(one)
    amx(True)
    assert value(argv(setup(CPU, quantization="W8A8-INT8")), "--quantization") == "w8a8_int8"
    assert value(argv(setup(CPU, kv_type="fp8")), "--kv-cache-dtype") == "fp8_e4m3"


def test_the_kv_cache_is_always_capped_on_a_cpu() -> None:
    words = argv(setup(CPU, max_sequences=4, context_tokens=1024))
    assert (value(words, "--device"), value(words, "--max-total-tokens")) == ("cpu", "4096")
    assert value(argv(setup(CPU)), "--max-total-tokens") == str(_sglang_options.POOL_TOKENS_CPU)
    assert value(argv(setup(CPU)), "--context-length") == "2048"


def test_its_environment_keeps_health_checks_from_generating(amx: Callable[[bool], None]) -> None:
    amx(False)
    assert _sglang_options.environment(setup()) == {"SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION": "0"}
    assert _sglang_options.environment(setup(CPU, threads=3)) == {
        "SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION": "0", "SGLANG_USE_CPU_ENGINE": "1", "OMP_NUM_THREADS": "3"}


def test_a_container_has_the_official_image_or_the_one_named() -> None:
    install = ADAPTER.install(setup(runtime="docker", version="0.5.22"), silent)
    assert (install.version, install.image) == ("0.5.22", "lmsysorg/sglang:v0.5.22")
    assert install.program == ("python3", "-m", "sglang.launch_server")
    assert ADAPTER.install(setup(CPU, runtime="kubernetes", image="my/sglang:cpu"), silent).image == "my/sglang:cpu"
    words = ADAPTER.command(setup(runtime="docker"), Install("1", ("p",), host="0.0.0.0"),
                            Checkpoint(Path("f"), 1, 16.0), 1).argv
    assert value(list(words), "--host") == "0.0.0.0"


@pytest.mark.parametrize(("path", "said"), [
    ("no/such/python", "no/such/python does not exist"), (sys.executable, "No module named 'sglang'")])
def test_a_path_without_sglang_is_named(path: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        ADAPTER.install(setup(path=path), silent)


def test_a_path_tells_its_version(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'a warning'; echo 'version 0.5.99.post1'\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    install = ADAPTER.install(setup(path=str(python)), silent)
    assert (install.version, install.program) == (
        "0.5.99.post1", (str(python), "-I", "-m", "sglang.launch_server"))


LOG = """[2026-11-25 21:00:00] Memory baseline taken. mem usage=0.50 GB
[2026-11-25 21:00:01] Load weight end. elapsed=1.00 s, type=LlamaForCausalLM, avail mem=60.00 GB, mem usage=15.00 GB.
[2026-11-25 21:00:02] KV Cache is allocated. dtype: torch.float8_e4m3fn, #tokens: 1000, K size: 1.00 GB, V size: 1.00 GB
[2026-11-25 21:00:03] Capture decode CUDA graph end. Time elapsed: 2.00 s. mem usage=1.50 GB, avail mem=5.00 GB.
[2026-11-25 21:00:04] max_total_num_tokens=1000, chunked_prefill_size=8192, max_running_requests=64, context_len=8192
"""


def test_memory_is_read_from_the_log_where_the_server_does_not_tell() -> None:
    """Written after the source of 0.5.23: no GPU was at hand."""
    said = _sglang_says.inspect(lambda path: None, LOG)
    assert (said.kv_cache_tokens, said.context_tokens, said.functional_only) == (1000, 8192, None)
    assert (said.weights_bytes, said.overhead_bytes) == (15 << 30, 2 << 30)
    assert said.settings == {"kv_cache_type": "float8_e4m3fn"}


def test_memory_is_that_of_all_gpus_and_keys_are_left_out() -> None:
    info = {"version": "0.5.23", "device": "cuda", "tp_size": 2, "pp_size": 1, "max_total_num_tokens": 1000,
            "api_key": "hunter2", "launch_command": "--api-key hunter2", "model_path": "/home/me/model",
            "internal_states": [{"memory_usage": {"weight": 7.5, "kvcache": 2.0, "graph": {"decode": 1.0}}}]}
    said = _sglang_says.inspect({"/server_info": info}.get, LOG)
    assert (said.weights_bytes, said.overhead_bytes) == (15 << 30, 3 << 30)
    assert said.settings == {"device": "cuda", "tp_size": 2, "pp_size": 1, "kv_cache_bytes": 4 << 30,
                             "kv_cache_type": "float8_e4m3fn"}


def test_prompt_tokens_computed_are_those_that_were_not_cached() -> None:
    text = ('# TYPE sglang:prompt_tokens_total counter\nsglang:prompt_tokens_total{is_streaming="true"} 100\n'
            '# TYPE sglang:cached_tokens_total counter\nsglang:cached_tokens_total{cache_source="device"} 30\n')
    assert _sglang_says.gauges(text) == {"prefix_cache_queried_tokens": 100, "prefix_cache_hit_tokens": 30,
                                         "prompt_tokens": 70}


def test_what_ran_without_its_own_kernels_only_functions() -> None:
    sample = next(s for s in recorded.samples("sglang") if s.kind == "inspection")
    log = (sample.folder / str(sample.log)).read_text()
    plain = "SGLang runs on a CPU without its own kernels, on torch's plain attention"
    assert _sglang_says.inspect(sample.get, "").functional_only == plain
    assert _sglang_says.inspect(lambda path: None, log).functional_only == plain


PARSE = """
import argparse, json, sys
from sglang.srt.server_args import ServerArgs
parser = argparse.ArgumentParser()
ServerArgs.add_cli_args(parser)
for words in json.load(sys.stdin):
    try:
        parser.parse_args(words)
    except SystemExit:
        sys.exit("refused: " + " ".join(words))
print("accepted")
"""


def everything() -> list[Setup]:
    """Every quantisation, KV type and batching field, on every device that has it."""
    caps = ADAPTER.capabilities()
    found = [setup(hardware, model, quantization=q, kv_type=kv) for hardware, model, q, kv in product(
        (GPU, AMD, CPU), (FOLDER, GGUF), caps.quantizations, caps.kv_types)]
    policies = sorted(_sglang_options._POLICIES | _sglang_options._CACHE_POLICIES)
    found += [setup(hardware, scheduling_policy=p, prefix_caching=True) for hardware in (GPU, CPU) for p in policies]
    return [*found, setup(max_sequences=64, max_batched_tokens=4096, prefill_chunk_tokens=512, context_tokens=2048,
                          memory_fraction=0.8, tensor_parallel=2)]


@needs_sglang
def test_its_own_parser_takes_every_option() -> None:
    words = []
    for one in everything():
        try:
            words.append(argv(one))
        except Unsupported:
            continue
    assert len(words) > 100
    done = subprocess.run([str(PYTHON), "-I", "-c", PARSE], input=json.dumps(words), capture_output=True, text=True,
                          env={**os.environ, "SGLANG_USE_CPU_ENGINE": "1"}, check=False)
    assert "accepted" in done.stdout, done.stderr[-2000:]


@needs_sglang
@pytest.mark.engine
def test_it_serves_real_requests_through_the_flow(tmp_path: Path) -> None:
    one = setup(detect("cpu"), quantization="BF16", path=PYTHON, max_sequences=2, context_tokens=512)
    work = Workload(name="w", input_tokens=Lengths(mean=20), output_tokens=Lengths(mean=6))
    trial = Trial(setup=one, workload=work, load=Load(concurrency=2, requests=4, warmup_requests=1))
    points: list[Measurement] = []
    measure_setup(one, [trial], tmp_path, HostInfo(), on_trial=points.append)
    point, = points
    assert (point.summary.requests_ok, point.summary.metrics["output_tokens_mean"]) == (4, 6.0)
    assert point.run.kv_cache_tokens == 1024 and point.run.context_tokens == 512
    assert point.run.settings["disable_radix_cache"] is True
    if not _sglang_options.has_amx():
        assert "functional_only" in point.trust
