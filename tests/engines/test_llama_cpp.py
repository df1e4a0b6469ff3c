"""llama.cpp for real: both servers built, started, asked through a socket, and gone afterwards."""

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

import engines
from engines import _llama_build, llama_cpp
from engines._checkpoints import checkpoint, resolve_model
from engines._llama_build import Toolchain
from engines.launch import Engine, check, launch, prepare
from models.errors import EndpointError, LaunchFailed, MissingTool, Unsupported, UserError
from models.records import Endpoint
from models.specs import Setup

SetupOf = Callable[..., Setup]
VARIANTS = ("llama-server", "llama_cpp.server")


def stream(endpoint: Endpoint, path: str, tokens: int, **body: object) -> tuple[list[str], str | None, dict[str, int]]:
    """Returns the texts of the chunks, the finish reason and the usage of one streamed answer."""
    texts, finish, usage = [], None, {}
    asked = {"model": endpoint.model, "max_tokens": tokens, "stream": True, "stream_options": {"include_usage": True},
             **endpoint.body, **endpoint.fixed_length, **body}
    with httpx.stream("POST", endpoint.url + path, json=asked, timeout=60) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                texts += [t for t in (choice.get("text"), choice.get("delta", {}).get("content")) if t]
                finish = choice["finish_reason"] or finish
    return texts, finish, usage


def complete(engine: Engine, prompt: str = "Once upon a time", tokens: int = 64) -> tuple[list[str], str | None,
                                                                                        dict[str, int]]:
    return stream(engine.endpoint, engine.endpoint.completions_path, tokens, prompt=prompt)


@pytest.mark.engine
@pytest.mark.parametrize("variant", VARIANTS)
def test_serves_exactly_the_tokens_asked_for(variant: str, llama_install: Toolchain, setup_of: SetupOf,
                                             tmp_path: Path) -> None:
    with launch(setup_of(variant=variant), tmp_path / "engine.log") as engine:
        texts, finish, usage = complete(engine)
        assert (len(texts), finish) == (64, "length")
        assert all(text.strip() for text in texts)
        assert len(set(texts)) > 5
        assert usage.get("completion_tokens") == (64 if engine.endpoint.usage_in_stream else None)
        assert complete(engine)[0] == texts
        chat = stream(engine.endpoint, engine.endpoint.chat_path, 32, messages=[{"role": "user", "content": "Hello"}])
        assert (len(chat[0]), chat[1]) == (32, "length")
        told = httpx.post(engine.endpoint.url + str(engine.endpoint.tokenize_path),
                          json={engine.endpoint.tokenize_field: "Hello world"}).json()
        assert told["tokens"][-2:] == [15043, 3186]
        pids = engine.pids()
    assert pids and not any(map(psutil.pid_exists, pids))


@pytest.mark.engine
@pytest.mark.parametrize("variant", VARIANTS)
def test_concurrent_requests_are_all_answered_whole(variant: str, llama_install: Toolchain, setup_of: SetupOf,
                                                    tmp_path: Path) -> None:
    slots = 4 if variant == "llama-server" else 1
    with launch(setup_of(variant=variant, max_sequences=slots), tmp_path / "engine.log") as engine:
        with ThreadPoolExecutor(8) as clients:
            answers = list(clients.map(lambda i: complete(engine, f"Story number {i}", 24), range(8)))
        assert [(len(texts), finish) for texts, finish, _ in answers] == [(24, "length")] * 8


@pytest.mark.engine
def test_the_run_records_what_really_ran(llama_install: Toolchain, setup_of: SetupOf, tmp_path: Path) -> None:
    setup = setup_of(max_sequences=2, context_tokens=512, max_batched_tokens=256, threads=1, kv_type="q8_0",
                     environment={"OMP_WAIT_POLICY": "passive", "HF_TOKEN": "hunter2"})
    with launch(setup, tmp_path / "engine.log") as engine:
        run = engine.run
        assert psutil.Process(engine.pids()[0]).cmdline() == list(run.argv)
        props = httpx.get(engine.endpoint.url + "/props").json()
        assert len(complete(engine)[0]) == 64
    assert run.engine_version == llama_install.version
    assert run.engine_version.startswith(_llama_build.pinned_version() + " (llama.cpp ")
    assert run.environment == {"OMP_WAIT_POLICY": "passive", "HF_TOKEN": "***"}
    assert (run.threads, run.context_tokens) == (1, 512)
    assert (props["total_slots"], props["default_generation_settings"]["n_ctx"]) == (2, 512)
    assert "2 slots of 512 tokens" in run.notes
    assert run.kv_cache_tokens == 2 * 512 and run.settings["pass_tokens"] == 256
    assert (run.weights_bytes or 0) > 0.5 * (run.model_bytes or 0) and (run.overhead_bytes or 0) > 0
    made = checkpoint(setup.model, "Q4_0")
    assert (run.model_bytes, run.bits_per_weight) == (made.bytes, made.bits_per_weight)
    assert Path(run.log_file).stat().st_size > 0


