"""TGI: which options a setup becomes, what is refused, and its own client against a server that answers as TGI does.
TGI itself needs its image or a build from Rust; nothing here starts it."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import engines
from engines import _tgi_client, _tgi_says
from engines._checkpoints import resolve_model
from engines._contract import Checkpoint, Install
from models.errors import EndpointError, Unsupported, UserError
from models.progress import silent
from models.specs import Batching, EngineSpec, HardwareSpec, ModelSpec, Setup
from tests.engines import recorded

GPU = HardwareSpec(name="h100", kind="cuda", accelerator="H100", accelerators=2)
CPU = HardwareSpec(name="cpu")
AMD = HardwareSpec(name="mi300x", kind="rocm", accelerators=8)
FOLDER = ModelSpec(name="m", source="file", path="m")
ADAPTER = engines.adapter("tgi")


def setup(hardware: HardwareSpec = GPU, model: ModelSpec | None = None, **fields: object) -> Setup:
    batching = {name: fields.pop(name) for name in list(fields) if name in Batching.model_fields}
    engine = EngineSpec.model_validate({"engine": "tgi", "runtime": "docker", "batching": batching, **fields})
    return Setup(model=model or resolve_model("synthetic-llama-15m"), engine=engine, hardware=hardware)


def options(one: Setup) -> dict[str, str]:
    """Values by option: every one of TGI's here has a value."""
    ADAPTER.check(one)
    words = ADAPTER.command(one, Install("3.3.7", ("tgi",), host="0.0.0.0"), Checkpoint(Path("folder"), 1, 16.0),
                            3000).argv[1:]
    return dict(zip(words[::2], words[1::2], strict=True))


def test_a_plain_setup_takes_one_gpu_and_lets_requests_wait() -> None:
    got = options(setup())
    assert {got.pop(option).isdigit() for option in ("--prometheus-port", "--master-port")} == {True}
    assert got.pop("--shard-uds-path").endswith("-3000")
    assert got == {"--model-id": "folder", "--hostname": "0.0.0.0", "--port": "3000", "--num-shard": "1",
                   "--usage-stats": "off", "--max-top-n-tokens": "1000", "--dtype": "float16",
                   "--max-concurrent-requests": "4096"}
    assert options(setup(extra_args=("--max-concurrent-requests", "8")))["--max-concurrent-requests"] == "8"


def test_every_batching_field_becomes_an_option() -> None:
    got = options(setup(max_sequences=64, max_batched_tokens=4096, context_tokens=2048, memory_fraction=0.8,
                        tensor_parallel=2))
    assert {name: got[name] for name in ("--max-batch-size", "--max-batch-prefill-tokens", "--max-total-tokens",
                                         "--max-input-tokens", "--cuda-memory-fraction", "--num-shard")} == {
        "--max-batch-size": "64", "--max-batch-prefill-tokens": "4096", "--max-total-tokens": "2048",
        "--max-input-tokens": "2047", "--cuda-memory-fraction": "0.8", "--num-shard": "2"}


@pytest.mark.parametrize(("quantization", "said"), [
    ("FP8", "fp8"), ("GPTQ-INT4", "gptq"), ("AWQ-INT4", "awq"), ("W8A8-INT8", "compressed-tensors"),
    ("EETQ-INT8", "eetq"), ("BNB-NF4", "bitsandbytes-nf4"), ("BNB-INT8", "bitsandbytes")])
def test_a_quantisation_is_named_without_a_type_beside_it(quantization: str, said: str) -> None:
    got = options(setup(quantization=quantization))
    assert (got["--quantize"], "--dtype" in got) == (said, False)


def test_kv_types() -> None:
    assert "--kv-cache-dtype" not in options(setup(quantization="BF16", kv_type="bf16"))
    assert options(setup(kv_type="fp8"))["--kv-cache-dtype"] == "fp8_e4m3fn"
    assert options(setup(CPU, kv_type="fp8_e5m2"))["--kv-cache-dtype"] == "fp8_e5m2"


def test_prefixes_are_cached_only_when_asked_for() -> None:
    command = ADAPTER.command(setup(prefix_caching=True), Install("3", ("tgi",)), Checkpoint(Path("f"), 1, 16.0), 1)
    assert command.environment == {"PREFIX_CACHING": "1"}
    command = ADAPTER.command(setup(CPU, threads=3), Install("3", ("tgi",)), Checkpoint(Path("f"), 1, 16.0), 1)
    assert command.environment == {"PREFIX_CACHING": "0", "OMP_NUM_THREADS": "3"}


