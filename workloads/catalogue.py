"""The standard workloads, one YAML file each in `standard/`, and what a person may change of them."""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from models.errors import UserError
from models.specs import Lengths, Trace, Workload
from workloads import structured, traces

_LENGTHS = ("input_tokens", "output_tokens")


@functools.cache
def names() -> tuple[str, ...]:
    """Returns the names of the standard workloads, sorted."""
    files = resources.files("workloads").joinpath("standard").iterdir()
    return tuple(sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml")))


def load(wanted: str | dict[str, object]) -> Workload:
    """Returns a workload by name, or from a mapping: `{name: chat, scale: 0.1}`,
    `{name: chat, scale: {input: 0.11, output: 0.3}}`, or with any field of a workload overridden
    (`input_tokens: {max: 500}` changes one number, a `distribution` replaces the whole). A name of one's own is fine
    when input_tokens and output_tokens are given, or a `trace`: the path of its file, after which it is named.
    `json_schema` and `tools` (a list of functions) are looked at here.

    Raises UserError naming the field, or listing the known names.
    """
    given: dict[str, Any] = {"name": wanted} if isinstance(wanted, str) else dict(wanted)
    fields = _base(given) | _scales(given.pop("scale", None))
    for key, value in given.items():
        fields[key] = _read(key, value, fields.get(key))
    return _validated(fields)


def _base(given: dict[str, Any]) -> dict[str, Any]:
    """Takes name and trace out of what was given, and returns the fields that they stand for."""
    name, trace = given.pop("name", None), given.get("trace")
    if trace is not None and not isinstance(trace, str | Path | dict | Trace):
        raise UserError("trace: write the path of a trace's file")
    if isinstance(trace, str | Path):
        about = dict(traces.workload(given.pop("trace")))
        return {**about, "name": about["name"] if name is None else name}
    if not isinstance(name, str) or not name:
        raise UserError("name: a workload needs one: a standard one is " + ", ".join(names()))
    if name in names():
        return _standard(name)
    if all(key in given for key in _LENGTHS):
        return {"name": name, "source": "given by the experiment"}
    raise UserError(f"unknown workload {name!r}; known are {', '.join(names())} (or give input_tokens and"
                    " output_tokens)")


def _standard(name: str) -> dict[str, Any]:
    text = resources.files("workloads").joinpath("standard", f"{name}.yaml").read_text(encoding="utf-8")
    fields = yaml.safe_load(text)
    if not isinstance(fields, dict) or fields.get("name") != name:
        raise UserError(f"standard/{name}.yaml: name: must equal the file's")
    return fields


def _scales(scale: object) -> dict[str, Any]:
    if scale is None:
        return {}
    if isinstance(scale, dict):
        unknown = sorted(str(k) for k in scale if k not in ("input", "output"))
        if unknown:
            raise UserError(f"scale: unknown field {unknown[0]!r}: write a number, or input: and output:")
        return {f"{side}_scale": value for side, value in scale.items()}
    return {"input_scale": scale, "output_scale": scale}


def _read(key: str, value: object, base: object) -> object:
    if value is not None and key == "json_schema":
        return structured.schema(value)
    if value is not None and key == "tools":
        return structured.functions(value)
    return _lengths(key, value, base) if key in _LENGTHS else value


def _lengths(key: str, value: object, base: object) -> object:
    if isinstance(value, bool) or not isinstance(value, dict | int | float | Lengths):
        raise UserError(f"{key}: write a number of tokens, or a distribution such as {{distribution: lognormal, mu: 6,"
                        " sigma: 1}")
    if isinstance(value, int | float):
        return {"distribution": "fixed", "mean": value}
    if isinstance(value, dict) and isinstance(base, dict) and "distribution" not in value:
        return {**base, **value}
    return value


def _validated(fields: dict[str, Any]) -> Workload:
    try:
        return Workload.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or str(fields["name"])
        if first["type"] == "extra_forbidden":
            raise UserError(f"{where}: a workload has no such field; it has scale, "
                            + ", ".join(k for k in Workload.model_fields)) from None
        raise UserError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
