"""Number types of unquantised weights, by our names, and the table of tensors that a safetensors file begins with."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from models.errors import ModelError

DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""What an unquantised model may be stored and computed in, by our name and Hugging Face's."""

_LARGEST_TABLE = 100_000_000  # bytes: the format's own limit

Array = np.ndarray[Any, Any]


def dtype(quantization: str) -> np.dtype[Any]:
    """numpy's type of `F32`, `F16` or `BF16`."""
    import ml_dtypes

    types: dict[str, Any] = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
    found: np.dtype[Any] = np.dtype(types[quantization])
    return found


class Stored(NamedTuple):
    """One tensor of a file: Hugging Face's name of its type, and its sizes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def tensors_of(file: Path) -> list[Stored]:
    """Reads a file's table: eight bytes of length, then JSON (github.com/huggingface/safetensors, "Format").

    Raises ModelError naming the file when it is none.
    """
    try:
        with file.open("rb") as stream:
            return parse_table(stream)
    except (OSError, ModelError) as error:
        raise ModelError(f"{file}: {error}") from error


def parse_table(stream: BinaryIO) -> list[Stored]:
    """Raises ModelError when this is not the beginning of a safetensors file."""
    try:
        length, = struct.unpack("<Q", stream.read(8))
        text = stream.read(length) if length < _LARGEST_TABLE else b""
        table = json.loads(text if len(text) == length else b"")
        return [Stored(name, t["dtype"], tuple(t["shape"]), t["data_offsets"][1] - t["data_offsets"][0])
                for name, t in table.items() if name != "__metadata__"]
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError("not a safetensors file, or cut off inside its header") from error
