"""Answers of a stated form: what obeys a schema, what calls a tool as it wants to be called, by every API."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import polars as pl
import pytest

from models.errors import UserError
from models.specs import Api, Load
from models.summary import summarise
from tests.workloads.test_dialects import EVERY_API, PICK, SCHEMA, workload
from tests.workloads.test_driver import run
from tests.workloads.truth import DONE, Asked, Step, TruthServer, delta, llama, tgi, token, whole
from workloads import answer, dialects, validity

OTHER = {"name": "other"}
"""A function that says nothing of its arguments."""


def stream(api: Api, text: str, finish: str = "stop") -> bytes:
    """A text in pieces of three letters, as this API says it."""
    pieces = [text[i:i + 3] for i in range(0, len(text), 3)]
    if api == "tgi":
        last = json.loads(tgi("</s>", "eos_token", len(pieces), special=True)[5:]) | {"generated_text": text}
        return b"".join(tgi(p) for p in pieces) + b"data:" + json.dumps(last).encode() + b"\n\n"
    if api == "llama_cpp":
        return b"".join(llama(p) for p in pieces) + llama("", "eos", len(pieces))
    if api == "chat":
        return b"".join(delta(content=p) for p in pieces) + delta(finish) + DONE
    return b"".join(token(p) for p in pieces) + token("", finish) + DONE


def valid(api: Api, body: bytes, **more: object) -> bool:
    what = workload(api, **more)
    check = validity.checker(what)
    assert check
    return check(answer.read(body, dialects.of(api).take))


@pytest.mark.parametrize("api", EVERY_API)
@pytest.mark.parametrize(("text", "obeys"), [
    ('{"n": 3}', True), (' \n{"n": 3, "more": "\\ud800"}\n', True), ('{"n": "3"}', False), ("{}", False), ("", False),
    ('{"n": 3', False), ('Sure: {"n": 3}', False), ("```json\n{\"n\": 3}\n```", False), ('{"n": 3} {"n": 3}', False),
    ('{"n": NaN}', False), ("[" * 100_000, False),
])
def test_json_must_obey_its_schema(api: Api, text: str, obeys: bool) -> None:
    assert valid(api, stream(api, text), json_schema=SCHEMA) == obeys


def test_reasoning_is_not_part_of_the_object() -> None:
    body = delta(reasoning_content="let me see {") + stream("chat", '{"n": 3}')
    assert valid("chat", body, json_schema=SCHEMA)


def call(*pieces: dict[str, Any] | list[dict[str, Any]]) -> bytes:
    return b"".join(delta(tool_calls=p if isinstance(p, list) else [p]) for p in pieces) + delta("tool_calls") + DONE


def piece(arguments: object = None, name: str | None = None, index: int | None = 0) -> dict[str, Any]:
    function = {k: v for k, v in (("name", name), ("arguments", arguments)) if v is not None}
    return {"type": "function", "function": function} | ({} if index is None else {"index": index})


@pytest.mark.parametrize(("body", "obeys"), [
    (call(piece('{"n": 3}', "pick")), True),
    (call(piece("", "pick"), piece('{"n"'), piece(': 3}')), True),
    (call(piece('{"n"', "pick"), piece(': 3}', "pick")), True),          # the name on every piece
    (call(piece('{"n"', "pi"), piece(': 3}', "ck")), True),
    (call(piece({"n": 3}, "pick")), True),                               # arguments as an object
    (call(piece('{"n": 3}', "pick", None)), True),                       # no index
    (call([piece('{"n":', "pick"), piece("{}", "other", 1)], piece("3}")), True),
    (call(piece('{"n":', "pick"), piece('{"n":', "pick", 1), piece("3}"), piece("4}", index=1)), True),
    (call(piece('{"n": 3}', "pick"), piece('{"n": "3"}', "pick", 1)), False),
    (call(piece('{"n": 3}', "push")), False), (call(piece('{"n": "3"}', "pick")), False),
    (call(piece('{"n": 3', "pick")), False), (call(piece(None, "pick")), False), (call(piece('{"n": 3}')), False),
    (stream("chat", '{"name": "pick", "arguments": {"n": 3}}'), False), (delta("stop") + DONE, False),
])
def test_a_tool_must_be_called_as_it_wants_to_be(body: bytes, obeys: bool) -> None:
    assert valid("chat", body, tools=[PICK, OTHER]) == obeys


def test_a_call_that_is_not_in_a_list_is_one_too() -> None:
    assert valid("chat", delta(tool_calls=piece('{"n": 3}', "pick")) + delta("tool_calls") + DONE, tools=[PICK])


def test_without_a_form_there_is_nothing_to_check() -> None:
    assert validity.checker(workload()) is None


@pytest.mark.parametrize("reference", ["#/$defs/none", "http://127.0.0.1:9/schema.json", "other.json"])
def test_a_reference_to_nothing_is_found_before_anything_is_sent(reference: str) -> None:
    lost = {"type": "object", "properties": {"n": {"$ref": reference}}}
    with TruthServer() as server, pytest.raises(UserError, match=r"\$ref .* leads to nothing"):
        run(server.endpoint(), Load(concurrency=1, requests=1), workload("chat", json_schema=lost))
    assert not server.asked
    held = {"$defs": {"d": {"const": 3}}, "properties": {"n": {"$ref": "#/$defs/d"}}, "required": ["n"]}
    assert valid("chat", stream("chat", '{"n": 3}'), json_schema=held)
    assert not valid("chat", stream("chat", '{"n": 4}'), json_schema=held)


@pytest.mark.parametrize("api", EVERY_API)
def test_what_was_checked_is_in_the_rows_and_the_summary(api: Api) -> None:
    texts = ['{"n": 1}', '{"n": 2}', '{"n": 3', '{"n": 4}', None]

    def script(asked: Asked) -> Iterable[Step]:
        text = texts[(len(server.asked) - 1) % len(texts)]
        return [whole(stream(api, text))] if text else [whole(stream(api, '{"n": 5}')[:40])]
    with TruthServer(script, apis=(api,)) as server:
        frame = run(server.endpoint(), Load(concurrency=1, requests=5, warmup_requests=0),
                    workload(api, json_schema=SCHEMA)).requests
    assert frame["output_valid"].to_list() == [True, True, False, True, None]
    assert frame["outcome"].to_list() == ["ok"] * 4 + ["truncated"] and frame["output_valid"].dtype == pl.Boolean
    assert summarise(frame).metrics["output_valid_share"] == 0.75
    assert "ignore_eos" not in server.asked[0].body
