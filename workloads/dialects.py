"""The four APIs by which an engine is asked for tokens. All that one of them is like is here: where it lives, how a
question becomes a body, how one event of its stream is read.

Lengths are forced (`Endpoint.fixed_length`) by all but TGI's own, which knows no ignore_eos: its answers end where the
model ends them, and are counted. So do those that must obey a schema or call a tool, by every API.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.records import Endpoint
from models.specs import Api, Workload
from workloads.answer import Answer, Output, Take, count, error_text

Fields = dict[str, object]
Ask = Callable[[Fields, int], Fields]
"""From a question (`prompt`, or `messages` where the API is a chat) and the most tokens of its answer to a body."""

GREEDY: Fields = {"temperature": 0.0}
NO_END: Fields = {"ignore_eos": True}
"""vLLM, SGLang, llama-server: go on until the limit. Others refuse it or overlook it."""
_GIVEN_UP = ("error", "abort")
"""Finish reasons by which vLLM and SGLang say that an answer was given up."""
_FINISH = {"limit": "length", "eos": "stop", "word": "stop", "eos_token": "stop", "stop_sequence": "stop"}
"""llama.cpp's and TGI's own words for OpenAI's."""


@dataclass(frozen=True)
class Dialect:
    """One API.

    path(endpoint): where it is. asker(endpoint, workload, stream): what makes bodies; a workload's schema and tools go
    into each. take: reads one event. text: the answer proper in all of them. `sampling` and `fixed_length` are what a
    server that nobody knows is first asked with. chat: takes messages.
    """

    path: Callable[[Endpoint], str]
    asker: Callable[[Endpoint, Workload | None, bool], Ask]
    take: Take
    text: Callable[[Sequence[Any]], str]
    sampling: Fields = field(default_factory=lambda: dict(GREEDY))
    fixed_length: Fields = field(default_factory=lambda: dict(NO_END))
    chat: bool = False


def of(api: Api) -> Dialect:
    """Returns how that API is spoken."""
    return _DIALECTS[api]


def candidates(api: Api | None, question: str | None = None) -> tuple[Dialect, ...]:
    """Returns that API, or the ones to try where none is named: all, or those that take a `prompt` or `messages`."""
    if api is not None:
        return (_DIALECTS[api],)
    return tuple(d for d in _DIALECTS.values() if question is None or d.chat == (question == "messages"))


def _fixed(endpoint: Endpoint, workload: Workload | None) -> Fields:
    """What every request of a run has; the end of an answer is not forbidden where the model has to find it."""
    return {**endpoint.body, **({} if workload and workload.ends_freely else endpoint.fixed_length)}


def _openai(endpoint: Endpoint, workload: Workload | None, stream: bool, form: Fields) -> Ask:
    fixed = {**_fixed(endpoint, workload), **form, "stream": stream}
    if stream and endpoint.usage_in_stream:
        fixed["stream_options"] = {"include_usage": True}
    return lambda question, limit: {"model": endpoint.model, **question, **fixed, "max_tokens": limit}


def _completions(endpoint: Endpoint, workload: Workload | None, stream: bool) -> Ask:
    form: Fields = {}
    if workload and workload.json_schema is not None:
        form = ({"json_schema": workload.json_schema} if endpoint.schema_form == "json_schema" else
                _response_format(workload.json_schema))
    return _openai(endpoint, workload, stream, form)


def _chat(endpoint: Endpoint, workload: Workload | None, stream: bool) -> Ask:
    form: Fields = {}
    if workload and workload.json_schema is not None:
        named = {"json_object": {"type": "json_object", "schema": workload.json_schema},
                 "value": {"type": "json", "value": workload.json_schema}}.get(endpoint.schema_form)
        form = {"response_format": named} if named else _response_format(workload.json_schema)
    if workload and workload.tools:
        form = {"tools": functions(workload), "tool_choice": "required", "parallel_tool_calls": False}
    return _openai(endpoint, workload, stream, form)


def _response_format(schema: Fields) -> Fields:
    return {"response_format": {"type": "json_schema",
                                "json_schema": {"name": "answer", "schema": schema, "strict": True}}}


def functions(workload: Workload) -> list[Fields]:
    """Returns the workload's tools as the chat API takes them; a bare function is wrapped."""
    return [tool if "function" in tool else {"type": "function", "function": tool} for tool in workload.tools or ()]


