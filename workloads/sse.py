"""Server-sent events, parsed after the run from all the bytes of an answer (WHATWG HTML, 9.2 "Server-sent events")."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

_LINE = re.compile(rb"([^\r\n]*)(\r\n|\n|\r)")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Events:
    """The events of a stream that carried data. ends[i] is the offset just behind the blank line that closed event i;
    `names` maps the position of events with an `event:` field to its value."""

    data: list[bytes]
    ends: Ints
    names: dict[int, bytes]


def parse(body: bytes) -> Events:
    """Returns the events of a whole answer. What follows the last blank line is no event, as the standard says."""
    return _plain(body) or _general(body)


def _plain(body: bytes) -> Events | None:
    """The form nearly every engine sends, `data: …` (TGI: `data:…`) and one blank line; None for any other. Far faster:
    the bytes are only looked at by methods of `bytes`."""
    field = b"data: " if body.startswith(b"data: ") else b"data:"
    if not body.startswith(field) or b"\r" in body or (field == b"data:" and b"\n\ndata: " in body):
        return None
    data = body[len(field):].split(b"\n\n" + field)
    rest = b""
    if data[-1].endswith(b"\n\n"):
        data[-1] = data[-1][:-2]
    elif data[-1].count(b"\n\n"):
        return None
    else:
        rest = data.pop()
    if body.count(b"\n") != 2 * len(data) + rest.count(b"\n"):
        return None
    lengths = np.fromiter(map(len, data), np.int64, len(data))
    return Events(data, np.cumsum(lengths + (len(field) + 2)), {})


def _general(body: bytes) -> Events:
    """Line by line: CRLF, LF or CR; comments; data over several lines; an optional space after the colon."""
    data: list[bytes] = []
    ends: list[int] = []
    names: dict[int, bytes] = {}
    lines: list[bytes] = []
    name = b""
    for match in _LINE.finditer(body, len(_BOM) if body.startswith(_BOM) else 0):
        line = match[1]
        if line:
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                lines.append(value)
            elif field == b"event":
                name = value
            continue
        if lines:
            if name:
                names[len(data)] = name
            data.append(b"\n".join(lines))
            ends.append(match.end())
        lines, name = [], b""
    return Events(data, np.array(ends, np.int64), names)
