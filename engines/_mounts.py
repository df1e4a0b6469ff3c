"""What of this disk a container has to see, so that a checkpoint's path means the same in it."""

from __future__ import annotations

import re
from pathlib import Path

_PART = re.compile(r"-\d{5}-of-\d{5}(?=\.)")


def mounts(checkpoint: Path) -> list[Path]:
    """The file (all parts of it) or folder, and the folders its links lead to: the Hub's cache is made of links."""
    path = checkpoint.absolute()
    if path.is_file():
        return sorted(p for p in path.parent.iterdir() if _PART.sub("", p.name) == _PART.sub("", path.name))
    folders = {path}
    for file in path.rglob("*"):
        if file.is_symlink() and not (real := file.resolve()).is_relative_to(path.resolve()):
            folders.add(real.parent)
    return sorted(folders)
