"""What tests of the release watch share: what is known, and a warning that nobody expects."""

from __future__ import annotations

from collections.abc import Callable

from flows.releases import Known
from models.releases.release import Release, Seen
from tests.engines.hub import COMMIT

TINY = "synthetic-llama-15m"
NOTHING = Known([])
Answer = tuple[int, dict[str, str], str]
"""Status, headers and body."""
Answers = dict[str, Callable[[dict[str, str]], Answer]]
"""By path; each is told the headers."""
Web = tuple[str, Answers]
LIST = {"sha": COMMIT, "lastModified": "2026-11-20T09:00:00.000Z", "createdAt": "2026-11-19T08:00:00.000Z",
        "gated": False, "tags": ["transformers", "safetensors", "llama", "text-generation", "license:apache-2.0"],
        "safetensors": {"parameters": {"BF16": 15191712}, "total": 15191712}}


def known(*found: Release) -> Known:
    return Known([Seen(release=r, seen_at="", decided_at="", state="evaluated", revisions=(r.revision or "",))
                  for r in found])


def silent(text: str) -> None:
    raise AssertionError(text)
