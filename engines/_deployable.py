"""What an engine's file may say of serving without dyno; the defaults are true of most engines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from models.errors import Unsupported
from models.specs import ModelSpec, Setup

if TYPE_CHECKING:
    from engines._contract import Install

FETCHED = "/models"
"""Where a container keeps what it fetched."""


@dataclass(frozen=True)
class FromHub:
    """How a server is told to fetch a model of the Hub by itself: what stands in its argv for the path, and more."""

    path: str
    words: tuple[str, ...]


class Deployable:
    """Mixed into every adapter."""

    key_option: ClassVar[str] = "--api-key"
    for_measuring: ClassVar[frozenset[str]] = frozenset()
    """Variables that dyno sets for measurements, and that do not belong where others reach the server."""

    def key_variable(self, variant: str | None) -> str | None:
        """The environment variable that its server takes its API key from; None: by `key_option` only."""
        return None

    def contained(self, setup: Setup) -> Install:
        """The image and the program in it, for the runtimes that have one; nothing is fetched. Raises Unsupported."""
        raise Unsupported("engine.runtime", f"{setup.engine.label} has no official image")

    def image_version(self, engine_version: str) -> str | None:
        """By which its official images are tagged, of a version as a measurement has it; None: that cannot be told."""
        found = re.match(r"v?(\d+\.\d+[\w.]*)", engine_version)
        return found[1] if found else None

    def from_hub(self, model: ModelSpec) -> FromHub:
        """A repository, pinned to the model's revision; a file in one is a matter of the engine that reads it."""
        return FromHub(model.repository or "", ("--revision", model.revision or "main"))
