"""What is deployed is what was measured: the adapter's flags, the image of the version, nothing secret; every manifest
by the published schemas, every Compose file by its own rules."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import kubernetes_validate
import pytest
import yaml

from engines import _deployed, _deployment
from models.errors import UserError
from models.records import EngineRun
from models.specs import Architecture, Batching, EngineSpec, HardwareSpec, ModelSpec, Setup

SCHEMAS = ("1.25", "1.30", "1.34", "1.37")
SHAPE = Architecture(layers=36, hidden_size=4096, heads=32, kv_heads=8, head_dim=128, intermediate_size=12288,
                     vocabulary=151936, parameters=8_190_000_000, context_tokens=40960)
H100 = HardwareSpec(name="h100", kind="cuda", cpu="elsewhere", cores=16, accelerator="NVIDIA H100", accelerators=1,
                    accelerator_memory_gib=80)
MI300 = HardwareSpec(name="mi300", kind="rocm", cpu="elsewhere", cores=16, accelerator="AMD MI300X", accelerators=2)
NODE = HardwareSpec(name="node", cpu="elsewhere", cores=8, memory_gib=32)
REPOSITORY = ModelSpec(name="Qwen/Qwen3-8B", source="hub", repository="Qwen/Qwen3-8B", revision="b968826d",
                       content="b968826d", quantization="BF16", architecture=SHAPE)
GGUF = ModelSpec(name="qwen", source="hub", repository="Qwen/Qwen3-8B-GGUF", file="q4/Qwen3-8B-Q4_K_M.gguf",
                 revision="7c41481f", content="7c41481f", architecture=SHAPE)
VERSIONS = {"vllm": "0.32.0", "sglang": "0.5.23", "tgi": "3.3.7", "llama_cpp": "llama.cpp b6789"}


def setup(engine: str, hardware: HardwareSpec = H100, **fields: Any) -> Setup:
    model = fields.pop("model", REPOSITORY)
    batching = Batching(**{n: fields.pop(n) for n in list(fields) if n in Batching.model_fields})
    return Setup(model=model, hardware=hardware, engine=EngineSpec(
        **{"engine": engine, "quantization": "BF16", "batching": batching, "runtime": "path", **fields}))


def ran(engine: str, argv: tuple[str, ...] = (), **fields: Any) -> EngineRun:
    return EngineRun(**{"engine": engine, "variant": None, "engine_version": VERSIONS[engine], "argv": argv,
                        "ready_s": 1, **fields})


def contained(engine: str, key: bool = False, **fields: Any) -> _deployment.Deployment:
    run = fields.pop("run", None) or ran(engine)
    return _deployment.contained(setup(engine, **fields), run, 8000, key)


def llama(**fields: Any) -> _deployment.Deployment:
    run = ran("llama_cpp", ("llama-server", "--model", "/hub/snapshots/7c41481f/q4/Qwen3-8B-Q4_K_M.gguf"), threads=7)
    return contained("llama_cpp", **{"run": run, "model": GGUF, "quantization": "Q4_K_M", "hardware": NODE, **fields})


CASES = {
    "vllm": lambda: contained("vllm", max_sequences=256),
    "vllm with a key": lambda: contained("vllm", key=True),
    "vllm on two AMD GPUs": lambda: contained("vllm", hardware=MI300, tensor_parallel=2),
    "vllm on CPUs": lambda: contained("vllm", hardware=NODE, run=ran("vllm", threads=7)),
    "sglang with a key": lambda: contained("sglang", key=True),
    "tgi": lambda: contained("tgi", key=True),
    "llama.cpp": llama,
    "llama.cpp with a key": lambda: llama(key=True),
}


@pytest.fixture(params=CASES)
def deployment(request: pytest.FixtureRequest) -> _deployment.Deployment:
    return CASES[request.param]()


@pytest.mark.parametrize("version", SCHEMAS)
def test_manifests_keep_to_the_published_schemas(deployment: _deployment.Deployment, version: str) -> None:
    made = _deployed.kubernetes(deployment, 3, "MY_KEY" if deployment.key_variable or deployment.key_option else None)
    assert [m["kind"] for m in made] == ["Deployment", "Service"] and made[0]["spec"]["replicas"] == 3
    for manifest in yaml.safe_load_all(_deployed.dumped(made, ["about"])):
        kubernetes_validate.validate(manifest, version, strict=True)
    pod = made[0]["spec"]["template"]
    assert made[1]["spec"]["selector"] == pod["metadata"]["labels"] == made[0]["spec"]["selector"]["matchLabels"]


FIELDS = {"image": str, "entrypoint": list, "command": list, "environment": dict, "ports": list, "shm_size": str,
          "restart": str, "volumes": list, "healthcheck": dict, "deploy": dict, "devices": list, "group_add": list}


def test_compose_files_hold_what_the_specification_has(deployment: _deployment.Deployment) -> None:
    key = "MY_KEY" if deployment.key_variable or deployment.key_option else None
    text = _deployed.dumped([_deployed.compose(deployment, 2, key)], ["about"])
    assert text.startswith("# about\n")
    made = yaml.safe_load(text)
    assert set(made) <= {"name", "services", "volumes"} and re.fullmatch(r"[a-z0-9][a-z0-9_-]*", made["name"])
    assert len(made["services"]) == 2
    for number, service in enumerate(made["services"].values()):
        assert {n for n, value in service.items() if type(value) is not FIELDS[n]} == set()
        assert service["ports"] == [f"127.0.0.1:{8000 + number}:8000"]
        assert all(isinstance(word, str) for word in (*service["entrypoint"], *service["command"]))
        assert all(isinstance(value, str) for value in service["environment"].values())
        for volume in service.get("volumes", ()):
            assert volume["type"] == "bind" or volume["source"] in made["volumes"]


def test_each_instance_of_a_compose_file_has_gpus_of_its_own() -> None:
    services = _deployed.compose(contained("vllm", tensor_parallel=1), 2, None)["services"].values()
    ids = [s["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"] for s in services]
    assert ids == [["0"], ["1"]]


def test_a_repository_is_fetched_by_name_and_revision_and_flags_are_the_adapters() -> None:
    one = contained("vllm", max_sequences=256)
    assert one.image == "vllm/vllm-openai:v0.32.0" and one.mounts == () and one.fetches
    assert one.argv[:3] == ("vllm", "serve", "Qwen/Qwen3-8B") and one.argv[-2:] == ("--revision", "b968826d")
    assert one.argv[one.argv.index("--max-num-seqs") + 1] == "256"
    assert "HF_HUB_OFFLINE" not in one.environment and "VLLM_SERVER_DEV_MODE" not in one.environment
    assert one.gpus == 1 and any("not measured" in note for note in one.notes)


def test_a_file_of_the_hub_is_fetched_by_its_pinned_address() -> None:
    one = llama()
    assert one.image == "ghcr.io/ggml-org/llama.cpp:server-b6789" and one.gpus == 0
    assert one.argv[one.argv.index("--model") + 1] == "/models/Qwen3-8B-Q4_K_M.gguf"
    assert one.argv[-1] == "https://huggingface.co/Qwen/Qwen3-8B-GGUF/resolve/7c41481f/q4/Qwen3-8B-Q4_K_M.gguf"
    assert one.argv[one.argv.index("--threads") + 1] == "7", "as many as were measured, not as this machine has"
    pod = _deployed.kubernetes(one, 1, None)[0]["spec"]["template"]["spec"]["containers"][0]
    assert pod["resources"] == {"requests": {"cpu": "8"}}
    assert pod["readinessProbe"]["httpGet"]["path"] == "/health"


def test_what_has_no_image_of_its_version_says_so() -> None:
    run = ran("llama_cpp", ("llama-server", "--model", "/x/Qwen3-8B-Q4_K_M.gguf"), threads=1,
              engine_version="0.3.36 (llama.cpp 0.5.0-dev 0c1e570)")
    one = llama(run=run)
    assert one.image == "ghcr.io/ggml-org/llama.cpp:server"
    assert any("has no image of its own" in note for note in one.notes)
    with pytest.raises(UserError, match="--format command"):
        llama(variant="llama_cpp.server")


def test_the_image_that_was_measured_is_the_one_deployed() -> None:
    image = "vllm/vllm-openai:v0.32.0@sha256:abc"
    one = contained("vllm", runtime="docker", run=ran("vllm", image=image))
    assert one.image == image and one.notes == ()


def test_other_options_than_the_measured_ones_are_named() -> None:
    run = ran("vllm", ("vllm", "serve", "/hub/x", "--tool-call-parser", "mistral", "--port", "41234"))
    notes = contained("vllm", run=run).notes
    assert "measured with --tool-call-parser mistral, here --tool-call-parser hermes" in notes
    assert not any("--port" in note for note in notes)


def test_nothing_secret_is_written() -> None:
    one = contained("vllm", key=True, environment={"HF_TOKEN": "hunter2"}, extra_args=("--api-key", "hunter3"))
    pod = _deployed.kubernetes(one, 1, "MY_KEY")
    texts = [json.dumps(pod), json.dumps(_deployed.compose(one, 1, "MY_KEY")), _deployed.command(one, "MY_KEY")]
    assert not any("hunter" in text or "***" in text for text in texts)
    env = {e["name"]: e for e in pod[0]["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["VLLM_API_KEY"]["valueFrom"]["secretKeyRef"]["key"] == "MY_KEY"
    assert '--env=VLLM_API_KEY="$MY_KEY"' in texts[2] and "--env=HF_TOKEN " in texts[2]


def test_a_key_that_is_an_option_is_expanded_where_it_runs() -> None:
    one = contained("sglang", key=True)
    container = _deployed.kubernetes(one, 1, "MY_KEY")[0]["spec"]["template"]["spec"]["containers"][0]
    assert container["command"][-2:] == ["--api-key", "$(MY_KEY)"] and container["env"][-2]["name"] == "MY_KEY"
    service = next(iter(_deployed.compose(one, 1, "MY_KEY")["services"].values()))
    assert service["command"][-2:] == ["--api-key", "${MY_KEY:?}"]


def test_a_docker_run_is_one_line_for_a_shell() -> None:
    words = shlex.split(_deployed.command(contained("vllm"), None))
    assert words[:3] == ["docker", "run", "--rm"] and "--gpus=all" in words
    assert words[words.index("vllm/vllm-openai:v0.32.0") + 1:][:2] == ["serve", "Qwen/Qwen3-8B"]
    assert "--publish=127.0.0.1:8000:8000" in words


def test_what_somebody_else_serves_is_not_deployed() -> None:
    with pytest.raises(UserError, match="did not start it"):
        contained("vllm", runtime="endpoint", url="http://x")
