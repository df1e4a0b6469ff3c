"""Whether an answer is of the form that was asked for: JSON that obeys a schema, or calls of the functions offered.
Looked at after the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from models.errors import UserError
from models.specs import Workload
from workloads import dialects
from workloads.answer import Answer

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

Check = Callable[[Answer], bool]


def checker(workload: Workload) -> Check | None:
    """Returns what tells valid answers of a workload from others; None where any will do.

    With a schema the text must be JSON and obey it. With tools there must be a call, and every call must name a tool
    and give arguments that obey its parameters.
    """
    if workload.tools:
        offered = [tool["function"] for tool in dialects.functions(workload)]
        tools = {f["name"]: _validator(f.get("parameters") or {}) for f in offered if isinstance(f, dict)}
        return lambda answer: _calls_are_valid(answer, tools)
    if workload.json_schema is None:
        return None
    validator, text = _validator(workload.json_schema), dialects.of(workload.api).text
    return lambda answer: _obeys(text(answer.documents), validator)


def _calls_are_valid(answer: Answer, tools: dict[str, Validator]) -> bool:
    called = calls(answer.documents)
    return bool(called) and all(name in tools and _obeys(said, tools[name]) for name, said in called)


def calls(documents: Iterable[Any]) -> list[tuple[str, str]]:
    """Returns name and arguments of each call of a chat's stream, its pieces put together by their index."""
    found: dict[int, tuple[str, str]] = {}
    for document in documents:
        for choice in document.get("choices") or ():
            said = (choice.get("delta") or {}).get("tool_calls") or ()
            for piece in [said] if isinstance(said, dict) else said:  # TGI: one, not in a list
                index, function = piece.get("index") or 0, piece.get("function") or {}
                name, arguments = found.get(index, ("", ""))
                more = function.get("name") or ""
                found[index] = (more if more.startswith(name) else name + more,  # some repeat it on every piece
                                arguments + _written(function.get("arguments")))
    return [found[index] for index in sorted(found)]


def _written(arguments: object) -> str:
    """Arguments are text; some servers give the object itself."""
    return arguments if isinstance(arguments, str) else "" if arguments is None else json.dumps(arguments)


def _validator(schema: Any) -> Validator:
    """Raises UserError where a reference leads nowhere: better now than after the run."""
    from jsonschema import Draft202012Validator, validators  # here, as most runs have no schema: 0.1 s
    from referencing import Registry, Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012
    nothing_fetched: Registry[Any] = Registry()
    root = Resource.from_contents(schema, default_specification=DRAFT202012)
    resolver = nothing_fetched.resolver_with_root(root)
    for reference in _references(schema):
        try:
            resolver.lookup(reference)
        except Unresolvable:
            raise UserError(f"json_schema or tools: $ref {reference!r} leads to nothing in its schema") from None
    kind = validators.validator_for(schema, default=Draft202012Validator)
    return kind(schema, registry=nothing_fetched)


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from _references(part)


def _obeys(text: str, validator: Validator) -> bool:
    try:
        return validator.is_valid(json.loads(text, parse_constant=_no_number))
    except (ValueError, RecursionError):
        return False


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no JSON")  # which Python's reader would take
