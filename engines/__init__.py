"""The specimens: one file an engine, and what provisions, starts and stops it.

The folder is the registry: every file without a leading underscore is an engine, but for `launch`, which starts them.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from models.errors import UserError

if TYPE_CHECKING:
    from engines._contract import Adapter


def names() -> list[str]:
    """The engines there are."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name[0] != "_" and m.name != "launch")


def adapter(name: str) -> Adapter:
    """Raises UserError naming the engines there are when this is none of them."""
    if name not in names():
        raise UserError(f"unknown engine {name!r}: there are {', '.join(names())}")
    found: Adapter = importlib.import_module(f"engines.{name}").ADAPTER
    return found
