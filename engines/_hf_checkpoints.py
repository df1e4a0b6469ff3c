"""From a model and a quantisation to a Hugging Face folder on this disk, cached by content: for every engine but
llama.cpp."""

from __future__ import annotations

import json
from pathlib import Path

from engines import _cache, _llama_build, _safetensors, _synthetic
from engines._contract import Checkpoint
from models.errors import Unsupported
from models.progress import Progress, silent
from models.specs import ModelSpec

QUANTIZATIONS = tuple(_safetensors.DTYPES)
"""What is made here from a synthetic model."""


def hf_checkpoint(model: ModelSpec, quantization: str, progress: Progress = silent) -> Checkpoint:
    """Returns the model's folder (config.json, *.safetensors, tokenizer) in that quantisation, made or fetched now if
    need be.

    Raises Unsupported where the weights at hand cannot become that quantisation, ModelError when they cannot be had.
    """
    if quantization not in QUANTIZATIONS:
        raise Unsupported("engine.quantization",
                          f"no {quantization!r} is made of {model.name}: there are {', '.join(QUANTIZATIONS)}")
    return described(_synthetic_folder(model, quantization, progress))


def _synthetic_folder(model: ModelSpec, quantization: str, progress: Progress) -> Path:
    step = f"model {model.name}"
    _synthetic.seed_of(model)  # an unknown recipe is found before anything is built

    def make(folder: Path) -> None:
        progress(step, 0.0, quantization)
        vocabulary = _llama_build.any_toolchain(progress).vocabulary(_synthetic.shape(model.name).vocabulary)
        _safetensors.write(model, vocabulary, folder, quantization, lambda done: progress(step, done, quantization))

    key = _cache.content_key(model.name, f"hf-{quantization}", f"{model.name} {model.content} {_safetensors.RECIPE}")
    return _cache.keyed("checkpoints", key, make, progress, step)


def described(folder: Path) -> Checkpoint:
    """What a folder's files say of it."""
    files = sorted(folder.glob("*.safetensors"))
    tensors = [t for file in files for t in _safetensors.tensors_of(file)]
    bits = 8 * sum(t.bytes for t in tensors) / max(sum(t.elements for t in tensors), 1)
    config = json.loads((folder / "config.json").read_text())
    ends = config.get("eos_token_id")
    return Checkpoint(folder, sum(f.stat().st_size for f in folder.iterdir() if f.is_file()), round(bits, 4), (),
                      tuple(ends) if isinstance(ends, list) else () if ends is None else (ends,))
