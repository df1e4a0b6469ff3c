"""The contract on an engine that runs: what its features promise, asked of the real process over its real socket.

Each check takes a running engine and its setup, and asserts. Weights may be random, so what an answer says is never
looked at, only its form.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import polars as pl

import engines
from engines._contract import Capabilities
from engines.launch import Engine
from models.specs import Api, Load, Setup, Workload
from workloads import dialects, driver, prompts, schedule
from workloads.address import Address, http

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"kind": {"enum": ["red", "green"]}}, "required": ["kind"],
                          "additionalProperties": False}
PICK = {"name": "pick", "description": "picks one", "parameters": SCHEMA, "strict": True}
"""`strict`, as vLLM and SGLang hold a call to its schema only where that is said (OpenAI's APIs too)."""
CONTEXT = 1024
"""Tokens of the context that the engines of these tests are started with."""


def capabilities(setup: Setup) -> Capabilities:
    adapter = engines.adapter(setup.engine.engine)
    return adapter.capabilities(adapter.variant(setup.engine))


def drive(engine: Engine, api: Api = "completions", requests: int = 3, seed: int = 0, **more: Any) -> pl.DataFrame:
    """The requests of a small load, as a real run stores them."""
    what = Workload.model_validate({"name": "contract", "api": api, "input_tokens": {"mean": 40},
                                    "output_tokens": {"mean": 12}, **more})
    load = Load(concurrency=2, requests=requests, warmup_requests=0, timeout_s=300)
    plan = schedule.plan(what, load, seed)
    words = prompts.fit(prompts.learn(engine.endpoint, api), what, engine.endpoint)
    frame = driver.drive(plan, prompts.bodies(plan, what, engine.endpoint, words), what, engine.endpoint, load).requests
    return frame.filter(pl.col("phase") == "measured")


def ask(engine: Engine, body: dict[str, Any], path: str | None = None) -> httpx.Response:
    with http(Address.parse(engine.endpoint.url), None, 300) as client:
        return client.post(path or engine.endpoint.completions_path, json={
            "model": engine.endpoint.model, **engine.endpoint.body, "max_tokens": 4, **body})


def streams(engine: Engine, setup: Setup) -> None:
    """A stream of completions gives the tokens that were asked for, and says so where it claims to; where an end cannot
    be forbidden, never more."""
    can = capabilities(setup)
    got = drive(engine)
    assert set(got["outcome"]) == {"ok"}, got["error"].to_list()
    assert set(got["output_tokens_source"]) <= ({"usage"} if "streaming_usage" in can.features else
                                                {"usage", "finish_length", "chunks"})
    if "ignore_eos" in can.features:
        assert (got["output_tokens"] == got["output_tokens_planned"]).all() and set(got["finish_reason"]) == {"length"}
    assert (got["output_tokens"] <= got["output_tokens_planned"]).all()
    assert (got["chunk_ns"].list.len() <= got["output_tokens"]).all()
    if "streaming_usage" in can.features:
        assert (got["input_tokens"] == got["input_tokens_planned"]).all()


def chats(engine: Engine, setup: Setup) -> None:
    """A chat is answered; a chunk that only names the role is no token."""
    got = drive(engine, "chat")
    assert set(got["outcome"]) == {"ok"}, got["error"].to_list()
    assert (got["chunk_ns"].list.len() <= got["output_tokens"]).all()
    assert (got["first_byte_ns"] <= got["first_token_ns"]).all()


def schema(engine: Engine, setup: Setup) -> None:
    """An answer held to a schema obeys it, given room."""
    got = drive(engine, "chat", json_schema=SCHEMA, output_tokens={"mean": 200})
    assert set(got["outcome"]) == {"ok"}, got["error"].to_list()
    assert set(got["output_valid"]) == {True}, got["finish_reason"].to_list()


def tools(engine: Engine, setup: Setup) -> None:
    """A function that must be called is called with arguments that obey its schema, where it had room to end: random
    weights may call it again and again, some of them until there is no room."""
    got = drive(engine, "chat", requests=8, tools=[PICK], output_tokens={"mean": 300})
    assert set(got["outcome"]) == {"ok"}, got["error"].to_list()
    said = got.select("finish_reason", "output_tokens", "output_valid").rows()
    assert got["output_valid"].any(), said
    assert got.filter(pl.col("output_tokens") < pl.col("output_tokens_planned"))["output_valid"].all(), said


def prefix_cache(engine: Engine, setup: Setup) -> None:
    """The same prompts again: cached where that was asked for, and told; never otherwise."""
    if not capabilities(setup).features & {"streaming_usage", "metrics"}:
        return  # it says nothing about its cache anywhere
    before = engine.gauges().get("prefix_cache_hit_tokens", 0.0)
    drive(engine, seed=7, input_tokens={"mean": 200})
    again = drive(engine, seed=7, input_tokens={"mean": 200})
    cached, on = int(again["cached_tokens"].sum() or 0), setup.engine.batching.prefix_caching
    told = cached > 0 or _soon(lambda: engine.gauges().get("prefix_cache_hit_tokens", 0.0) > before, 10 if on else 1)
    assert told == on, (cached, engine.gauges())


def metrics(engine: Engine, setup: Setup) -> None:
    """Counters grow by what was asked for, and nothing is left running."""
    before = engine.gauges()
    assert before, "it claims metrics and tells none"
    drive(engine, seed=3)
    grown = [name for name in ("generated_tokens", "requests_total") if name in before]
    for name in grown:
        assert _soon(lambda n=name: engine.gauges().get(n, 0.0) >= before[n] + 3 * 12, 20), (name, before)  # type: ignore[misc]
    assert _soon(lambda: not engine.gauges().get("requests_running"), 20), engine.gauges()


def too_long(engine: Engine, setup: Setup) -> None:
    """A prompt beyond the context is an outcome with a reason, and the engine goes on."""
    got = drive(engine, input_tokens={"mean": 3 * CONTEXT}, requests=1)
    assert got["outcome"][0] != "ok" and got["error"][0]
    assert set(drive(engine, requests=1)["outcome"]) == {"ok"}


def unknown_model(engine: Engine, setup: Setup) -> None:
    """A model that it does not serve is an error of HTTP."""
    answer = ask(engine, {"model": "no-such-model", "prompt": "Hello"})
    assert 400 <= answer.status_code < 500, answer.text[:200]


def rubbish(engine: Engine, setup: Setup) -> None:
    """A request that is none is an error of HTTP with a text, not an answer, and not the end of the engine."""
    for answer in (ask(engine, {"prompt": "Hello", "max_tokens": "many"}), ask(engine, {"messages": 3})):
        assert answer.status_code >= 400 and answer.text
    assert engine.alive()


def native(engine: Engine, setup: Setup) -> None:
    """Its own API gives the same lengths as OpenAI's."""
    api: Api = "tgi" if setup.engine.engine == "tgi" else "llama_cpp"
    got = drive(engine, api)
    assert set(got["outcome"]) == {"ok"}, got["error"].to_list()
    assert (got["output_tokens"] <= got["output_tokens_planned"]).all()
    assert set(got["output_tokens_source"]) == {"usage"}


def whole(engine: Engine, setup: Setup) -> None:
    """An answer in one piece counts its prompt as the stream does."""
    answer = ask(engine, {"prompt": "Hello", **engine.endpoint.fixed_length})
    document = json.loads(answer.content)
    speaks = dialects.of("completions")
    assert document["usage"]["prompt_tokens"] > 0 and document["usage"]["completion_tokens"] <= 4
    assert isinstance(speaks.text([document]), str) and document["choices"][0]["finish_reason"]


LIVE_CHECKS: dict[str, tuple[Callable[[Engine, Setup], None], frozenset[str]]] = {
    "streams": (streams, frozenset({"openai_api"})), "chats": (chats, frozenset({"openai_api"})),
    "whole": (whole, frozenset({"openai_api"})), "schema": (schema, frozenset({"structured_output"})),
    "tools": (tools, frozenset({"tool_calls"})), "prefix cache": (prefix_cache, frozenset({"prefix_caching"})),
    "metrics": (metrics, frozenset({"metrics"})), "unknown model": (unknown_model, frozenset()),
    "rubbish": (rubbish, frozenset()), "too long": (too_long, frozenset()), "native": (native, frozenset())}
"""By name, with the features without which it is not asked for."""


def _soon(true: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not (now := true()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return now
