"""Hugging Face folders on this disk."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from engines import _cache, _hf_config
from engines._hf_types import Stored, tensors_of
from models.errors import ModelError
from models.specs import ModelSpec


def local_folder(path: Path, name: str | None = None) -> ModelSpec:
    """Returns the model of a folder with config.json; its `content` is the hash of what an engine reads of it.

    Raises ModelError naming the folder when something is missing or it is no decoder that generates text.
    """
    try:
        config, tensors = read(path)
        shape = _hf_config.architecture(config, tensors)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    return ModelSpec(name=name or path.absolute().name, source="file", path=str(path.absolute()), content=content(path),
                     architecture=shape, quantization=_hf_config.quantization(config, tensors))


def read(folder: Path) -> tuple[dict[str, Any], list[Stored]]:
    """The config and every tensor of the weights. Raises ModelError without the folder's name."""
    there = files(folder)
    beside = {f.name: read_json(f) for f in there if f.name in _hf_config.BESIDE}
    config = _hf_config.completed(read_json(folder / "config.json"), beside)
    return config, [t for file in there if file.suffix == ".safetensors" for t in tensors_of(file)]


def files(folder: Path) -> list[Path]:
    """What an engine reads of a folder. Raises ModelError when the config or a part of the weights is missing."""
    names = [f.name for f in folder.iterdir() if f.is_file()] if folder.is_dir() else []
    if "config.json" not in names:
        raise ModelError("it has no config.json")
    index = read_json(folder / _hf_config.INDEX) if _hf_config.INDEX in names else None
    return [folder / n for n in _hf_config.needed(names, _hf_config.weight_files(names, index))]


def read_json(file: Path) -> dict[str, Any]:
    """Raises ModelError when it is no JSON object."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{file.name} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{file.name} is not a JSON object")
    return found


def content(folder: Path) -> str:
    """SHA-256 of the names, sizes and hashes of what an engine reads."""
    lines = [f"{f.name} {f.stat().st_size} {_cache.sha256(f)}" for f in files(folder)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def end_tokens(folder: Path) -> tuple[int, ...]:
    """Ids of the tokens that end a generation: engines take generation_config.json's before config.json's."""
    for name in ("generation_config.json", "config.json"):
        if not (folder / name).is_file():
            continue
        config = read_json(folder / name)
        for place in (config, config.get("text_config")):
            if isinstance(place, dict) and (found := place.get("eos_token_id")) is not None:
                return tuple(found) if isinstance(found, list) else (int(found),)
    return ()
