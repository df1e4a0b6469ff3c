"""What an answer said, read from the raw bytes of its stream after the run: tokens, usage, finish reason, errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from workloads import sse
from workloads.sse import Ints

_DONE = b"[DONE]"
_FAILED_FINISH = ("error", "abort")
"""Finish reasons by which vLLM and SGLang say that an answer was given up."""


@dataclass
class Answer:
    """An answer under HTTP 200. `ends` are the offsets in the body at which each chunk with output was whole;
    `first_reasoning` and `first_content` are positions in it (None: there was none)."""

    ends: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    first_reasoning: int | None = None
    first_content: int | None = None
    finish_reason: str | None = None
    done: bool = False
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    error: str | None = None
    malformed: str | None = None


def read(body: bytes) -> Answer:
    """Reads a completions or chat stream, whole or cut off anywhere. Never raises: what cannot be read is `malformed`.

    Chunks without visible output (a role, an empty delta) are no tokens; reasoning, content, tool calls and refusals
    are.
    """
    events = sse.parse(body)
    answer = Answer()
    if not len(events.data):
        _not_a_stream(body, answer)
        return answer
    data = events.data
    if _DONE in data:
        answer.done = True
        data = data[:data.index(_DONE)]
    carried: list[int] = []
    for i, document in enumerate(_documents(data)):
        try:
            if events.names and events.names.get(i) == b"error":
                answer.error = _message(document)
            kind = None if answer.error else _take(document, answer)
        except (AttributeError, IndexError, KeyError, TypeError):
            answer.malformed = f"not a chunk of an answer: {_shown(data[i])}"
            break
        if answer.error is not None:
            break
        if kind:
            if kind == "reasoning" and answer.first_reasoning is None:
                answer.first_reasoning = len(carried)
            elif kind == "content" and answer.first_content is None:
                answer.first_content = len(carried)
            carried.append(i)
    answer.ends = events.ends[carried] if carried else answer.ends
    return answer


def _documents(data: list[bytes]) -> list[Any]:
    """All events as JSON at once: a tenth of the cost of one by one. Unreadable ones become None."""
    try:
        documents = orjson.loads(b"[" + b",".join(data) + b"]")
        if len(documents) == len(data):
            return list(documents)
    except orjson.JSONDecodeError:
        pass
    return [_document(one) for one in data]


def _document(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def _take(document: Any, answer: Answer) -> str | None:
    """Notes what one event says; returns `content` or `reasoning` when it carried output."""
    if document.get("error") or document.get("object") == "error":
        answer.error = _message(document)
        return None
    usage = document.get("usage")
    if usage:
        _usage(usage, answer)
    choices = document.get("choices")
    if not choices:
        if choices is None and not usage:
            raise KeyError("choices")
        return None
    choice = choices[0]
    reason = choice.get("finish_reason")
    if reason:
        answer.finish_reason = str(reason)
        if reason in _FAILED_FINISH:
            answer.error = f"the engine gave the answer up: finish_reason {reason}"
    delta = choice.get("delta")
    if delta is None:
        return "content" if choice.get("text") else None
    if delta.get("content") or delta.get("tool_calls") or delta.get("refusal"):
        return "content"
    return "reasoning" if delta.get("reasoning_content") or delta.get("reasoning") else None


def _usage(usage: Any, answer: Answer) -> None:
    details = usage.get("prompt_tokens_details") or {}
    answer.input_tokens = _count(usage.get("prompt_tokens"), answer.input_tokens)
    answer.output_tokens = _count(usage.get("completion_tokens"), answer.output_tokens)
    answer.cached_tokens = _count(details.get("cached_tokens"), answer.cached_tokens)


def _count(value: object, before: int | None) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 2**31 else before


def _not_a_stream(body: bytes, answer: Answer) -> None:
    """No event at all: an error in plain JSON, something else, or nothing yet."""
    document = _document(body)
    if isinstance(document, dict) and document.get("error"):
        answer.error = _message(document)
    elif body.strip() and not body.lstrip().startswith((b"data:", b":", b"event:", b"id:", b"retry:")):
        answer.malformed = f"not a stream of events: {_shown(body)}"


def message(body: bytes) -> str:
    """The text of an error answer: its JSON message where there is one, else the body."""
    document = _document(body)
    return _message(document) if isinstance(document, dict) else body[:4096].decode(errors="replace")


def _message(document: Any) -> str:
    """OpenAI: {"error": {"message"}}; TGI: {"error": "…"}; FastAPI: {"detail"}; vLLM of old: {"message"}."""
    error = document.get("error") or document.get("detail") or document.get("message") or document
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        error = error["message"]
    return error if isinstance(error, str) else orjson.dumps(error).decode()


def _shown(data: bytes) -> str:
    return data[:200].decode(errors="replace")
