"""What the engines can do, as data: one record for each thing that an engine's server has or has not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from models.identity import Identifier, Record

Kind = Literal["quantization", "kv_type", "feature", "batching", "hardware", "runtime", "model_source"]


class Capability(Record):
    """One thing. `reason` says why it is missing, or missing in part, where that helps."""

    engine: Identifier
    variant: str | None = Field(default=None, description="the server, of an engine that ships several")
    kind: Kind
    name: Identifier
    supported: bool
    about: str = Field(default="", description="what it promises")
    reason: str = ""


class EngineAbout(Record):
    """An engine's server, whole: what `dyno engines` shows and what is published for the explorer."""

    engine: Identifier
    variant: str | None = None
    pinned_version: str | None = Field(default=None, description="what runtime venv provides when none is named")
    installed: dict[str, str] = Field(default_factory=dict, description="versions in dyno's cache, and their folders")
    capabilities: tuple[Capability, ...] = ()
    known_failures: dict[str, str] = Field(default_factory=dict, description="checks that fail, and why")

    @property
    def label(self) -> str:
        """Name for people."""
        return self.variant or self.engine

    def names(self, kind: Kind, supported: bool = True) -> list[str]:
        """What it has of a kind, or has not."""
        return [c.name for c in self.of(kind) if c.supported == supported]

    def of(self, kind: Kind) -> Sequence[Capability]:
        """Everything of a kind."""
        return [c for c in self.capabilities if c.kind == kind]