@pytest.mark.parametrize(("field", "one"), [
    ("engine.quantization", setup(AMD, quantization="AWQ-INT4")), ("engine.quantization", setup(quantization="F32")),
    ("engine.quantization", setup(CPU, quantization="FP8")), ("engine.quantization", setup(quantization="EXL2")),
    ("engine.kv_type", setup(AMD, kv_type="fp8_e5m2")),
    ("engine.kv_type", setup(CPU, kv_type="fp8")), ("engine.kv_type", setup(kv_type="bf16")),
    ("engine.batching.prefill_chunk_tokens", setup(prefill_chunk_tokens=512)),
    ("engine.batching.scheduling_policy", setup(scheduling_policy="fcfs")),
    ("engine.batching.threads", setup(threads=2)), ("engine.batching.tensor_parallel", setup(tensor_parallel=4)),
    ("engine.batching.tensor_parallel", setup(model=FOLDER, quantization="EXL2", tensor_parallel=2)),
    ("engine.version", setup(version="2.4.0")), ("engine.runtime", setup(runtime="venv")),
    ("engine.extra_args", setup(extra_args=("--quantize", "awq"))),
])
def test_what_it_cannot_honour_is_refused_by_field(field: str, one: Setup) -> None:
    with pytest.raises(Unsupported) as caught:
        ADAPTER.check(one)
    assert caught.value.field == field


@pytest.fixture
def without_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tgi_client, "python", lambda progress=silent: Path("python"))


def test_images_are_those_of_the_hardware(without_client: None) -> None:
    image = "ghcr.io/huggingface/text-generation-inference:3.3"
    assert ADAPTER.install(setup(), silent).image == f"{image}.7"
    assert ADAPTER.install(setup(AMD, version="3.3.5"), silent).image == f"{image}.5-rocm"
    assert ADAPTER.install(setup(CPU, runtime="kubernetes"), silent).image == f"{image}.7-intel-cpu"
    assert ADAPTER.install(setup(image="mine:1"), silent).image == "mine:1"


def test_a_path_is_asked_for_its_version(without_client: None, tmp_path: Path) -> None:
    program = tmp_path / "text-generation-launcher"
    program.write_text("#!/bin/sh\necho text-generation-launcher 3.3.6-dev0\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    assert ADAPTER.install(setup(runtime="path", path=str(program)), silent).version == "3.3.6-dev0"
    for path, said in ((None, "PyPI has none"), ("no/such", "does not exist"), ("/bin/echo", "is not a text-gen")):
        with pytest.raises(UserError, match=said):
            ADAPTER.install(setup(runtime="path", path=path), silent)


def test_no_secret_of_its_log_is_kept() -> None:
    log = (recorded.FOLDERS[0] / "tgi/start.log").read_text()
    assert "hunter2" in log
    assert "hunter2" not in str(_tgi_says.inspect(lambda path: None, log))


Events = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


@contextmanager
def served(change: Events = lambda events: events) -> Iterator[str]:
    """A server that answers as TGI's router does: its client asks at /, for JSON or, with `stream`, for events."""
    lines = (recorded.FOLDERS[0] / "tgi/tgi.sse").read_text().split("\n\n")
    said = [json.loads(line.removeprefix("data:")) for line in lines if line][:4]
    text = "".join(event["token"]["text"] for event in said)
    details = {"finish_reason": "length", "generated_tokens": len(said), "seed": None, "input_length": 2}
    said[-1] |= {"generated_text": text, "details": details}
    whole = {"generated_text": text, "details": {**details, "prefill": [], "tokens": [e["token"] for e in said]}}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = (b"".join(b"data:" + json.dumps(e).encode() + b"\n\n" for e in change(said)) if asked["stream"]
                    else json.dumps([whole]).encode())
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream" if asked["stream"] else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.engine
def test_its_own_client_finds_a_whole_answer_whole() -> None:
    with served() as url:
        ADAPTER.probe(setup(), ADAPTER.endpoint(setup(), url, None), 20)


@pytest.mark.engine
@pytest.mark.parametrize(("change", "said"), [
    (lambda events: events[:-1], "ended without the whole text"),
    (lambda events: events[1:], "3 events in a stream of 4 tokens"),
    (lambda events: [*events[:-1], {**events[-1], "generated_text": "other"}], "the stream said 'other'"),
    (lambda events: [{"error": "Model is overloaded", "error_type": "overloaded"}], "OverloadedError: Model is over"),
])
def test_its_own_client_says_what_is_amiss(change: Events, said: str) -> None:
    with served(change) as url, pytest.raises(EndpointError, match=said):
        ADAPTER.probe(setup(), ADAPTER.endpoint(setup(), url, None), 20)


@pytest.mark.engine
def test_its_own_client_says_when_nothing_answers() -> None:
    with pytest.raises(EndpointError, match="ConnectionError"):
        _tgi_client.check("http://127.0.0.1:9", 2)
