"""From raw exchanges to request columns: parsed once the clock has stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from models.frames import PHASES, REQUESTS
from workloads import sse
from workloads.client import Exchange
from workloads.schedule import Plan

_STATUS_OUTCOMES = {400, 401, 404, 422, 429}


def rows(plan: Plan, exchanges: Sequence[Exchange], start_ns: int) -> pl.DataFrame:
    """Returns one row for each exchange with the columns of models.frames.REQUESTS, in the order of the plan."""
    found = [_row(plan, e, start_ns) for e in sorted(exchanges, key=lambda e: e.index)]
    return pl.DataFrame(found, schema=REQUESTS, orient="row")


def _row(plan: Plan, exchange: Exchange, start_ns: int) -> dict[str, Any]:
    answer, i = _answer(exchange), exchange.index
    planned_output = int(plan.output_tokens[i])
    tokens, source = _tokens(answer, planned_output)
    stamps = answer.token_stamps
    firsts = [t for t in (answer.first_reasoning_ns, answer.first_content_ns) if t is not None]

    def since_start(stamp: int | None) -> int | None:
        return stamp - start_ns if stamp else None

    return {
        "request_index": i, "session": int(plan.session[i]), "turn": int(plan.turn[i]),
        "phase": PHASES[int(plan.phase[i])], "input_tokens_planned": int(plan.prompt_tokens[i]),
        "output_tokens_planned": planned_output, "input_tokens": answer.input_tokens,
        "cached_tokens": answer.cached_tokens, "output_tokens": tokens, "output_tokens_source": source,
        "planned_ns": exchange.planned_ns - start_ns, "sent_ns": since_start(exchange.sent_ns),
        "first_byte_ns": since_start(exchange.first_byte_ns),
        "first_reasoning_ns": since_start(answer.first_reasoning_ns),
        "first_content_ns": since_start(answer.first_content_ns),
        "first_token_ns": since_start(min(firsts, default=None)),
        "last_token_ns": since_start(max(stamps, default=None)),
        "done_ns": since_start(exchange.done_ns), "outcome": answer.outcome,
        "http_status": exchange.status or None, "finish_reason": answer.finish_reason, "error": answer.error,
        "chunk_ns": [t - exchange.sent_ns for t in stamps],
    }


def _answer(exchange: Exchange) -> sse.Answer:
    """What the exchange gave. One that the transport cut keeps the tokens that came before."""
    if exchange.status and exchange.status != 200:
        return sse.Answer(outcome=_status_outcome(exchange.status), error=sse.error_text(bytes(exchange.body)))
    if exchange.body:
        answer = sse.parse(bytes(exchange.body), exchange.stamps, exchange.ends)
    else:
        answer = sse.Answer(outcome="truncated", error="the answer was empty")
    if exchange.failure:
        answer.outcome, answer.error = exchange.failure, exchange.reason or None
    return answer


def _status_outcome(status: int) -> str:
    if status in _STATUS_OUTCOMES:
        return f"http_{status}"
    return "http_5xx" if status >= 500 else "http_4xx" if status >= 400 else "malformed"


def _tokens(answer: sse.Answer, planned: int) -> tuple[int, str]:
    """Output tokens, and how they are known: the engine's usage; finish reason `length`, so exactly what was asked;
    or counted."""
    if answer.usage_tokens is not None:
        return answer.usage_tokens, "usage"
    if answer.finish_reason == "length":
        return planned, "finish_length"
    return len(answer.token_stamps), "chunks"
