"""Quantised weights for Hugging Face engines, each in the bytes that its usual tool writes.

Values are rounded to nearest, without the calibration that those tools do: speed and memory are theirs, quality is a
little less. Embeddings, norms and the output stay in 16 bits, as with those tools.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from engines._hf_types import Array, dtype
from models.errors import Unsupported

_GROUPS = (128, 64, 32)
"""Weights of a row that share a scale: the usual number, then what is tried when rows cannot be divided by it."""
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
_FP8_LARGEST = 448.0


class Scheme(NamedTuple):
    """How one quantisation stores a matrix. `pack` gets its rows and the group size, and gives tensors by the name that
    takes the place of `weight`; `config` is config.json's quantization_config for a group size."""

    compute: str
    grouped: bool
    pack: Callable[[Array, int], dict[str, Array]]
    config: Callable[[int], dict[str, Any]]


def group_size(scheme: Scheme, row_lengths: Iterable[int]) -> int:
    """Returns the largest group that divides every row. Raises Unsupported when none does."""
    rows = set(row_lengths)
    if not scheme.grouped:
        return 0
    for size in _GROUPS:
        if all(row % size == 0 for row in rows):
            return size
    raise Unsupported("engine.quantization",
                      f"rows of {', '.join(map(str, sorted(rows)))} weights are not divisible by {_GROUPS[-1]}")


def _rows_int8(weights: Array, _: int) -> dict[str, Array]:
    scale = _nonzero(np.abs(weights).max(axis=1, keepdims=True) / 127).astype(dtype("BF16"))
    values = np.rint(weights / scale.astype(np.float32)).clip(-127, 127)
    return {"weight": values.astype(np.int8), "weight_scale": scale}


def _rows_fp8(weights: Array, _: int) -> dict[str, Array]:
    import ml_dtypes

    scale = _nonzero(np.abs(weights).max(axis=1, keepdims=True) / _FP8_LARGEST).astype(dtype("BF16"))
    values = (weights / scale.astype(np.float32)).clip(-_FP8_LARGEST, _FP8_LARGEST)
    return {"weight": values.astype(ml_dtypes.float8_e4m3fn), "weight_scale": scale}


def _symmetric_int4(weights: Array, group: int, scale_type: str) -> tuple[Array, Array]:
    """Returns values 0..15, eight of which is zero, and a scale for each group (AutoGPTQ's Quantizer, `sym`)."""
    groups = weights.reshape(len(weights), -1, group)
    scale = _nonzero(2 * np.abs(groups).max(axis=2) / 15).astype(dtype(scale_type))
    values = np.rint(groups / scale.astype(np.float32)[..., None]) + 8
    return values.clip(0, 15).astype(np.uint32).reshape(weights.shape), scale


def _gptq(weights: Array, group: int) -> dict[str, Array]:
    """AutoGPTQ's layout: columns are outputs, eight inputs a word; zero points are stored less one."""
    values, scale = _symmetric_int4(weights, group, "F16")
    rows, columns = weights.shape
    return {"qweight": _words(values.reshape(rows, columns // 8, 8)).T.copy(),
            "qzeros": np.full((columns // group, rows // 8), 0x77777777, np.int32),
            "scales": scale.T.copy(),
            "g_idx": np.arange(columns, dtype=np.int32) // group}


def _awq(weights: Array, group: int) -> dict[str, Array]:
    """AutoAWQ's layout ("gemm"): rows are inputs, eight outputs a word in an order of its own, with zero points."""
    rows, columns = weights.shape
    groups = weights.reshape(rows, -1, group)
    low, high = groups.min(axis=2).clip(max=0), groups.max(axis=2).clip(min=0)
    scale = _nonzero((high - low) / 15).astype(dtype("F16"))
    step = scale.astype(np.float32)
    zero = np.rint(-low / step).clip(0, 15)
    values = (np.rint(groups / step[..., None]) + zero[..., None]).clip(0, 15).reshape(rows, columns)

    def packed(matrix: Array) -> Array:
        across = matrix.astype(np.uint32).T
        return _words(across.reshape(len(across), rows // 8, 8)[..., _AWQ_ORDER])

    return {"qweight": packed(values), "qzeros": packed(zero), "scales": scale.T.copy()}


def _packed_int4(weights: Array, group: int) -> dict[str, Array]:
    """compressed-tensors' pack-quantized: eight inputs a word."""
    values, scale = _symmetric_int4(weights, group, "BF16")
    return {"weight_packed": _words(values.reshape(len(weights), -1, 8)), "weight_scale": scale,
            "weight_shape": np.array(weights.shape, np.int64)}


def _words(values: Array) -> Array:
    """Packs the last axis, eight values of four bits, the first lowest."""
    words: Array = np.bitwise_or.reduce(values << np.arange(0, 32, 4, dtype=np.uint32), axis=-1)
    return words.view(np.int32)


def _nonzero(scale: Array) -> Array:
    return np.where(scale == 0, 1, scale)


def _compressed(fmt: str, weights: dict[str, Any], inputs: dict[str, Any] | None) -> dict[str, Any]:
    def args(**given: Any) -> dict[str, Any]:
        return {"symmetric": True, "dynamic": False, "group_size": None, "block_structure": None, "actorder": None,
                "observer": None, "observer_kwargs": {}} | given

    group = {"targets": ["Linear"], "weights": args(**weights), "input_activations": inputs and args(**inputs),
             "output_activations": None}
    return {"quant_method": "compressed-tensors", "format": fmt, "quantization_status": "compressed",
            "config_groups": {"group_0": group}, "ignore": ["lm_head"], "kv_cache_scheme": None}


def _w8a8(fmt: str, kind: str) -> dict[str, Any]:
    eight = {"num_bits": 8, "type": kind}
    return _compressed(fmt, eight | {"strategy": "channel"}, eight | {"strategy": "token", "dynamic": True})


SCHEMES: dict[str, Scheme] = {
    "W8A8-INT8": Scheme("BF16", False, _rows_int8, lambda _: _w8a8("int-quantized", "int")),
    "W8A8-FP8": Scheme("BF16", False, _rows_fp8, lambda _: _w8a8("float-quantized", "float")),
    "W4A16-INT4": Scheme("BF16", True, _packed_int4, lambda group: _compressed(
        "pack-quantized", {"num_bits": 4, "type": "int", "strategy": "group", "group_size": group}, None)),
    "GPTQ-INT4": Scheme("F16", True, _gptq, lambda group: {
        "quant_method": "gptq", "bits": 4, "group_size": group, "desc_act": False, "sym": True, "lm_head": False,
        "damp_percent": 0.01, "true_sequential": True, "checkpoint_format": "gptq"}),
    "AWQ-INT4": Scheme("F16", True, _awq, lambda group: {
        "quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm",
        "modules_to_not_convert": None}),
}
"""What is made from unquantised weights, by our names."""
