"""Reads the header of a GGUF file: metadata and tensor table, without its weights.

Written here because `gguf.GGUFReader` takes seconds to index a large vocabulary, and needs the whole file. Layout:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (version 3; version 2 has the same layout).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from engines._gguf_more import more
from models.errors import ModelError
from models.specs import Architecture

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_LARGEST = 1 << 28  # bytes of one value: more is not a header but damage


@dataclass(frozen=True)
class Tensor:
    """One entry of the tensor table; `shape` has the contiguous dimension (a row's length) first."""

    name: str
    shape: tuple[int, ...]
    type: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @cached_property
    def bytes(self) -> int:
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(self.type)]
        return int(self.elements // block * size)


@dataclass(frozen=True)
class Header:
    """What a GGUF file says about itself."""

    metadata: dict[str, Any]
    tensors: tuple[Tensor, ...]

    @property
    def parameters(self) -> int:
        return sum(t.elements for t in self.tensors)

    @property
    def tensor_bytes(self) -> int:
        return sum(t.bytes for t in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        return self.tensor_bytes * 8 / max(self.parameters, 1)

    @property
    def quantization(self) -> str:
        """`Q4_K_M`, or the commonest type of the weights where the file does not say."""
        from gguf.constants import GGMLQuantizationType, LlamaFileType

        declared = self.metadata.get("general.file_type")
        if declared is not None and declared in {int(t) for t in LlamaFileType}:
            return LlamaFileType(declared).name.removeprefix("MOSTLY_").removeprefix("ALL_")
        weights: dict[int, int] = {}
        for tensor in self.tensors:
            weights[tensor.type] = weights.get(tensor.type, 0) + tensor.elements
        return GGMLQuantizationType(max(weights, key=lambda t: weights[t])).name if weights else "unknown"

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """Ids of the tokens that end a generation."""
        names = ("eos", "eot", "eom")
        ids = (self.metadata.get(f"tokenizer.ggml.{n}_token_id") for n in names)
        return tuple(dict.fromkeys(i for i in ids if i is not None))

    def architecture(self) -> Architecture:
        """Raises ModelError when the file is no decoder with attention, or its header is incomplete."""
        m, family = self.metadata, str(self.metadata.get("general.architecture", "?"))
        try:
            heads = _largest(m[f"{family}.attention.head_count"])
            hidden = int(m[f"{family}.embedding_length"])
            names = {t.name: t for t in self.tensors}
            return Architecture(
                family=family, layers=int(m[f"{family}.block_count"]), hidden_size=hidden, heads=heads,
                kv_heads=_largest(m.get(f"{family}.attention.head_count_kv", heads)),
                head_dim=int(m.get(f"{family}.attention.key_length") or hidden // heads),
                intermediate_size=_largest(m[f"{family}.feed_forward_length"]),
                vocabulary=names["token_embd.weight"].shape[1], parameters=self.parameters,
                tied_embeddings="output.weight" not in names, context_tokens=int(m[f"{family}.context_length"]),
                **more(m, family, {t.name: t.elements for t in self.tensors}))
        except (KeyError, IndexError, ValueError) as error:
            raise ModelError(f"its header lacks what a text model has: {error}") from error


def _largest(value: Any) -> int:
    """Some models vary a size by layer; memory and time follow the largest."""
    return int(max(value) if isinstance(value, list) else value)


def read_header(path: Path) -> Header:
    """Raises ModelError naming the file when it is missing, unreadable or not a GGUF."""
    try:
        with path.open("rb") as file:
            return parse_header(file)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def parse_header(file: BinaryIO) -> Header:
    """Raises ModelError when this is not a GGUF, or is cut off inside its header."""
    if file.read(4) != b"GGUF":
        raise ModelError("not a GGUF file (it does not start with the letters GGUF)")
    try:
        version, = struct.unpack("<I", _read(file, 4))
        if version not in (2, 3):
            raise ModelError(f"GGUF version {version} is not known (2 and 3 are)")
        tensor_count, field_count = struct.unpack("<QQ", _read(file, 16))
        metadata = {}
        for _ in range(field_count):
            name = _string(file)
            metadata[name] = _value(file, *struct.unpack("<I", _read(file, 4)))
        return Header(metadata, tuple(_tensor(file) for _ in range(tensor_count)))
    except (struct.error, UnicodeDecodeError, KeyError, OverflowError, MemoryError) as error:
        raise ModelError("its GGUF header is cut off or damaged") from error


def _read(file: BinaryIO, size: int) -> bytes:
    data = file.read(size) if size <= _LARGEST else b""
    if len(data) != size:
        raise struct.error
    return data


def _string(file: BinaryIO) -> str:
    length, = struct.unpack("<Q", _read(file, 8))
    return _read(file, length).decode()


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        of, count = struct.unpack("<IQ", _read(file, 12))
        if of in _SCALARS:
            code = _SCALARS[of][1]
            return list(struct.unpack(f"<{count}{code}", _read(file, count * struct.calcsize(f"<{code}"))))
        return [_value(file, of) for _ in range(count)]
    format_ = _SCALARS[kind]
    return struct.unpack(format_, _read(file, struct.calcsize(format_)))[0]


def _tensor(file: BinaryIO) -> Tensor:
    name = _string(file)
    dimensions, = struct.unpack("<I", _read(file, 4))
    shape = struct.unpack(f"<{dimensions}Q", _read(file, 8 * dimensions))
    kind, _offset = struct.unpack("<IQ", _read(file, 12))
    return Tensor(name, shape, kind)
