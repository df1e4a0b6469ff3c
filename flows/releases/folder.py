"""Checkpoints that somebody drops into a folder: GGUF files, and folders of safetensors with config.json."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engines import _hf_folder
from engines._checkpoints import local_model
from engines._gguf import read_header
from engines._hf_types import tensors_of
from flows.releases import Known, Warn, label
from models.errors import ModelError, UserError
from models.releases.policy import FollowFolder
from models.releases.release import Release

UNREADABLE = "unreadable"
"""The version of a checkpoint that cannot be read."""


def look(entry: FollowFolder, known: Known, warn: Warn, beside: Path) -> Iterator[Release]:
    """Yields whole checkpoints that are not known. One that is still being written is told, and taken another time; one
    that is damaged is a release, too, which says so. Raises UserError where there is no such folder."""
    folder = beside / Path(entry.folder).expanduser()
    if not folder.is_dir():
        raise UserError(f"{label(entry)}: there is no such folder")
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not _is_checkpoint(path):
            continue
        if (quiet := time.time() - _written(path)) < entry.settle_s:
            warn(f"{path}: written {max(quiet, 0):.0f} s ago; it is looked at when nothing was written for"
                 f" {entry.settle_s:g} s")
            continue
        found = _release(path, label(entry))
        if not known.version(found.name, found.version):
            yield found


def _is_checkpoint(path: Path) -> bool:
    return (path.suffix == ".gguf" and path.is_file()) or (path / "config.json").is_file()


def _written(path: Path) -> float:
    """When something was last written to it, seconds since the epoch."""
    files = [path, *path.iterdir()] if path.is_dir() else [path]
    return max((f.stat().st_mtime for f in files if f.exists()), default=0.0)


def _release(path: Path, source: str) -> Release:
    name = path.stem if path.suffix == ".gguf" else path.name
    shared: dict[str, Any] = {"kind": "model", "name": name, "source": source, "path": str(path.absolute()),
              "released_at": dt.datetime.fromtimestamp(_written(path), dt.UTC).isoformat(timespec="seconds")}
    try:
        _whole(path)
        model = local_model(path, name) if path.is_file() else _hf_folder.local_folder(path, name)
        quantization = read_header(path).quantization if path.is_file() else model.quantization
    except (ModelError, OSError) as error:
        return Release(**shared, version=UNREADABLE, unreadable=f"it cannot be read: {error}")
    return Release(**shared, version=str(model.content)[:16], content=model.content, format=model.format,
                   quantization=quantization, architecture=model.architecture,
                   parameters=model.architecture.parameters if model.architecture else None)


def _whole(path: Path) -> None:
    """Raises ModelError for a file that is shorter than the table at its beginning says."""
    files = [path] if path.is_file() else [f for f in _hf_folder.files(path) if f.suffix == ".safetensors"]
    for file in files:
        said = read_header(file).tensor_bytes if file.suffix == ".gguf" else sum(t.bytes for t in tensors_of(file))
        if file.stat().st_size < said:
            raise ModelError(f"{file.name} ends early: {file.stat().st_size} bytes, of at least {said}")
