"""Parses streams after the run: which read brought which token, how many there were, and how the answer ended."""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

_EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_ERROR_CHARS = 300


@dataclass
class Answer:
    """What a stream said. Stamps are those given in; None where there was no such token."""

    outcome: str = "ok"
    error: str | None = None
    finish_reason: str | None = None
    first_reasoning_ns: int | None = None
    first_content_ns: int | None = None
    token_stamps: list[int] = field(default_factory=list)
    input_tokens: int | None = None
    cached_tokens: int | None = None
    usage_tokens: int | None = None


def events(body: bytes) -> list[tuple[bytes, int]]:
    """Returns (data, end) of each server-sent event: its data lines joined, and the offset just behind its end.

    Source: the WHATWG's HTML standard, 9.2: lines end with LF, CR or CRLF, one space after the colon is dropped,
    comments and other fields are passed over. A last event that no blank line ends is returned too.
    """
    found, start = [], 0
    for match in _EVENT_END.finditer(body):
        found.append((_data(body[start:match.start()]), match.end()))
        start = match.end()
    if body[start:].strip():
        found.append((_data(body[start:]), len(body)))
    return [(data, end) for data, end in found if data]


def _data(event: bytes) -> bytes:
    if event.startswith(b"data: ") and b"\n" not in event and b"\r" not in event:
        return event[6:]
    lines = [line[5:].removeprefix(b" ") for line in _LINE_END.split(event) if line.startswith(b"data:")]
    return b"\n".join(lines)


def parse(body: bytes, stamps: array[int], ends: array[int]) -> Answer:
    """Reads an answer that came with status 200. `stamps[i]` is when the body had grown to `ends[i]` bytes; an event
    is stamped with the read that brought its last byte."""
    answer = Answer()
    found = events(body)
    if not found:
        answer.outcome, answer.error = "truncated", "the stream was empty"
        return answer
    reads = np.searchsorted(np.frombuffer(ends, np.int64), [end for _, end in found])
    last = len(stamps) - 1
    for (data, _), read in zip(found, reads, strict=True):
        if data != b"[DONE]" and not _take(answer, data, stamps[min(int(read), last)]):
            return answer
    if answer.finish_reason is None:
        answer.outcome, answer.error = "truncated", "the stream ended without a finish reason"
    return answer


def _take(answer: Answer, data: bytes, stamp: int) -> bool:
    """Adds one event; False when it ends the answer with an error."""
    try:
        event = orjson.loads(data)
    except orjson.JSONDecodeError:
        answer.outcome, answer.error = "malformed", f"not JSON: {_short(data.decode(errors='replace'))}"
        return False
    if not isinstance(event, dict):
        answer.outcome, answer.error = "malformed", f"not an object: {_short(str(event))}"
        return False
    if event.get("error"):
        answer.outcome, answer.error = "error_event", _short(_message(event["error"]))
        return False
    if usage := event.get("usage"):
        _usage(answer, usage)
    for choice in event.get("choices") or ():
        _choice(answer, choice, stamp)
    return True


def _choice(answer: Answer, choice: dict[str, Any], stamp: int) -> None:
    delta = choice.get("delta") or {}
    reasoning = delta.get("reasoning_content") or delta.get("reasoning")
    content = choice.get("text") or delta.get("content") or delta.get("tool_calls")
    if reasoning and answer.first_reasoning_ns is None:
        answer.first_reasoning_ns = stamp
    if content and answer.first_content_ns is None:
        answer.first_content_ns = stamp
    if reasoning or content:
        answer.token_stamps.append(stamp)
    if choice.get("finish_reason"):
        answer.finish_reason = str(choice["finish_reason"])


def _usage(answer: Answer, usage: dict[str, Any]) -> None:
    answer.input_tokens = usage.get("prompt_tokens", answer.input_tokens)
    answer.usage_tokens = usage.get("completion_tokens", answer.usage_tokens)
    details = usage.get("prompt_tokens_details") or {}
    if details.get("cached_tokens") is not None:
        answer.cached_tokens = details["cached_tokens"]


def error_text(body: bytes) -> str:
    """The message of an error answer, shortened to a line."""
    text = body.decode(errors="replace")
    try:
        value = orjson.loads(body)
        text = _message(value.get("error", value.get("detail", value))) if isinstance(value, dict) else text
    except orjson.JSONDecodeError:
        pass
    return _short(text)


def _message(error: Any) -> str:
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _ERROR_CHARS else line[:_ERROR_CHARS - 1] + "…"
