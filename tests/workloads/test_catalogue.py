"""The standard workloads: honest sources, lengths like the traffic they name, and what a person may change."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import numpy as np
import pytest

from models.errors import UserError
from models.specs import Lengths
from workloads import catalogue, structured
from workloads.schedule import generator, lengths

# mean, p50, p90, p99 of the traces that the files name
TRAFFIC = {
    ("chat", "input_tokens"): (1155, 1020, 2734, 4142), ("chat", "output_tokens"): (211, 129, 424, 601),
    ("code", "input_tokens"): (2048, 1469, 5188, 7436), ("rag", "input_tokens"): (12_035, 6_909, 27_367, 85_400),
    ("rag", "output_tokens"): (343, 350, 597, 1_119), ("agent", "output_tokens"): (149, 69, 389, 768),
}


def test_the_standard_ones_are_there_and_name_their_source() -> None:
    assert catalogue.names() == ("agent", "batch", "chat", "code", "json", "rag", "summarise", "tools")
    for name in catalogue.names():
        workload = catalogue.load(name)
        assert workload.name == name and workload.description
        assert "trace" in workload.source or workload.source.startswith("dyno's own:")
    assert catalogue.load("batch").offline and catalogue.load("agent").turns > 1
    assert catalogue.load("agent").shared_prefix_tokens > 0 and catalogue.load("agent").think_time_s > 0


@pytest.mark.parametrize(("name", "side"), TRAFFIC)
def test_lengths_are_like_the_traffic_s(name: str, side: str) -> None:
    mean, _, p90, p99 = TRAFFIC[name, side]
    drawn = lengths(getattr(catalogue.load(name), side), 1.0, 50_000, generator("test"))
    assert drawn.mean() == pytest.approx(mean, rel=0.15)
    assert np.quantile(drawn, 0.9) == pytest.approx(p90, rel=0.25)
    assert np.quantile(drawn, 0.99) == pytest.approx(p99, rel=0.25)


def test_scales_and_overrides() -> None:
    assert catalogue.load({"name": "chat", "scale": 0.1}).label == "chat ×0.1"
    both = catalogue.load({"name": "chat", "scale": {"input": 0.11, "output": 0.3}})
    assert (both.input_scale, both.output_scale) == (0.11, 0.3)
    assert catalogue.load({"name": "chat", "scale": {"input": 0.5}}).output_scale == 1
    changed = catalogue.load({"name": "agent", "turns": 5, "input_tokens": {"max": 900}, "output_tokens": 32})
    assert changed.turns == 5 and changed.input_tokens.max == 900 and changed.input_tokens.distribution == "lognormal"
    assert changed.output_tokens == Lengths(mean=32)
    fixed = catalogue.load({"name": "chat", "input_tokens": {"distribution": "fixed", "mean": 9}})
    assert fixed.input_tokens == Lengths(mean=9)
    own = catalogue.load({"name": "mine", "input_tokens": 10, "output_tokens": {"distribution": "uniform", "max": 5}})
    assert own.name == "mine" and own.input_tokens.mean == 10


def test_the_forms_of_answers_are_forms_that_end() -> None:
    """Strings, arrays and numbers are bounded, so that even a model that fills them to the brim keeps its limit, at one
    token a letter."""
    order, call = catalogue.load("json"), catalogue.load("tools")
    assert order.api == call.api == "chat" and order.ends_freely and call.ends_freely
    assert order.json_schema and call.tools and len(call.tools) == 2
    brims = [brim(order.json_schema)] + [brim(structured.functions([tool])[0]["function"]["parameters"])
                                         for tool in call.tools]
    for workload, longest in zip((order, call, call), brims, strict=True):
        assert len(json.dumps(longest)) <= (workload.output_tokens.mean or 0) - 50  # a call's name comes on top
        assert workload.input_tokens.min > len(structured.instruction(workload)) / 4 + 64
    jsonschema.validate(brims[0], order.json_schema)


def brim(schema: dict[str, Any]) -> object:
    """The longest value that a schema of bounded parts allows."""
    if "enum" in schema:
        return max(schema["enum"], key=len)
    kind = schema["type"]
    if kind == "object":
        assert schema["additionalProperties"] is False and set(schema["required"]) == set(schema["properties"])
        return {key: brim(part) for key, part in schema["properties"].items()}
    if kind == "array":
        return [brim(schema["items"])] * schema["maxItems"]
    return {"string": lambda: "x" * schema["maxLength"], "integer": lambda: schema["maximum"],
            "boolean": lambda: False}[kind]()


def test_schemas_and_functions_may_be_given() -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    assert catalogue.load({"name": "chat", "json_schema": schema}).json_schema == schema
    older = {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]}  # since: prefixItems
    assert catalogue.load({"name": "chat", "json_schema": older}).json_schema == older
    bare = {"name": "look_up", "description": "finds it", "parameters": schema}
    whole = {"type": "function", "function": bare}
    for tools in ([bare], [whole]):
        assert catalogue.load({"name": "agent", "tools": tools}).tools == (whole,)
    nothing = catalogue.load({"name": "tools", "tools": [{"name": "ping"}]})
    assert nothing.tools == ({"type": "function", "function": {
        "name": "ping", "parameters": {"type": "object", "properties": {}}}},)
    plain = catalogue.load({"name": "tools", "tools": None})
    assert plain.tools is None and not structured.instruction(plain)
    shared = catalogue.load({"name": "chat", "shared_prefix_share": 0.5})
    assert shared.shared_prefix_share == 0.5


FUNCTION = {"name": "f", "parameters": {"type": "object"}}


@pytest.mark.parametrize(("wanted", "said"), [
    ({"name": "chat", "json_schema": "x"}, "json_schema: write a JSON Schema, such as {type: object"),
    ({"name": "chat", "json_schema": {}}, "json_schema: write a JSON Schema"),
    ({"name": "chat", "json_schema": {"type": "objekt"}}, "json_schema.type: not JSON Schema: 'objekt' is not valid"),
    ({"name": "chat", "json_schema": {"properties": {"a": {"minimum": "x"}}}},
     "json_schema.properties.a.minimum: not JSON Schema: 'x' is not of type 'number'"),
    ({"name": "chat", "json_schema": {"items": [{"type": "string"}]}}, "json_schema.items: not JSON Schema"),
    ({"name": "agent", "tools": []}, "tools: write a list of functions, each {name: "),
    ({"name": "agent", "tools": {"name": "f"}}, "tools: write a list of functions"),
    ({"name": "agent", "tools": ["f"]}, "tools.0: write a function, {name: "),
    ({"name": "agent", "tools": [{"type": "function"}]}, "tools.0: write a function"),
    ({"name": "agent", "tools": [{"nam": "f"}]}, "tools.0.nam: a function has no such field"),
    ({"name": "agent", "tools": [{"name": "two words"}]}, "tools.0.name: a function needs a name"),
    ({"name": "agent", "tools": [FUNCTION, FUNCTION]}, "tools.1.name: there are two functions f"),
    ({"name": "agent", "tools": [{**FUNCTION, "parameters": {"type": "array"}}]}, "tools.0.parameters.type: must be"),
    ({"name": "agent", "tools": [{**FUNCTION, "parameters": {"type": "object", "required": "a"}}]},
     "tools.0.parameters.required: not JSON Schema: 'a' is not of type 'array'"),
    ({"name": "chat", "tools": [FUNCTION]}, "chat: tools need api: chat; completions has none"),
    ({"name": "json", "tools": [FUNCTION]}, "json: give either json_schema (the answer is an object) or tools"),
    ({"name": "chat", "shared_prefix_share": 2}, "shared_prefix_share: "),
    ({"name": "agent", "shared_prefix_share": 0.2}, "agent: give either shared_prefix_tokens or shared_prefix_share"),
    ("chit", "unknown workload 'chit'; known are agent, batch, chat, code, json, rag, summarise, tools"),
    ({"name": "chit", "turns": 2}, "unknown workload 'chit'"),
    ({}, "name: a workload needs one"), ({"name": 3}, "name: a workload needs one"),
    ({"name": "chat", "turn": 3}, "turn: a workload has no such field; it has scale, name, "),
    ({"name": "chat", "turns": 0}, "turns: "), ({"name": "chat", "scale": -1}, "input_scale: "),
    ({"name": "chat", "scale": "half"}, "input_scale: "),
    ({"name": "chat", "scale": {"inputs": 1}}, "scale: unknown field 'inputs'"),
    ({"name": "chat", "input_tokens": "many"}, "input_tokens: write a number of tokens"),
    ({"name": "chat", "input_tokens": {"min": 9000}}, "input_tokens: min 9000 is above max 4142"),
    ({"name": "chat", "input_tokens": {"distribution": "lognormal"}}, "input_tokens: a lognormal distribution needs"),
    ({"name": "chat", "output_tokens": {"distribution": "normal"}}, "output_tokens.distribution: "),
])
def test_what_is_wrong_is_named(wanted: str | dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as caught:
        catalogue.load(wanted)
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)
