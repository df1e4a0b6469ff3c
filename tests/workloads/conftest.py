"""Traces as they are published, small enough to check by eye."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.0319600,3180,8
2023-11-16 18:17:04.0781490,110,27
2023-11-16 18:17:05.9799600,7433,14
"""
CONVERSATION = [(0, 1300, 500, [0, 1, 2]), (0, 600, 90, [0, 3]), (3000, 2000, 7, [0, 1, 4, 5]), (3000, 40, 20, None),
                (9000, 1400, 300, [0, 1, 2])]


def line(at: object, new: object, out: object, ids: object = None) -> str:
    known = {"timestamp": at, "input_length": new, "output_length": out}
    return json.dumps(known if ids is None else {**known, "hash_ids": ids}) + "\n"


def written(folder: Path, text: str, name: str = "trace") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


@pytest.fixture
def conversation(tmp_path: Path) -> Path:
    return written(tmp_path, "".join(line(*row) for row in CONVERSATION), "talk.jsonl")