@pytest.mark.engine
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_setting_is_accepted(variant: str, llama_install: Toolchain, setup_of: SetupOf, tmp_path: Path) -> None:
    setup = setup_of(variant=variant, max_sequences=1, context_tokens=1024, max_batched_tokens=128, threads=1,
                     prefix_caching=True, kv_type="q4_0")
    with launch(setup, tmp_path / "engine.log") as engine:
        assert len(complete(engine, tokens=8)[0]) == 8
        assert engine.run.context_tokens == 1024


def test_every_option_is_known_to_this_build(llama_install: Toolchain, setup_of: SetupOf) -> None:
    for kind in ("cpu", "cuda"):
        setup = setup_of(max_sequences=3, max_batched_tokens=128, kv_type="q8_0")
        setup = setup.model_copy(update={"hardware": setup.hardware.model_copy(update={"kind": kind})})
        install = llama_cpp.ADAPTER.install(setup_of(), lambda *_: None)
        command = llama_cpp.ADAPTER.command(setup, install, checkpoint(setup.model, "Q4_0"), 1234)
        options = {word for word in command.argv if word.startswith("-")}
        assert options <= install.options
        assert {"--no-cache-prompt", "--cache-ram", "--fit", "--no-webui", "--flash-attn"} <= options


@pytest.mark.engine
@pytest.mark.parametrize("caching", [True, False])
def test_the_prefix_cache_is_on_only_when_asked(caching: bool, llama_install: Toolchain, setup_of: SetupOf,
                                                tmp_path: Path) -> None:
    with launch(setup_of(prefix_caching=caching, max_sequences=1), tmp_path / "engine.log") as engine:
        prompt = "the same beginning " * 20
        usages = [complete(engine, prompt, 4)[2] for _ in range(2)]
        cached = [usage["prompt_tokens_details"]["cached_tokens"] for usage in usages]
        gauges = engine.gauges()
    assert cached[0] <= 1  # the token that begins every prompt
    assert (cached[1] > 50) == caching
    assert (gauges["prefix_cache_hit_tokens"] > 50) == caching


@pytest.mark.engine
def test_gauges_count_what_was_done(llama_install: Toolchain, setup_of: SetupOf, tmp_path: Path) -> None:
    with launch(setup_of(max_sequences=1), tmp_path / "engine.log") as engine:
        before = engine.gauges()
        usage = complete(engine, tokens=40)[2]
        after = engine.gauges()
    assert after["generated_tokens"] - before["generated_tokens"] == 40
    assert after["prompt_tokens"] - before["prompt_tokens"] == usage["prompt_tokens"]
    assert after["requests_running"] == after["requests_waiting"] == 0
    assert after["decode_s"] > before["decode_s"]


