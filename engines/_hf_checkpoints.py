"""From a model and a quantisation to a Hugging Face folder on this disk, cached by content: for every engine but
llama.cpp."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from engines import _cache, _hf_folder, _hub_folder, _llama_build, _safetensors, _synthetic
from engines._contract import Checkpoint
from engines._hf_quant import SCHEMES
from engines._hf_types import DTYPES, tensors_of
from models.errors import ModelError, Unsupported
from models.progress import Progress, silent
from models.specs import ModelSpec

QUANTIZATIONS = (*DTYPES, *SCHEMES)
"""What is made here from a synthetic model."""
_BASE = "BF16"
"""What an engine gets to quantise a synthetic model from as it loads it."""
_NOTES = "dyno.json"


def check_hf(model: ModelSpec, quantization: str, online: Collection[str] = ()) -> None:
    """Raises Unsupported where the weights at hand cannot become that quantisation; `online` names those that the
    engine makes itself of unquantised weights while it loads them."""
    if model.source == "synthetic":
        if quantization not in QUANTIZATIONS and quantization not in online:
            raise Unsupported("engine.quantization", f"no {quantization} is made of {model.name}: there are "
                                                     f"{', '.join(dict.fromkeys((*QUANTIZATIONS, *online)))}")
        return
    own = model.quantization
    if own is None or quantization == own:
        return
    if own not in DTYPES:
        raise Unsupported("engine.quantization", f"{model.name} is {own} already and is served as that only: ask for "
                                                 f"{own}, or name a model that has {quantization}")
    if quantization not in DTYPES and quantization not in online:
        raise Unsupported("engine.quantization", f"{model.name} is {own}, of which no {quantization} is made here: "
                                                 "name a model that has it")


def hf_checkpoint(model: ModelSpec, quantization: str, progress: Progress = silent,
                  online: Collection[str] = ()) -> Checkpoint:
    """Returns the model's folder (config.json, *.safetensors, tokenizer) in that quantisation, made or fetched now if
    need be. For one of `online`, and for another unquantised type than is stored, the folder is what the engine makes
    it of.

    Raises Unsupported where the weights at hand cannot become that quantisation, ModelError when they cannot be had.
    """
    check_hf(model, quantization, online)
    if model.source == "synthetic":
        stored = quantization if quantization in QUANTIZATIONS else _BASE
        folder = _synthetic_folder(model, stored, progress)
    else:
        stored = model.quantization or quantization
        folder = _hub_folder.download(model, progress, f"model {model.name}") if model.source == "hub" else _file(model)
    notes = () if stored == quantization else (f"stored as {stored}, made {quantization} by the engine as it loads",)
    return described(folder, model.architecture.parameters if model.architecture else None, notes)


def _file(model: ModelSpec) -> Path:
    """Raises ModelError when the folder is gone or no longer what the model was made from."""
    folder = Path(model.path or "")
    try:
        changed = _hf_folder.content(folder) != model.content
    except ModelError as error:
        raise ModelError(f"model {model.name}: {folder}: {error}") from error
    if model.content and changed:
        raise ModelError(f"model {model.name}: {folder} has changed since this experiment was expanded")
    return folder


def _synthetic_folder(model: ModelSpec, quantization: str, progress: Progress) -> Path:
    step = f"model {model.name}"
    _synthetic.seed_of(model)  # an unknown recipe is found before anything is built

    def make(folder: Path) -> None:
        progress(step, 0.0, quantization)
        vocabulary = _llama_build.vocabulary(_synthetic.shape(model.name).vocabulary, progress)
        notes = _safetensors.write(model, vocabulary, folder, quantization,
                                   lambda done: progress(step, done, quantization))
        (folder / _NOTES).write_text(json.dumps(notes))

    key = _cache.content_key(model.name, f"hf-{quantization}", f"{model.name} {model.content} {_safetensors.RECIPE}")
    return _cache.keyed("checkpoints", key, make, progress, step)


def described(folder: Path, parameters: int | None, notes: tuple[str, ...] = ()) -> Checkpoint:
    """What a folder's files say of it. Several packed weights count as one element, so `parameters` is asked for."""
    read = _hf_folder.files(folder)
    tensors = [t for file in read if file.suffix == ".safetensors" for t in tensors_of(file)]
    bits = 8 * sum(t.bytes for t in tensors) / (parameters or max(sum(t.elements for t in tensors), 1))
    made = tuple(json.loads(file.read_text())) if (file := folder / _NOTES).is_file() else ()
    ends = _hf_folder.end_tokens(folder)
    return Checkpoint(folder, sum(f.stat().st_size for f in read), round(bits, 4), made + notes, ends)
