"""From a name to a model; from a model and a quantisation to a GGUF on this disk, made, quantised or fetched."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines import _cache, _hardware, _hf_folder, _hub, _hub_folder, _llama_build, _synthetic
from engines._command import run_logged
from engines._contract import Checkpoint
from engines._gguf import Header, read_header
from engines._hf_checkpoints import check_hf as check_hf
from engines._hf_checkpoints import hf_checkpoint as hf_checkpoint
from models import paths
from models.errors import ModelError, Unsupported
from models.progress import Progress, silent
from models.specs import ModelSpec

QUANTIZATIONS = (
    "F32", "BF16", "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_1", "Q4_0",
    "IQ4_NL", "IQ4_XS", "Q3_K_L", "Q3_K_M", "Q3_K_S", "IQ3_M", "IQ3_S", "Q2_K", "TQ2_0", "TQ1_0")
"""What llama-quantize makes without an importance matrix."""
GUIDED_QUANTIZATIONS = ("IQ3_XXS", "IQ3_XS", "Q2_K_S", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S",
                        "MXFP4_MOE")
"""What can be served from a file that has it, but not made here."""
_UNQUANTIZED = frozenset({"F32", "BF16", "F16"})
_HUB_NAME = re.compile(r"(?P<repository>[\w.-]+/(?![\w.-]+\.gguf$)[\w.-]+)(?::(?P<file>[^:]+\.gguf))?")


def resolve_model(model: str | Mapping[str, Any]) -> ModelSpec:
    """Returns the model that a name or mapping of an experiment file means.

    A name is a synthetic model's, a path (of a file ending in .gguf, or of a Hugging Face folder), or on the Hugging
    Face Hub `repository/name` (all of it) or `repository/name:file.gguf`. A mapping has `name` (one of these, or a
    served model's with `source: served`), and may give `path` or `repository` and `file` instead, and `revision`.
    Raises ModelError, naming the model, when there is no such thing or it is neither of these formats.
    """
    given = {"name": model} if isinstance(model, str) else dict(model)
    name = str(given.get("name") or given.get("path") or given.get("file") or given.get("repository") or "")
    if given.get("source") == "served":
        return ModelSpec.model_validate(given)
    unknown = set(given) - {"name", "source", "path", "repository", "file", "revision", "seed"}
    if unknown:
        raise ModelError(f"model {name}: unknown field {', '.join(sorted(unknown))}")
    if name in _synthetic.names() and not given.get("repository"):
        return _synthetic.synthetic(name, int(given.get("seed") or 0))
    path = Path(given.get("path") or name).expanduser()
    if not given.get("repository") and not given.get("path") and not path.exists() and (
            found := _HUB_NAME.fullmatch(name)):
        given |= {key: value for key, value in found.groupdict().items() if value}
    if given.get("repository"):
        return _on_hub(name, given["repository"], given.get("file"), given.get("revision"))
    if path.is_dir():
        return _hf_folder.local_folder(path, None if name == str(given.get("path") or name) else name)
    if given.get("path") or name.endswith(".gguf"):
        return local_model(path, given.get("name"))
    raise ModelError(f"unknown model {name!r}: give a synthetic one ({', '.join(_synthetic.names())}), a path ending "
                     "in .gguf or of a folder with config.json, repository/name or repository/name:file.gguf")


def _on_hub(name: str, repository: str, file: str | None, revision: str | None) -> ModelSpec:
    if file:
        return _hub.resolve(name, repository, file, revision)
    return _hub_folder.resolve(name, repository, revision)


def local_model(path: Path, name: str | None = None) -> ModelSpec:
    """Returns the model of a GGUF file; its `content` is the file's SHA-256."""
    header = read_header(path)
    if not header.tensors:
        raise ModelError(f"{path}: it has a vocabulary and no weights")
    label = path.stem if name is None or name.endswith(".gguf") else name
    return ModelSpec(name=label, source="file", path=str(path.absolute()), content=_cache.sha256(path),
                     architecture=_architecture(header, path))


def _architecture(header: Header, path: Path) -> Any:
    try:
        return header.architecture()
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def checkpoint(model: ModelSpec, quantization: str, progress: Progress = silent) -> Checkpoint:
    """Returns the model's weights in that quantisation, made or fetched now if need be.

    Raises Unsupported where the weights at hand cannot become that quantisation, ModelError when they cannot be had.
    """
    step = f"model {model.name}"
    if model.source == "synthetic":
        check_makeable(quantization)
        base = _synthetic_f16(model, progress, step)
        source_content = f"{model.name} {model.content}"
    else:
        base = _hub.download(model, progress, step) if model.source == "hub" else _file(model)
        source_content = f"{model.content} {model.file or ''}"
    own = read_header(base).quantization
    if quantization == own:
        return _described(base)
    if own not in _UNQUANTIZED:
        raise Unsupported("engine.quantization", f"{model.name} is {own} already and making it {quantization} would "
                                                 f"quantise twice: ask for {own}, or give an F16 file")
    check_makeable(quantization)
    return _quantized(model, base, source_content, quantization, progress, step)


def check_makeable(quantization: str) -> None:
    """Raises Unsupported for a quantisation that cannot be made from unquantised weights."""
    if quantization in GUIDED_QUANTIZATIONS:
        raise Unsupported("engine.quantization", f"{quantization} needs an importance matrix, which dyno does not "
                                                 "make: give a file that has it")
    if quantization not in QUANTIZATIONS:
        raise Unsupported("engine.quantization",
                          f"llama.cpp has no {quantization!r}: it has {', '.join(QUANTIZATIONS)}")


def _synthetic_f16(model: ModelSpec, progress: Progress, step: str) -> Path:
    _synthetic.seed_of(model)  # an unknown recipe is found before anything is built

    def make(folder: Path) -> None:
        progress(step, 0.0, "F16")
        vocabulary = _llama_build.vocabulary(_synthetic.shape(model.name).vocabulary, progress)
        _synthetic.write(model, vocabulary, folder / f"{model.name}-F16.gguf", lambda done: progress(step, done, "F16"))

    key = _cache.content_key(model.name, "F16", f"{model.name} {model.content}")
    folder = _cache.keyed("checkpoints", key, make, progress, step)
    return folder / f"{model.name}-F16.gguf"


def _quantized(model: ModelSpec, base: Path, content: str, quantization: str, progress: Progress,
               step: str) -> Checkpoint:
    """Runs llama-quantize; its version is part of the key."""
    filename = re.sub(r"[^\w.-]+", "-", f"{model.name.removesuffix('.gguf')}-{quantization}.gguf")

    def make(folder: Path) -> None:
        tools = _llama_build.any_toolchain(progress)
        log = paths.cache() / "logs" / f"quantize-{filename}.log"
        log.unlink(missing_ok=True)

        def on_line(line: str) -> None:
            if found := re.match(r"\[\s*(\d+)/\s*(\d+)\]", line):
                progress(step, int(found[1]) / int(found[2]), quantization)

        progress(step, 0.0, quantization)
        said = run_logged(f"quantising {model.name} to {quantization}",
                          [str(tools.programs / "llama-quantize"), str(base), str(folder / filename), quantization,
                           str(len(_hardware.usable_cpus()))], log, on_line=on_line)
        (folder / "notes.json").write_text(json.dumps(_fallbacks(said)))

    version = _llama_build.pinned_version()
    key = _cache.content_key(model.name, quantization, f"{content} {version}")
    folder = _cache.keyed("checkpoints", key, make, progress, step)
    return _described(folder / filename, tuple(json.loads((folder / "notes.json").read_text())))


def _fallbacks(log: str) -> list[str]:
    """Says which rows could not have the type asked for: llama-quantize only mentions it in passing."""
    found = re.findall(r"ncols\s+(\d+) not divisible by\s+(\d+) \(required for type\s+(\S+?)\s*\).*?"
                       r"falling back to\s+(\S+)", log)
    return [f"{count} tensors have rows of {columns}, not divisible by {block}: {other} instead of {wanted}"
            for (columns, block, wanted, other), count in Counter(found).items()]


def _described(path: Path, notes: tuple[str, ...] = ()) -> Checkpoint:
    header = read_header(path)
    return Checkpoint(path, path.stat().st_size, round(header.bits_per_weight, 4), notes, header.end_tokens)


def _file(model: ModelSpec) -> Path:
    """Raises ModelError when the file is gone or no longer the one that the model was made from."""
    path = Path(model.path or "")
    if not path.is_file():
        raise ModelError(f"model {model.name}: {path} does not exist")
    if model.content and _cache.sha256(path) != model.content:
        raise ModelError(f"model {model.name}: {path} has changed since this experiment was expanded")
    return path