@pytest.mark.engine
def test_a_damaged_checkpoint_says_why(llama_install: Toolchain, setup_of: SetupOf, tmp_path: Path) -> None:
    path = tmp_path / "damaged.gguf"
    whole = checkpoint(resolve_model("synthetic-llama-15m"), "Q4_0").path.read_bytes()
    path.write_bytes(whole[:len(whole) // 2])
    setup = setup_of(resolve_model(str(path)))
    with pytest.raises(LaunchFailed, match="llama-server ended before it was ready") as raised, \
            launch(setup, tmp_path / "engine.log"):
        pass
    assert raised.value.exit_code == 1
    assert str(path) in raised.value.command
    assert "not within the file bounds" in raised.value.log_tail


@pytest.mark.engine
def test_a_model_that_can_end_is_kept_from_it(llama_install: Toolchain, setup_of: SetupOf, tmp_path: Path) -> None:
    path = tmp_path / "own.gguf"
    shutil.copy(checkpoint(resolve_model("synthetic-llama-15m"), "Q4_0").path, path)
    setup = setup_of(resolve_model(str(path)), variant="llama_cpp.server")
    with launch(setup, tmp_path / "engine.log") as engine:
        assert engine.endpoint.fixed_length["logit_bias"] == {"2": -100.0}
        assert len(complete(engine, tokens=16)[0]) == 16


@pytest.mark.engine
def test_a_program_already_here(llama_install: Toolchain, setup_of: SetupOf, tmp_path: Path) -> None:
    program = llama_install.programs / "llama-server"
    with launch(setup_of(runtime="path", path=str(program)), tmp_path / "engine.log") as engine:
        assert engine.run.argv[0] == str(program)
        assert engine.run.engine_version.startswith("llama.cpp ")
        url = engine.endpoint.url
        with launch(setup_of(runtime="endpoint", url=url), tmp_path / "none.log") as served:
            assert served.pids() == []
            assert len(complete(served, tokens=5)[0]) == 5
            assert served.gauges()["generated_tokens"] >= 5
            assert "nothing was started" in served.run.notes[0]
    with pytest.raises(EndpointError, match=url), launch(setup_of(runtime="endpoint", url=url), tmp_path / "none.log"):
        pass


@pytest.mark.parametrize(("fields", "why"), [
    ({"path": "/no/such/llama-server"}, r"engine\.path: /no/such/llama-server does not exist"),
    ({"path": "/bin/true"}, r"engine\.path: /bin/true is not a llama-server program"),
    ({"path": "/bin/true", "variant": "llama_cpp.server"}, r"engine\.path: /bin/true is not a Python that has"),
])
def test_a_path_that_is_no_engine(fields: dict[str, str], why: str, setup_of: SetupOf) -> None:
    with pytest.raises(UserError, match=why):
        prepare(setup_of(runtime="path", **fields))


def test_a_path_of_another_version(llama_install: Toolchain, setup_of: SetupOf) -> None:
    setup = setup_of(runtime="path", path=str(llama_install.programs / "llama-server"), version="b1234")
    with pytest.raises(UserError, match=r"engine\.version: b1234 was asked for"):
        prepare(setup)


@pytest.mark.parametrize(("fields", "field", "reason"), [
    ({"variant": "llama-swift"}, "engine.variant", "it has llama-server, llama_cpp.server"),
    ({"quantization": "AWQ"}, "engine.quantization", "has no 'AWQ'"),
    ({"quantization": "IQ2_XXS"}, "engine.quantization", "importance matrix"),
    ({"kv_type": "fp8"}, "engine.kv_type", "has no 'fp8'"),
    ({"variant": "llama_cpp.server", "runtime": "docker"}, "engine.runtime", "has no 'docker'"),
    ({"variant": "llama_cpp.server", "max_sequences": 4}, "engine.batching.max_sequences", "under one lock"),
    ({"memory_fraction": 0.5}, "engine.batching.memory_fraction", "set context_tokens"),
    ({"tensor_parallel": 2}, "engine.batching.tensor_parallel", "--split-mode"),
    ({"prefill_chunk_tokens": 64}, "engine.batching.prefill_chunk_tokens", "set max_batched_tokens"),
    ({"context_tokens": 4096}, "engine.batching.context_tokens", "was made for 2048 tokens, not 4096"),
    ({"extra_args": ("-np", "2")}, "engine.extra_args", "-np is set by dyno itself"),
])
def test_what_it_cannot_honour_is_refused(fields: dict[str, object], field: str, reason: str,
                                          setup_of: SetupOf) -> None:
    with pytest.raises(Unsupported) as raised:
        check(setup_of(**fields))
    assert raised.value.field == field
    assert reason in raised.value.reason


def test_the_folder_is_the_registry() -> None:
    assert "llama_cpp" in engines.names()
    assert engines.adapter("llama_cpp") is llama_cpp.ADAPTER
    with pytest.raises(UserError, match=r"unknown engine 'vlm': there are .*llama_cpp"):
        engines.adapter("vlm")


def test_no_compiler_is_said_in_one_line(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(MissingTool, match=r"no C compiler found.*install gcc and g\+\+") as raised:
        _llama_build.toolchain()
    assert "\n" not in str(raised.value)
    assert not _llama_build.is_built()


def test_the_build_keeps_what_is_used_and_no_more(llama_install: Toolchain) -> None:
    assert {p.name for p in llama_install.folder.iterdir()} == {"bin", "venv", "vocabularies", "build.log",
                                                                "install.json"}
    assert llama_install.folder.is_relative_to(_llama_build.paths.cache())


def test_the_amx_barrier_is_put_where_the_compiler_goes_wrong(tmp_path: Path) -> None:
    source = tmp_path / "mmq.cpp"
    source.write_text("    tc.rows[7] = 16;\n\n    _tile_loadconfig(&tc);\n")
    _llama_build._make_amx_safe(source)
    assert '"r"(&tc) : "memory"); _tile_loadconfig(&tc);' in source.read_text()
    _llama_build._make_amx_safe(tmp_path / "absent.cpp")
    assert not (tmp_path / "absent.cpp").exists()


def test_one_core_is_left_to_the_load_generator(setup_of: SetupOf, monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, threads in ((1, 1), (2, 1), (8, 7)):
        monkeypatch.setattr(llama_cpp._hardware, "physical_cores", lambda cores=cores: cores)
        assert llama_cpp.thread_policy(setup_of())[0] == threads
    assert llama_cpp.thread_policy(setup_of(threads=5))[0] == 5
