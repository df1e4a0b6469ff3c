"""Models known by name without a download: bundled shapes, and more from aiconfigurator-core where it is installed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

import yaml

from models.architectures import from_config
from models.hardware import package
from models.specs import Architecture

_FAMILY = {"architectures": ["BundledForCausalLM"]}
_QUANTISED = re.compile(r"[-._](fp8|nvfp4|mxfp4|w\d+a\d+|int[48]|awq|gptq|bnb|gguf|quantized|quantised|bf16|dynamic|"
                        r"block|static|pertensor|4bit|8bit|marlin|hf)(?=[-._]|$)")
_TUNED = re.compile(r"[-_](instruct|it|chat|base)(?=[-_.]|$)")


@cache
def _configs() -> dict[str, dict[str, Any]]:
    """config.json by repository; the bundled shapes win, and are cut to what matters."""
    found = dict(_packaged())
    bundled = yaml.safe_load(resources.files("models").joinpath("data/architectures.yaml").read_text())["models"]
    return found | {name: {**_FAMILY, **config} for name, config in bundled.items()}


def _packaged() -> Iterator[tuple[str, dict[str, Any]]]:
    if (folder := package()) is None:
        return
    for file in sorted((folder / "model_configs").glob("*_config.json")):
        name = file.name.removesuffix("_config.json")
        if not name.endswith("_hf_quant"):
            config = json.loads(file.read_text())
            beside = file.with_name(f"{name}_hf_quant_config.json")
            if beside.exists() and "quantization_config" not in config:
                said = json.loads(beside.read_text()).get("quantization") or {}
                config["quantization_config"] = {"quant_method": "modelopt"} | said
            yield name.replace("--", "/", 1), config


def names() -> list[str]:
    """Repositories that are known here."""
    return sorted(_configs())


def config(name: str) -> Mapping[str, Any] | None:
    """The config.json of a repository known here: of that very name, of the same without its owner, or of the same
    model as others have quantised or tuned it. None where there is none."""
    known = _configs()
    for plain in (str.lower, _last, _shape):
        wanted = plain(name)
        if found := next((k for k in sorted(known) if plain(k) == wanted), None):
            return known[found]
    return None


def shape(name: str) -> Architecture | None:
    """The architecture of a repository known here (as `config`), None where there is none."""
    if (found := config(name)) is None:
        return None
    return from_config({k: v for k, v in found.items() if k != "parameters"}, found.get("parameters"))


def _last(name: str) -> str:
    return name.lower().rpartition("/")[2]


def _shape(name: str) -> str:
    """`RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w8a8` is `llama-3.1-8b`."""
    plain = re.sub(r"^meta-", "", _last(name))
    while plain != (cut := _TUNED.sub("", _QUANTISED.sub("", plain))):
        plain = cut
    return plain
