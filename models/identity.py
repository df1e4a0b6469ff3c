"""Records that are values, and the identity of what they say."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

Identifier = Annotated[str, Field(min_length=1, max_length=200)]


class Record(BaseModel):
    """A frozen value; unknown fields are errors, so a misspelt setting is never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    not_identity: ClassVar[frozenset[str]] = frozenset()
    """Fields that describe without changing what is measured."""


def _identity(value: object) -> object:
    if isinstance(value, Record):
        fields = {k: getattr(value, k) for k in type(value).model_fields if k not in value.not_identity}
        return {k: _identity(v) for k, v in fields.items() if v is not None}
    if isinstance(value, tuple | list):
        return [_identity(v) for v in value]
    return value


def content_id(value: Record) -> str:
    """Returns 16 hexadecimal digits of SHA-256 over canonical JSON: keys sorted, None fields and descriptions left out,
    so a field added later with a None default does not rename what was measured before."""
    text = json.dumps(_identity(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
