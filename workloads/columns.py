"""From recordings to the columns of `models.frames.REQUESTS`: outcomes decided, tokens counted, stamps assigned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from models.frames import REQUESTS
from models.specs import Workload
from workloads import answer, dialects, validity
from workloads.address import redacted
from workloads.answer import Answer
from workloads.client import Recording
from workloads.schedule import Plan
from workloads.sse import Ints

_NAMED_STATUS = (400, 401, 404, 422, 429)
_PLANNED = ("request_index", "session", "turn", "phase", "input_tokens_planned", "output_tokens_planned")


def frame(plan: Plan, workload: Workload, recordings: Sequence[Recording], t0_ns: int, api_key: str | None = None,
          ) -> pl.DataFrame:
    """Returns one row a recording, in the order of the plan, each read as the workload's API speaks. Stamps are shifted
    so that t0_ns becomes 0; the key is taken out of every error text."""
    take, check = dialects.of(workload.api).take, validity.checker(workload)
    recordings = sorted(recordings, key=lambda r: r.index)
    planned = plan.requests[[r.index for r in recordings]].select(_PLANNED)
    limits = planned["output_tokens_planned"].to_list()
    rows: list[dict[str, Any]] = []
    chunks: list[Ints] = []
    for recording, limit in zip(recordings, limits, strict=True):
        said = answer.read(bytes(recording.body), take) if recording.status == 200 else Answer()
        row, stamps = _row(recording, said, limit, t0_ns, api_key)
        row["output_valid"] = check(said) if check and row["outcome"] == "ok" else None
        rows.append(row)
        chunks.append(stamps)
    schema = {name: kind for name, kind in REQUESTS.items() if name not in _PLANNED and name != "chunk_ns"}
    seen = pl.DataFrame(rows, schema=schema, orient="row")
    return planned.hstack(seen).with_columns(chunk_ns=_lists(chunks)).select(*REQUESTS).cast(REQUESTS)  # type: ignore[arg-type]


def _row(recording: Recording, said: Answer, limit: int, t0_ns: int, api_key: str | None,
         ) -> tuple[dict[str, Any], Ints]:
    outcome, error = _outcome(recording, said)
    stamps = arrivals(recording, said.ends)
    tokens, source = _output_tokens(said, outcome, limit)
    since = -t0_ns

    def at(position: int | None) -> int | None:
        return None if position is None else int(stamps[position]) + since

    chunked = len(stamps) > 0
    row = {
        "input_tokens": said.input_tokens, "cached_tokens": said.cached_tokens, "output_tokens": tokens,
        "output_tokens_source": source, "planned_ns": recording.planned_ns + since,
        "sent_ns": None if recording.sent_ns is None else recording.sent_ns + since,
        "first_byte_ns": int(recording.rows[0, 0]) + since if recording.reads else None,
        "first_reasoning_ns": at(said.first_reasoning), "first_content_ns": at(said.first_content),
        "first_token_ns": at(0 if chunked else None), "last_token_ns": at(-1 if chunked else None),
        "done_ns": recording.done_ns + since, "outcome": outcome, "http_status": recording.status,
        "finish_reason": said.finish_reason, "error": redacted(error, api_key) if error else None,
    }
    return row, stamps - (recording.sent_ns or 0)


def arrivals(recording: Recording, ends: Ints) -> Ints:
    """Returns the instant each event was whole: that of the read in which its last byte came."""
    rows = recording.rows
    stamps: Ints = rows[np.searchsorted(rows[:, 1], ends, side="left"), 0]
    return stamps


def _outcome(recording: Recording, said: Answer) -> tuple[str, str]:
    """Returns the outcome (models.frames.OUTCOMES) and the text that explains it."""
    if recording.ending not in ("complete", "closed"):
        return recording.ending, recording.note
    status = recording.status
    if status is None:
        return "malformed", "the connection ended before the headers of an answer"
    if status != 200:
        return _status_outcome(status), answer.message(bytes(recording.body)) or f"HTTP {status}"
    if said.error is not None:
        return "error_event", said.error
    if said.malformed is not None:
        return ("truncated" if recording.ending == "closed" else "malformed"), said.malformed
    if said.finish_reason is None:
        return "truncated", "the stream ended without a finish reason"
    if recording.ending == "closed" and not said.done:
        return "truncated", "the connection ended before the stream did"
    return "ok", ""


def _status_outcome(status: int) -> str:
    if status in _NAMED_STATUS:
        return f"http_{status}"
    return {4: "http_4xx", 5: "http_5xx"}.get(status // 100, "malformed")


def _output_tokens(said: Answer, outcome: str, limit: int) -> tuple[int | None, str | None]:
    """Usage first; else a finish by length, which means exactly the limit; else the chunks that came."""
    if said.output_tokens is not None:
        return said.output_tokens, "usage"
    if outcome == "ok" and said.finish_reason == "length":
        return limit, "finish_length"
    if len(said.ends):
        return len(said.ends), "chunks"
    return (0, "chunks") if outcome == "ok" else (None, None)


def _lists(chunks: Sequence[Ints]) -> pl.Series:
    """Lists of int64 from arrays, without a Python object for each entry (nor pyarrow, which imports pandas)."""
    return pl.Series([pl.Series(c) for c in chunks], dtype=pl.List(pl.Int64))
