"""Request frames made by hand, for tests of pure functions."""

from __future__ import annotations

import polars as pl

from models.frames import REQUESTS

MS = 1_000_000


def request(index: int, sent_ms: float = 0.0, ttft_ms: float = 20.0, itl_ms: float = 10.0, tokens: int = 5,
            **override: object) -> dict[str, object]:
    """One request that was answered: first token after ttft_ms, one chunk every itl_ms, done with the last."""
    sent = round(sent_ms * MS)
    chunks = [round((ttft_ms + i * itl_ms) * MS) for i in range(tokens)]
    row: dict[str, object] = {
        "request_index": index, "session": index, "turn": 0, "phase": "measured", "input_tokens_planned": 100,
        "output_tokens_planned": tokens, "input_tokens": 100, "cached_tokens": 0, "output_tokens": tokens,
        "output_tokens_source": "usage", "planned_ns": sent, "sent_ns": sent, "first_byte_ns": sent + MS,
        "first_reasoning_ns": None, "first_content_ns": sent + chunks[0], "first_token_ns": sent + chunks[0],
        "last_token_ns": sent + chunks[-1], "done_ns": sent + chunks[-1], "outcome": "ok", "http_status": 200,
        "finish_reason": "length", "error": None, "chunk_ns": chunks,
    }
    return row | override


def frame(*rows: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=REQUESTS)
