"""llama-server by its three APIs: lengths as planned, and answers of a stated form from random weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from engines import launch
from engines._checkpoints import resolve_model
from engines._hardware import detect
from models.records import Endpoint
from models.specs import Api, Batching, EngineSpec, Lengths, Load, Setup, Workload
from models.summary import summarise
from workloads import control, driver, prompts, schedule

pytestmark = pytest.mark.engine
APIS: tuple[Api, ...] = ("completions", "chat", "llama_cpp")
TEMPLATE = """\
{%- for tool in tools or [] -%}{{ tool | tojson }}{{ '\n' }}{%- endfor -%}
{%- for message in messages -%}
  {{- message.role + ': ' -}}
  {%- if message.content -%}{{ message.content }}{%- endif -%}
  {%- for call in message.tool_calls or [] -%}
    {{- '{"name": "' + call.function.name + '", "arguments": ' + (call.function.arguments | tojson) + '}' -}}
  {%- endfor -%}
  {{- '\n' -}}
{%- endfor -%}
"""
"""A template with tools whose prompts end without a word of the answer's own: with this tokenizer, a word that the
server wants to see again before it follows a grammar would not be seen again."""
SCHEMA: dict[str, object] = {
    "type": "object", "additionalProperties": False, "required": ["kind", "count", "tags", "note"],
    "properties": {"kind": {"enum": ["red", "green"]}, "count": {"type": "integer", "minimum": 0, "maximum": 99},
                   "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
                   "note": {"type": "string", "maxLength": 8}}}
PICK = {"type": "function", "function": {"name": "pick", "description": "picks one", "parameters": SCHEMA}}
LOAD = Load(concurrency=2, requests=6, warmup_requests=0)


@contextmanager
def serving(folder: Path, variant: str, slots: int | None, *extra: str) -> Iterator[Endpoint]:
    spec = EngineSpec(engine="llama_cpp", variant=variant, quantization="Q4_0", extra_args=extra,
                      batching=Batching(max_sequences=slots, threads=1, context_tokens=1024))
    setup = Setup(model=resolve_model("synthetic-llama-15m"), engine=spec, hardware=detect("cpu"))
    with launch.launch(setup, folder / "engine.log") as running:
        yield running.endpoint


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    folder = tmp_path_factory.mktemp("apis")
    (folder / "template.jinja").write_text(TEMPLATE)
    with serving(folder, "llama-server", 2, "--chat-template-file", str(folder / "template.jinja")) as found:
        yield found


def rows(endpoint: Endpoint, api: Api, output: int = 300, **more: object) -> pl.DataFrame:
    """The measured requests of a small load."""
    what = Workload.model_validate({"name": "w", "api": api, "input_tokens": Lengths(mean=40),
                                    "output_tokens": Lengths(mean=output), **more})
    plan = schedule.plan(what, LOAD, 0)
    bodies = prompts.bodies(plan, what, endpoint, prompts.learn(endpoint, api))
    return driver.drive(plan, bodies, what, endpoint, LOAD).requests.filter(pl.col("phase") == "measured")


@pytest.mark.parametrize("api", APIS)
def test_lengths_are_the_planned_ones(endpoint: Endpoint, api: Api) -> None:
    got = rows(endpoint, api, 12)
    assert set(got["outcome"]) == {"ok"} and set(got["finish_reason"]) == {"length"}
    assert (got["input_tokens"] == got["input_tokens_planned"]).all() and set(got["cached_tokens"]) == {0}
    assert set(got["output_tokens"]) == {12} and set(got["output_tokens_source"]) == {"usage"}
    assert set(got["chunk_ns"].list.len()) == {12} and got["output_valid"].null_count() == got.height


@pytest.mark.parametrize("api", APIS)
def test_answers_obey_a_schema_where_they_have_room_for_it(endpoint: Endpoint, api: Api) -> None:
    got = rows(endpoint, api, json_schema=SCHEMA)
    assert set(got["outcome"]) == {"ok"} and set(got["finish_reason"]) == {"stop"}
    assert set(got["output_valid"]) == {True}
    assert (got["output_tokens"] < 300).all() and summarise(got).metrics["output_valid_share"] == 1
    short = rows(endpoint, api, 8, json_schema=SCHEMA)
    assert set(short["finish_reason"]) == {"length"} and set(short["output_valid"]) == {False}


def test_tools_are_called_as_they_want_to_be(endpoint: Endpoint) -> None:
    """Random weights never begin a call by themselves, so its first sign is made likely: the server's grammar sees to
    the rest."""
    calling = endpoint.model_copy(update={"body": {**endpoint.body, "logit_bias": {"{": 100}}})
    got = rows(calling, "chat", tools=[PICK])
    assert set(got["outcome"]) == {"ok"} and set(got["finish_reason"]) == {"tool_calls"}
    assert set(got["output_valid"]) == {True} and got["first_content_ns"].null_count() == 0
    assert set(rows(endpoint, "chat", 40, tools=[PICK])["output_valid"]) == {False}


def test_the_python_server_takes_a_schema_in_a_chat(tmp_path: Path) -> None:
    """It holds numbers to no limits, so there are none."""
    kind = {"type": "object", "properties": {"kind": {"enum": ["red", "green"]}}, "required": ["kind"]}
    with serving(tmp_path, "llama_cpp.server", None) as found:
        assert control.discover(found.url).schema_form == found.schema_form == "json_object"
        got = rows(found, "chat", json_schema=kind)
    assert set(got["outcome"]) == {"ok"} and set(got["output_valid"]) == {True}


@pytest.mark.parametrize("api", APIS)
def test_discovery_by_each_api(endpoint: Endpoint, api: Api) -> None:
    found = control.discover(endpoint.url, api=api)
    assert (found.model, found.schema_form, found.fixed_length) == (
        endpoint.model, endpoint.schema_form, endpoint.fixed_length)
    control.settle(found, timeout_s=30, api=api)
