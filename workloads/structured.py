"""Answers of a stated form: schemas and functions, checked before anything is sent, and the words that ask for them."""

from __future__ import annotations

import re
from typing import Any

import orjson

from models.errors import UserError
from models.specs import Workload

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SCHEMA = "{type: object, properties: {name: {type: string}}}"
_FUNCTION = "{name: …, description: …, parameters: {type: object, properties: …}}"


def schema(given: object, field: str = "json_schema") -> dict[str, Any]:
    """Returns a JSON Schema that is one, of draft 2020-12 unless its $schema says otherwise. Raises UserError naming
    the place in it, under `field`."""
    import jsonschema  # here, so that commands without schemas start without it
    if not isinstance(given, dict) or not given:
        raise UserError(f"{field}: write a JSON Schema, such as {_SCHEMA}")
    try:
        jsonschema.validators.validator_for(given, default=jsonschema.Draft202012Validator).check_schema(given)
    except jsonschema.SchemaError as error:
        where = ".".join([field, *map(str, error.absolute_path)])
        raise UserError(f"{where}: not JSON Schema: {error.message}") from None
    return given


def functions(given: object, field: str = "tools") -> tuple[dict[str, Any], ...]:
    """Returns functions as OpenAI's APIs take them; `{name, description, parameters}` alone will do. Raises UserError
    naming the place."""
    if not isinstance(given, list | tuple) or not given:
        raise UserError(f"{field}: write a list of functions, each {_FUNCTION}")
    tools = tuple(_function(tool, f"{field}.{i}") for i, tool in enumerate(given))
    names = [tool["function"]["name"] for tool in tools]
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice:
        raise UserError(f"{field}.{len(names) - 1 - names[::-1].index(twice)}.name: there are two functions {twice}")
    return tools


def _function(given: object, field: str) -> dict[str, Any]:
    tool = given.get("function") if isinstance(given, dict) and given.get("type") == "function" else given
    if not isinstance(tool, dict):
        raise UserError(f"{field}: write a function, {_FUNCTION}")
    unknown = sorted(str(key) for key in tool if key not in ("name", "description", "parameters", "strict"))
    if unknown:
        raise UserError(f"{field}.{unknown[0]}: a function has no such field; write {_FUNCTION}")
    if not isinstance(tool.get("name"), str) or not _NAME.fullmatch(tool["name"]):
        raise UserError(f"{field}.name: a function needs a name of at most 64 letters, digits, _ and -")
    parameters = schema(tool.get("parameters", {"type": "object", "properties": {}}), f"{field}.parameters")
    if parameters.get("type") != "object":
        raise UserError(f"{field}.parameters.type: must be object: arguments have names")
    return {"type": "function", "function": {**tool, "parameters": parameters}}


def instruction(workload: Workload) -> str:
    """Returns the sentences that ask for an answer of the workload's form; "" where it has none."""
    if workload.tools:
        names = ", ".join(str(name) for name in map(_name, workload.tools))
        return f"Do what the text above asks for: call one of the functions {names}."
    if workload.json_schema is None:
        return ""
    wanted = orjson.dumps(workload.json_schema).decode()
    return f"Answer with what the text above says, as one JSON document and nothing else, by this schema: {wanted}"


def _name(tool: dict[str, Any]) -> object:
    function = tool.get("function", tool)
    return function.get("name") if isinstance(function, dict) else None


def asked(words: str, instruction: str) -> str:
    """Returns the words of a message with what asks about them: behind them, so that no two prompts begin alike."""
    return f"{words}\n\n{instruction}" if instruction else words
