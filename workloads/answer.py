"""What an answer said, read from the raw bytes of its stream after the run: tokens, usage, finish reason, errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import orjson

from workloads import sse
from workloads.sse import Ints

_DONE = b"[DONE]"


@dataclass
class Answer:
    """An answer under HTTP 200. `ends` are the offsets in the body at which each chunk with output was whole;
    `first_reasoning` and `first_content` are positions in it (None: there was none). `done`: the stream said that it
    was its end. `documents` are its events as JSON."""

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
    documents: list[Any] = field(default_factory=list, repr=False)


Output = Literal["content", "reasoning"]
Take = Callable[[Any, Answer], Output | None]
"""Notes in an Answer what one event of an API's stream says, and returns which output it carried, if any. May raise
AttributeError, IndexError, KeyError or TypeError for what is no event of that API."""


def read(body: bytes, take: Take) -> Answer:
    """Reads a stream, whole or cut off anywhere. Never raises: what cannot be read is `malformed`.

    Chunks without visible output (a role, an empty delta, a special token) are no tokens; reasoning, content, tool
    calls and refusals are.
    """
    events = sse.parse(body)
    answer = Answer()
    data = events.data
    if not data:
        _not_a_stream(body, answer)
        return answer
    if _DONE in data:
        answer.done = True
        data = data[:data.index(_DONE)]
    answer.documents = _documents(data)
    carried: list[int] = []
    for i, document in enumerate(answer.documents):
        try:
            if events.names.get(i) == b"error":
                answer.error = error_text(document)
                break
            output = take(document, answer)
        except (AttributeError, IndexError, KeyError, TypeError):
            answer.malformed = f"not a chunk of an answer: {_shown(data[i])}"
            break
        if answer.error is not None:
            break
        if output is not None:
            if output == "content":
                if answer.first_content is None:
                    answer.first_content = len(carried)
            elif answer.first_reasoning is None:
                answer.first_reasoning = len(carried)
            carried.append(i)
    answer.ends = events.ends[carried] if carried else answer.ends
    return answer


def read_whole(body: bytes, take: Take) -> Answer:
    """Reads an answer that may be one JSON document or a stream, as outside the timed run. Never raises."""
    document = _document(body)
    if document is None:
        return read(body, take)
    answer = Answer(documents=[document])
    try:
        take(document, answer)
    except (AttributeError, IndexError, KeyError, TypeError):
        answer.malformed = f"not an answer: {_shown(body)}"
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


def count(value: object, otherwise: int | None) -> int | None:
    """Returns a number of tokens as a server said it, or what was known before where it is none."""
    return value if isinstance(value, int) and 0 <= value < 2**31 else otherwise


def _not_a_stream(body: bytes, answer: Answer) -> None:
    """No event at all: an error in plain JSON, something else, or nothing yet."""
    document = _document(body)
    if isinstance(document, dict) and document.get("error"):
        answer.error = error_text(document)
    elif body.strip() and not body.lstrip().startswith((b"data:", b":", b"event:", b"id:", b"retry:")):
        answer.malformed = f"not a stream of events: {_shown(body)}"


def message(body: bytes) -> str:
    """The text of an error answer: its JSON message where there is one, else the body."""
    document = _document(body)
    return error_text(document) if isinstance(document, dict) else body[:4096].decode(errors="replace")


def error_text(document: Any) -> str:
    """OpenAI: {"error": {"message"}}; TGI: {"error": "…"}; FastAPI: {"detail"}; vLLM of old: {"message"}."""
    error = document.get("error") or document.get("detail") or document.get("message") or document
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        error = error["message"]
    return error if isinstance(error, str) else orjson.dumps(error).decode()


def _shown(data: bytes) -> str:
    return data[:200].decode(errors="replace")
