"""A library's CUDA machine code, less what one GPU has no use for."""

from __future__ import annotations

import mmap
import re
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

_MAGIC = struct.pack("<IHH", 0xBA55ED50, 1, 16)
_ELF, _ZSTD = 2, b"\x28\xb5\x2f\xfd"
_KERNEL = re.compile(rb"\.text\.(_Z\w+)")


def blank(library: Path, wanted: Callable[[int, set[bytes]], bool]) -> int:
    """Overwrites with zeros the machine code in a library of which `wanted`, given the number of its architecture (90)
    and the mangled names of its kernels, says no: nothing moves, and zeros take no room once compressed. Returns the
    bytes left. PTX goes, too."""
    left = 0
    with library.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        for kind, architecture, begin, end in _entries(data):
            if kind == _ELF and wanted(architecture, set(_KERNEL.findall(_unpacked(data[begin:end])))):
                left += end - begin
            else:
                data[begin:end] = bytes(end - begin)
    return left


def _entries(data: mmap.mmap) -> Iterator[tuple[int, int, int, int]]:
    """Kind, architecture, and where its content begins and ends, of every entry of every fatbin."""
    at = 0
    while (at := data.find(_MAGIC, at)) >= 0:
        at, end = at + 16, at + 16 + struct.unpack_from("<Q", data, at + 8)[0]
        while at < end:
            kind, header = struct.unpack_from("<HxxI", data, at)
            size, architecture = struct.unpack_from("<Q12xI", data, at + 8)
            yield kind, architecture, at + header, at + header + size
            at += header + size


def _unpacked(code: bytes) -> bytes:
    return subprocess.run(["zstd", "-dc"], input=code, capture_output=True).stdout if code.startswith(_ZSTD) else code
