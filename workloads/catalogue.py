"""The standard workloads, one data file each, and how an experiment names or changes them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

import yaml
from pydantic import ValidationError

from models.errors import UserError
from models.specs import Workload

_FOLDER = "standard"


def names() -> list[str]:
    """The standard workloads there are."""
    files = resources.files("workloads").joinpath(_FOLDER).iterdir()
    return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))


def load(given: str | Mapping[str, Any]) -> Workload:
    """Returns a standard workload by name, or changed by a mapping.

    A mapping has `name` and may have `scale` (a number for both lengths, or `{input: …, output: …}`) and any field of
    `Workload`; with input_tokens and output_tokens it may have a name of its own. Raises UserError naming the field.
    """
    fields = {"name": given} if isinstance(given, str) else dict(given)
    name = fields.get("name")
    if not isinstance(name, str):
        raise UserError("name: a workload needs one")
    if not {"input_tokens", "output_tokens"} <= fields.keys():
        fields = _standard(name) | fields
    scale = fields.pop("scale", None)
    if scale is not None:
        fields |= _scales(scale)
    try:
        return Workload.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"]) or "workload"
        raise UserError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None


def _standard(name: str) -> dict[str, Any]:
    if name not in names():
        raise UserError(f"unknown workload {name!r}: there are {', '.join(names())}, or give input_tokens and "
                        "output_tokens")
    fields: dict[str, Any] = yaml.safe_load(resources.files("workloads").joinpath(_FOLDER, f"{name}.yaml").read_text())
    return fields


def _scales(scale: Any) -> dict[str, Any]:
    if isinstance(scale, Mapping):
        if unknown := set(scale) - {"input", "output"}:
            raise UserError(f"scale: unknown field {', '.join(map(str, unknown))}; it has input and output")
        return {f"{side}_scale": value for side, value in scale.items()}
    return {"input_scale": scale, "output_scale": scale}
