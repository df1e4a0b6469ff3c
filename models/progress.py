"""How long work tells whoever watches how far it is: one callable, so that no layer knows a terminal."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called with the step's name, the share done in 0..1 (None when unknown) and what is being done just now."""

    def __call__(self, step: str, done: float | None = None, detail: str = "") -> None: ...


def silent(step: str, done: float | None = None, detail: str = "") -> None:
    """Tells nobody."""
