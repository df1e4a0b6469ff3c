"""Quantised weights: unpacked again by the formulas of those who read them, they are what they were made of."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import deserialize

from engines import _hf_quant, _safetensors, _synthetic
from engines._checkpoints import check_hf, hf_checkpoint, resolve_model
from engines._hf_quant import SCHEMES
from engines._hf_types import tensors_of
from engines._llama_build import Toolchain
from models.errors import Unsupported

Array = np.ndarray[Any, Any]
TINY = "synthetic-llama-15m"
ROWS, COLUMNS, GROUP = 24, 256, 64


def nibbles(words: Array, order: tuple[int, ...] = tuple(range(8))) -> Array:
    """The eight values of each word, along the last axis; `order` says which value each four bits are."""
    values = (words.view(np.uint32)[..., None] >> np.arange(0, 32, 4, dtype=np.uint32)) & 15
    found = np.empty_like(values)
    found[..., list(order)] = values
    return found.reshape(*words.shape[:-1], -1).astype(np.float32)


def stored(tensors: dict[str, Array], folder: Path) -> dict[str, Array]:
    """As it is on the disk."""
    _safetensors.save(tensors, folder)
    data = (folder / "model.safetensors").read_bytes()
    return {name: np.frombuffer(t["data"], tensors[name].dtype).reshape(t["shape"]) for name, t in deserialize(data)}


def unpack_gptq(t: dict[str, Array]) -> Array:
    """(q - (z + 1)) · s, inputs down, packed along them."""
    values = nibbles(t["qweight"].T.copy()).T
    zeros, scales = nibbles(t["qzeros"]) + 1, t["scales"].astype(np.float32)
    return ((values - zeros[t["g_idx"]]) * scales[t["g_idx"]]).T


def unpack_awq(t: dict[str, Array]) -> Array:
    """(q - z) · s, inputs down, packed along outputs in AutoAWQ's order."""
    order = (0, 2, 4, 6, 1, 3, 5, 7)
    group = np.arange(COLUMNS) // GROUP
    return ((nibbles(t["qweight"], order) - nibbles(t["qzeros"], order)[group]) *
            t["scales"].astype(np.float32)[group]).T


def unpack_int4(t: dict[str, Array]) -> Array:
    assert t["weight_shape"].tolist() == [ROWS, COLUMNS]
    return (nibbles(t["weight_packed"]) - 8) * t["weight_scale"].astype(np.float32).repeat(GROUP, axis=1)


def unpack_rows(t: dict[str, Array]) -> Array:
    return t["weight"].astype(np.float32) * t["weight_scale"].astype(np.float32)


@pytest.mark.parametrize(("name", "unpack", "error"), [
    ("GPTQ-INT4", unpack_gptq, 0.12), ("AWQ-INT4", unpack_awq, 0.1), ("W4A16-INT4", unpack_int4, 0.12),
    ("W8A8-INT8", unpack_rows, 0.01), ("W8A8-FP8", unpack_rows, 0.03)])
@pytest.mark.parametrize("shift", [0.0, 0.02])
def test_unpacked_it_is_nearly_what_it_was(name: str, unpack: Callable[[dict[str, Array]], Array], error: float,
                                           shift: float, tmp_path: Path) -> None:
    weights = (np.random.default_rng(0).standard_normal((ROWS, COLUMNS)) * 0.05 + shift).astype(np.float32)
    again = unpack(stored(SCHEMES[name].pack(weights, GROUP), tmp_path))
    assert np.sqrt(np.mean((again - weights) ** 2)) < error * weights.std()
    nothing = np.zeros((ROWS, COLUMNS), np.float32)
    assert not unpack(SCHEMES[name].pack(nothing, GROUP)).any()


def test_groups_divide_the_rows() -> None:
    scheme = SCHEMES["GPTQ-INT4"]
    assert _hf_quant.group_size(scheme, [896, 4864]) == 128
    assert _hf_quant.group_size(scheme, [256, 96]) == 32
    assert _hf_quant.group_size(SCHEMES["W8A8-INT8"], [100]) == 0
    with pytest.raises(Unsupported, match="rows of 100, 256 weights are not divisible by 32"):
        _hf_quant.group_size(scheme, [100, 256])


def test_every_real_shape_takes_the_usual_groups() -> None:
    for name in _synthetic.names():
        rows = [w.shape[1] for w in _synthetic.weights(_synthetic.shape(name)) if len(w.shape) > 1]
        assert _hf_quant.group_size(SCHEMES["AWQ-INT4"], rows) == 128


@pytest.mark.parametrize(("quantization", "method", "bits"), [
    ("W8A8-INT8", "compressed-tensors", 8.0625), ("W8A8-FP8", "compressed-tensors", 8.0625),
    ("W4A16-INT4", "compressed-tensors", 4.125), ("GPTQ-INT4", "gptq", 4.2), ("AWQ-INT4", "awq", 4.15625)])
def test_only_the_layers_matrices_are_quantised(quantization: str, method: str, bits: float,
                                                llama_install: Toolchain) -> None:
    model = resolve_model(TINY)
    made = hf_checkpoint(model, quantization)
    config = json.loads((made.path / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == method
    types = {t.name: t.dtype for t in tensors_of(made.path / "model.safetensors")}
    assert types["model.embed_tokens.weight"] == types["model.norm.weight"] == (
        {"float16": "F16", "bfloat16": "BF16"}[config["torch_dtype"]])
    assert model.architecture is not None
    embedded = model.architecture.vocabulary * model.architecture.hidden_size / model.architecture.parameters
    assert made.bits_per_weight == pytest.approx(16 * embedded + bits * (1 - embedded), rel=0.01)
    assert made.notes == ("rounded to nearest, without calibration",)
    assert made.bytes < hf_checkpoint(model, "BF16").bytes * 0.8


def test_other_groups_than_usual_are_noted(llama_install: Toolchain, tmp_path: Path,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    small = _synthetic.shape(TINY)._replace(layers=1, intermediate_size=96)
    monkeypatch.setattr(_synthetic, "shape", lambda name: small)
    notes = _safetensors.write(resolve_model(TINY), llama_install.vocabulary("llama-spm"), tmp_path, "AWQ-INT4",
                               lambda done: None)
    assert "groups of 32: rows are not divisible by 128" in notes
    assert json.loads((tmp_path / "config.json").read_text())["quantization_config"]["group_size"] == 32


def test_what_cannot_be_made_is_told_before_anything_is_built(cache: Path) -> None:
    with pytest.raises(Unsupported, match="no NVFP4 is made of synthetic-llama-15m: there are F32, F16, BF16, W8A8-I"):
        hf_checkpoint(resolve_model(TINY), "NVFP4")
    assert not cache.exists()
    check_hf(resolve_model(TINY), "FP8", online={"FP8"})


def test_what_the_engine_quantises_itself_comes_as_bf16(llama_install: Toolchain) -> None:
    model = resolve_model(TINY)
    made = hf_checkpoint(model, "FP8", online={"FP8"})
    assert made.path == hf_checkpoint(model, "BF16").path
    assert made.notes == ("stored as BF16, made FP8 by the engine as it loads",)
