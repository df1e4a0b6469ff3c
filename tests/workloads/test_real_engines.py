"""The instrument on llama.cpp's two servers: exact prompts, whole streams, tails that are cut off."""

from __future__ import annotations

import time
from collections.abc import Iterator

import polars as pl
import pytest

from engines import launch
from engines._checkpoints import resolve_model
from engines._hardware import detect
from models.specs import Batching, EngineSpec, Load, Setup, Workload
from workloads import catalogue, control, driver, prompts, schedule
from workloads.address import Address, http
from workloads.driver import Drive
from workloads.telemetry import Sampler

pytestmark = pytest.mark.engine
CHAT = catalogue.load({"name": "chat", "scale": {"input": 0.06, "output": 0.06}})
AGENT = catalogue.load({"name": "agent", "scale": {"input": 0.04, "output": 0.03}, "think_time_s": 0.05,
                        "input_tokens": {"min": 1500, "max": 4000}})


@pytest.fixture(scope="module", params=["llama-server", "llama_cpp.server"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[launch.Engine]:
    slots = 2 if request.param == "llama-server" else None
    spec = EngineSpec(engine="llama_cpp", variant=request.param, quantization="Q4_0",
                      batching=Batching(max_sequences=slots, threads=1, context_tokens=1024))
    setup = Setup(model=resolve_model("synthetic-llama-15m"), engine=spec, hardware=detect("cpu"))
    with launch.launch(setup, tmp_path_factory.mktemp("engine") / "engine.log") as running:
        yield running


def drive(engine: launch.Engine, workload: Workload, load: Load) -> Drive:
    words = prompts.learn(engine.endpoint)
    assert words.source == "tokenizer"
    plan = schedule.plan(workload, load, 0)
    bodies = prompts.bodies(plan, workload, engine.endpoint, words)
    return driver.drive(plan, bodies, workload, engine.endpoint, load, should_stop=lambda: not engine.alive())


@pytest.mark.parametrize(("workload", "load"), [
    (CHAT, Load(concurrency=3, requests=9)), (AGENT, Load(concurrency=2, requests=6)),
    (AGENT.model_copy(update={"api": "completions"}), Load(request_rate=20, requests=6)),
], ids=["chat", "agent", "agent by completions"])
def test_prompts_and_answers_have_the_planned_lengths(engine: launch.Engine, workload: Workload, load: Load) -> None:
    frame = drive(engine, workload, load).requests
    ok = frame.filter(pl.col("outcome") == "ok")
    assert set(frame.filter(pl.col("phase") != "tail")["outcome"]) == {"ok"}
    assert set(frame["outcome"]) <= {"ok", "cancelled"} and frame["error"].null_count() == frame.height
    assert (ok["output_tokens"] == ok["output_tokens_planned"]).all() and set(ok["finish_reason"]) == {"length"}
    if engine.endpoint.usage_in_stream:
        assert (ok["input_tokens"] == ok["input_tokens_planned"]).all()
        assert set(ok["output_tokens_source"]) == {"usage"} and set(ok["cached_tokens"]) == {0}
    else:
        assert set(ok["output_tokens_source"]) == {"finish_length"}
    assert (ok["first_byte_ns"] <= ok["first_token_ns"]).all()


def test_a_server_s_own_count_of_a_prompt_is_the_planned_one(engine: launch.Engine) -> None:
    """llama_cpp.server says nothing about usage in a stream, but does without one."""
    words = prompts.learn(engine.endpoint)
    with http(Address.parse(engine.endpoint.url), None, 60) as client:
        for n in (2, 57, 300):
            text = " ".join((words.words * 3)[:n - words.completions_overhead])
            assert control.prompt_tokens(client, engine.endpoint, prompt=text) == n


def test_a_tail_is_cut_off_and_the_engine_is_soon_free_again(engine: launch.Engine) -> None:
    longer = CHAT.model_copy(update={"output_scale": 0.4})
    with Sampler(engine.pids, engine.gauges, 0.1) as sampler:
        got = drive(engine, longer, Load(concurrency=4, requests=4, warmup_requests=0))
    control.settle(engine.endpoint, timeout_s=60)
    tail = got.requests.filter(pl.col("phase") == "tail")
    assert tail.height > 0 and set(tail["outcome"]) <= {"cancelled", "ok"} and "cancelled" in set(tail["outcome"])
    deadline = time.monotonic() + 30
    while engine.gauges().get("requests_running") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not engine.gauges().get("requests_running")
    cpu = sampler.frame().filter((pl.col("source") == "engine") & (pl.col("metric") == "cpu_percent"))
    assert cpu["value"].sum() > 0


def test_a_prompt_beyond_the_context_is_refused_as_data(engine: launch.Engine) -> None:
    too_long = catalogue.load({"name": "chat", "input_tokens": 1500, "output_tokens": 4})
    frame = drive(engine, too_long, Load(concurrency=1, requests=1, warmup_requests=0)).requests
    if engine.endpoint.usage_in_stream:
        assert frame["outcome"][0] == "http_400" and "1500" in str(frame["error"][0])
    else:  # llama_cpp.server answers 200, then finds out, and breaks off
        assert frame["outcome"][0] == "truncated" and frame["http_status"][0] == 200


def test_discovery_finds_the_same_server(engine: launch.Engine) -> None:
    found = control.discover(engine.endpoint.url)
    assert found.model == engine.endpoint.model and found.tokenize_path == engine.endpoint.tokenize_path
    assert found.tokenize_field == engine.endpoint.tokenize_field