def _tgi(endpoint: Endpoint, workload: Workload | None, stream: bool) -> Ask:
    """There is no answer in one piece at that path; the engine's fixed fields are parameters. It is greedy unless told
    otherwise, and refuses the temperature 0 by which its OpenAI routes are."""
    parameters = {**_fixed(endpoint, workload), "details": True}
    if not parameters.get("temperature"):
        parameters.pop("temperature", None)
    if workload and workload.json_schema is not None:
        parameters["grammar"] = {"type": "json", "value": workload.json_schema}
    return lambda question, limit: {"inputs": question["prompt"], "parameters": {**parameters, "max_new_tokens": limit}}


def _llama_cpp(endpoint: Endpoint, workload: Workload | None, stream: bool) -> Ask:
    fixed = {**_fixed(endpoint, workload), "stream": stream}
    if workload and workload.json_schema is not None:
        fixed["json_schema"] = workload.json_schema
    return lambda question, limit: {"model": endpoint.model, **question, **fixed, "n_predict": limit}


def _take_openai(document: Any, answer: Answer) -> Output | None:
    choices, usage = document.get("choices"), document.get("usage")
    if usage:
        _usage(usage, answer)
    if "error" in document or not choices:
        if document.get("error") or document.get("object") == "error":
            answer.error = error_text(document)
            return None
        if choices is None and not usage:
            raise KeyError("choices")
        if not choices:
            return None
    choice = choices[0]
    reason = choice.get("finish_reason")
    if reason:
        answer.finish_reason = str(reason)
        if reason in _GIVEN_UP:
            answer.error = f"the engine gave the answer up: finish_reason {reason}"
    delta = choice.get("delta")
    if delta is None:
        return "content" if choice.get("text") else None
    if delta.get("content") or delta.get("tool_calls") or delta.get("refusal"):
        return "content"
    return "reasoning" if delta.get("reasoning_content") or delta.get("reasoning") else None


def _usage(usage: Any, answer: Answer) -> None:
    details = usage.get("prompt_tokens_details") or {}
    answer.input_tokens = count(usage.get("prompt_tokens"), answer.input_tokens)
    answer.output_tokens = count(usage.get("completion_tokens"), answer.output_tokens)
    answer.cached_tokens = count(details.get("cached_tokens"), answer.cached_tokens)


def _take_tgi(document: Any, answer: Answer) -> Output | None:
    """One token an event; the last has the whole text and the details, and nothing comes after it. Special tokens, such
    as the end's, are counted there but show nothing."""
    token = document.get("token")
    if token is None:
        if not document.get("error"):
            raise KeyError("token")
        answer.error = error_text(document)
        return None
    details = document.get("details")
    if details:
        answer.finish_reason = _finish(details.get("finish_reason"))
        answer.input_tokens = count(details.get("input_length"), None)
        answer.output_tokens = count(details.get("generated_tokens"), None)
    answer.done |= document.get("generated_text") is not None
    return "content" if token["text"] and not token.get("special") else None


def _take_llama_cpp(document: Any, answer: Answer) -> Output | None:
    """The last event, or the only one of an answer in one piece, has `stop` and what was counted. Servers from before
    `stop_type` (2024-12) give no reason to end."""
    content = document.get("content")
    if content is None:
        if not document.get("error"):
            raise KeyError("content")
        answer.error = error_text(document)
        return None
    if document.get("stop"):
        answer.done = True
        answer.finish_reason = _finish(document.get("stop_type"))
        answer.input_tokens = count(document.get("tokens_evaluated"), None)
        answer.output_tokens = count(document.get("tokens_predicted"), None)
        answer.cached_tokens = count((document.get("timings") or {}).get("cache_n"), None)
    return "content" if content else None


def _finish(reason: object) -> str | None:
    return None if reason in (None, "", "none") else _FINISH.get(str(reason), str(reason))


def _text_openai(documents: Sequence[Any]) -> str:
    choices = [document["choices"][0] for document in documents if document.get("choices")]
    return "".join((c.get("text") if c.get("delta") is None else c["delta"].get("content")) or "" for c in choices)


def _text_tgi(documents: Sequence[Any]) -> str:
    return next((d["generated_text"] for d in reversed(documents) if d.get("generated_text") is not None), "")


def _text_llama_cpp(documents: Sequence[Any]) -> str:
    return "".join(document["content"] for document in documents)


_DIALECTS: dict[Api, Dialect] = {
    "completions": Dialect(lambda e: e.completions_path, _completions, _take_openai, _text_openai),
    "chat": Dialect(lambda e: e.chat_path, _chat, _take_openai, _text_openai, chat=True),
    "tgi": Dialect(lambda e: e.tgi_path, _tgi, _take_tgi, _text_tgi, sampling={}, fixed_length={}),
    "llama_cpp": Dialect(lambda e: e.llama_cpp_path, _llama_cpp, _take_llama_cpp, _text_llama_cpp),
}
