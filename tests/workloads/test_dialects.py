"""What each API is asked with, and that a run by any of them gives the same columns."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from models.records import Endpoint
from models.specs import Api, Lengths, Load, Workload
from tests.workloads.test_driver import run
from tests.workloads.truth import TruthServer, count
from workloads import answer, dialects, prompts, schedule

EVERY_API: tuple[Api, ...] = ("completions", "chat", "tgi", "llama_cpp")
SCHEMA: dict[str, object] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
PICK = {"type": "function", "function": {"name": "pick", "parameters": SCHEMA}}
ENDPOINT = Endpoint(url="http://h", model="m", body={"temperature": 0.0}, fixed_length={"ignore_eos": True})
HELLO: dict[str, object] = {"prompt": "Hello"}
CHAT: dict[str, object] = {"messages": [{"role": "user", "content": "Hello"}]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}


def workload(api: Api = "completions", **more: object) -> Workload:
    return Workload.model_validate({"name": "w", "api": api, "input_tokens": Lengths(mean=12),
                                    "output_tokens": Lengths(mean=3), **more})


def body(api: Api, endpoint: Endpoint = ENDPOINT, stream: bool = True, **more: Any) -> dict[str, Any]:
    ask = dialects.of(api).asker(endpoint, workload(api, **more), stream)
    return ask(CHAT if api == "chat" else HELLO, 7)


def test_bodies() -> None:
    openai = {"model": "m", "temperature": 0.0, "ignore_eos": True, "max_tokens": 7}
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    assert body("completions") == {**openai, **HELLO, **usage}
    assert body("chat") == {**openai, **CHAT, **usage}
    assert body("completions", stream=False) == {**openai, **HELLO, "stream": False}
    assert body("completions", ENDPOINT.model_copy(update={"usage_in_stream": False})) == {
        **openai, **HELLO, "stream": True}
    assert body("llama_cpp") == {"model": "m", "temperature": 0.0, "ignore_eos": True, "prompt": "Hello",
                                 "n_predict": 7, "stream": True}
    assert body("tgi", Endpoint(url="http://h", model="m", body={"top_k": 1})) == {
        "inputs": "Hello", "parameters": {"top_k": 1, "details": True, "max_new_tokens": 7}}
    cold = Endpoint(url="http://h", model="m", body={"temperature": 0.0})
    assert body("tgi", cold)["parameters"] == {"details": True, "max_new_tokens": 7}  # it refuses 0, and is greedy
    warm = cold.model_copy(update={"body": {"temperature": 0.5}})
    assert body("tgi", warm)["parameters"] == {"temperature": 0.5, "details": True, "max_new_tokens": 7}


def test_paths() -> None:
    own = Endpoint(url="http://h", model="m", completions_path="/a", chat_path="/b", tgi_path="/c", llama_cpp_path="/d")
    assert [dialects.of(api).path(own) for api in EVERY_API] == ["/a", "/b", "/c", "/d"]
    assert [dialects.of(api).path(ENDPOINT) for api in EVERY_API] == [
        "/v1/completions", "/v1/chat/completions", "/generate_stream", "/completion"]


@pytest.mark.parametrize(("api", "form"), [
    ("completions", {"response_format": FORMAT}), ("chat", {"response_format": FORMAT}),
    ("llama_cpp", {"json_schema": SCHEMA}),
])
def test_a_schema_goes_along_and_the_model_ends_its_answer(api: Api, form: dict[str, object]) -> None:
    free = body(api)
    del free["ignore_eos"]
    assert body(api, json_schema=SCHEMA) == {**free, **form}


def test_a_schema_by_tgi_is_a_grammar() -> None:
    got = body("tgi", Endpoint(url="http://h", model="m"), json_schema=SCHEMA)
    assert got["parameters"] == {"details": True, "max_new_tokens": 7, "grammar": {"type": "json", "value": SCHEMA}}


def test_llama_cpps_servers_take_schemas_in_forms_of_their_own() -> None:
    older = ENDPOINT.model_copy(update={"schema_form": "json_object"})
    assert body("chat", older, json_schema=SCHEMA)["response_format"] == {"type": "json_object", "schema": SCHEMA}
    assert body("completions", older, json_schema=SCHEMA)["response_format"] == FORMAT
    own = ENDPOINT.model_copy(update={"schema_form": "json_schema"})
    assert body("completions", own, json_schema=SCHEMA)["json_schema"] == SCHEMA
    assert "response_format" not in body("completions", own, json_schema=SCHEMA)
    assert body("chat", own, json_schema=SCHEMA)["response_format"] == FORMAT


def test_tgi_takes_a_schema_in_chat_by_its_own_name() -> None:
    tgi = ENDPOINT.model_copy(update={"schema_form": "value"})
    assert body("chat", tgi, json_schema=SCHEMA)["response_format"] == {"type": "json", "value": SCHEMA}


@pytest.mark.parametrize("tool", [PICK, PICK["function"]])
def test_tools_go_along_and_one_must_be_called(tool: dict[str, object]) -> None:
    got = body("chat", tools=[tool])
    assert (got["tools"], got["tool_choice"], got["parallel_tool_calls"]) == ([PICK], "required", False)
    assert "ignore_eos" not in got


@pytest.mark.parametrize("api", EVERY_API)
def test_a_run_by_any_api_has_the_planned_lengths(api: Api) -> None:
    what, load = workload(api, turns=2), Load(concurrency=2, requests=6)
    with TruthServer(apis=(api,), models=["m"]) as server:
        where = server.endpoint(tokenize_field="inputs" if api == "tgi" else "content")
        words = prompts.learn(where, api)
        plan = schedule.plan(what, load, 0)
        bodies = [json.loads(b) for b in prompts.bodies(plan, what, where, words)]
        frame = run(where, load, what).requests
    assert words.source == "tokenizer" and [count(b) for b in bodies] == plan.requests["input_tokens_planned"].to_list()
    ok = frame.filter(pl.col("phase") != "tail")
    assert set(ok["outcome"]) == {"ok"} and set(ok["finish_reason"]) == {"length"}
    assert set(ok["output_tokens"]) == {3} and set(ok["output_tokens_source"]) == {"usage"}
    assert set(ok["chunk_ns"].list.len()) == {3} and ok["output_valid"].null_count() == ok.height
    assert ok["input_tokens"].null_count() == 0


def test_without_a_tokenizer_a_native_api_s_own_count_calibrates_the_filler() -> None:
    for api in ("tgi", "llama_cpp"):
        with TruthServer(apis=(api,), tokenize=False) as server:
            for named in (api, None):
                words = prompts.learn(server.endpoint(), named)  # type: ignore[arg-type]
                assert (words.source, words.completions_overhead) == ("calibrated", 1)


@pytest.mark.parametrize(("api", "document", "said"), [
    ("completions", {"choices": [], "usage": {"prompt_tokens": 4}}, (4, None, None)),
    ("llama_cpp", {"content": "a", "stop": True, "stop_type": "limit", "tokens_evaluated": 4}, (4, "length", None)),
    ("completions", {"error": {"message": "no"}}, (None, None, "no")),
    ("completions", {"choices": None}, (None, None, None)), ("llama_cpp", 3, (None, None, None)),
])
def test_an_answer_in_one_piece_is_read_too(api: Api, document: object, said: tuple[object, ...]) -> None:
    got = answer.read_whole(json.dumps(document).encode(), dialects.of(api).take)
    assert (got.input_tokens, got.finish_reason, got.error) == said
    assert (got.malformed is not None) == (said == (None, None, None))
