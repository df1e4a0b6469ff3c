"""Asks an endpoint what it thinks comes next: the likeliest tokens after prefixes of a fixed text.

Each position is one request of one token. Prefixes grow by STRIDE tokens, so that an engine that may keep prompts for
this (its adapter says so) computes each token of the text once. They are sent as token ids where the server has a
tokenizer and takes ids, and else as text cut between words.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

import httpx
import orjson
import polars as pl

from models.errors import EndpointError
from models.frames import DISTRIBUTIONS
from models.identity import Record, content_id
from models.progress import Progress, silent
from models.quality import TOP
from models.records import Endpoint
from workloads.address import Address, bearer, http, redacted
from workloads.control import tokenize

TEXT = "quality-1"
"""Name of the text, in workloads/data; another text gets another name."""
POSITIONS, FIRST, STRIDE, WORDS_STRIDE = 64, 8, 4, 3
TIMEOUT_S = 120.0
UNCLEAR = "�"
"""Tokens that are no whole character all look like this: by text they cannot be told apart."""


@dataclass(frozen=True)
class Question:
    """A prefix, and the token that the text goes on with."""

    prompt: list[int] | str
    next_token: int | None = None


@dataclass(frozen=True)
class Distributions:
    """What was asked and told. `frame` has the columns of models.frames.DISTRIBUTIONS but `numerics_id`."""

    text_id: str
    by: Literal["ids", "text"]
    next_tokens: tuple[int | None, ...]
    top: int
    seconds: float
    frame: pl.DataFrame


class _Prefixes(Record):
    text: str
    prompts: tuple[tuple[int, ...] | str, ...]


def ask(endpoint: Endpoint, *, context_tokens: int | None = None, api_key: str | None = None,
        progress: Progress = silent) -> Distributions:
    """Asks all positions of the text, as far as the context reaches. Raises EndpointError when the endpoint tells no
    log-probabilities, with the reason, or answers otherwise than its adapter says."""
    if endpoint.logprobs_max is None:
        raise EndpointError(endpoint.logprobs_refused or f"{endpoint.model} tells no log-probabilities")
    top, started, rows = min(TOP, endpoint.logprobs_max), time.monotonic(), list[tuple[Any, ...]]()
    with http(Address.parse(endpoint.url), bearer(api_key), TIMEOUT_S) as client:
        asked = questions(client, endpoint, context_tokens)
        prompts = tuple(q.prompt if isinstance(q.prompt, str) else tuple(q.prompt) for q in asked)
        text_id = content_id(_Prefixes(text=TEXT, prompts=prompts))
        for position, question in enumerate(asked):
            progress("quality", position / len(asked), f"{position} of {len(asked)} positions")
            told = _one(client, endpoint, question.prompt, top)
            rows += [(text_id, position, rank, *token) for rank, token in enumerate(told)]
    schema = {name: dtype for name, dtype in DISTRIBUTIONS.items() if name != "numerics_id"}
    return Distributions(text_id, "text" if isinstance(asked[0].prompt, str) else "ids",
                         tuple(q.next_token for q in asked), top, time.monotonic() - started,
                         pl.DataFrame(rows, schema=schema, orient="row"))


def questions(client: httpx.Client, endpoint: Endpoint, context_tokens: int | None = None) -> list[Question]:
    """The prefixes, the shortest first. Raises EndpointError when the context holds not even two."""
    text = resources.files("workloads").joinpath(f"data/{TEXT}.txt").read_text()
    special = {"add_special": True} if endpoint.tokenize_field == "content" else {}  # llama-server: as for a prompt
    ids = tokenize(client, endpoint, text, **special) if endpoint.logprobs_form != "tgi" else None
    if ids is None:
        words = text.split(" ")
        ends = [FIRST + WORDS_STRIDE * i for i in range(POSITIONS)]
        found = [Question(" ".join(words[:end])) for end in ends if end < len(words)]
        if context_tokens is not None:  # a token is at least one character
            found = [q for q in found if len(q.prompt) < context_tokens]
    else:
        ends = [FIRST + STRIDE * i for i in range(POSITIONS)]
        found = [Question(ids[:end], ids[end]) for end in ends
                 if end < len(ids) and (context_tokens is None or end < context_tokens)]
    if len(found) < 2:
        raise EndpointError(f"a context of {context_tokens} tokens holds no prefix of the text")
    return found


def _one(client: httpx.Client, endpoint: Endpoint, prompt: list[int] | str, top: int,
         ) -> list[tuple[int | None, str | None, float]]:
    """Id, text and log-probability of the likeliest tokens after a prompt, the likeliest first."""
    path, body = _request(endpoint, prompt, top)
    try:
        answer = client.post(path, json=body, timeout=TIMEOUT_S)
    except httpx.TransportError as error:
        raise EndpointError(f"{endpoint.url}{path}: {redacted(str(error) or type(error).__name__, None)}") from None
    if answer.status_code != 200:
        raise EndpointError(f"{endpoint.url}{path} answered HTTP {answer.status_code} when asked for {top} next tokens:"
                            f" {answer.text[:300]}")
    found: list[tuple[int | None, str | None, float]] = []
    with contextlib.suppress(ValueError, KeyError, IndexError, TypeError, AttributeError):
        found = [row for row in _READERS[endpoint.logprobs_form](orjson.loads(answer.content)) if row[2] is not None]
    if not found:
        raise EndpointError(f"{endpoint.url}{path} told no log-probabilities: {answer.text[:300]}")
    return sorted(found, key=lambda row: -row[2])


def _request(endpoint: Endpoint, prompt: list[int] | str, top: int) -> tuple[str, dict[str, object]]:
    if endpoint.logprobs_form == "sglang":
        asked = {"text": prompt} if isinstance(prompt, str) else {"input_ids": prompt}
        return "/generate", {**asked, "sampling_params": {"max_new_tokens": 1, "temperature": 0.0},
                             "return_logprob": True, "top_logprobs_num": top, **endpoint.logprobs_body}
    if endpoint.logprobs_form == "tgi":
        return "/generate", {"inputs": prompt, "parameters": {"max_new_tokens": 1, "details": True,
                                                              "top_n_tokens": top, **endpoint.logprobs_body}}
    return endpoint.completions_path, {"model": endpoint.model, "prompt": prompt, "max_tokens": 1, **endpoint.body,
                                       "temperature": 0.0, "logprobs": top, **endpoint.logprobs_body}


Rows = Iterator[tuple[int | None, str | None, float]]


def _completions(answer: dict[str, Any]) -> Rows:
    """OpenAI's `top_logprobs`, by text (vLLM: by `token_id:N`, if asked so); or llama-server's list of tokens, which is
    shaped as in chat answers and has ids."""
    told = answer["choices"][0]["logprobs"]
    if "content" in told:
        for token in told["content"][0]["top_logprobs"]:
            yield token.get("id"), token["token"], token["logprob"]
        return
    for text, logprob in told["top_logprobs"][0].items():
        name, _, number = text.partition(":")
        if name == "token_id" and number.isdigit():
            yield int(number), None, logprob
        elif UNCLEAR not in text:
            yield None, text, logprob


def _sglang(answer: dict[str, Any]) -> Rows:
    """Triples of log-probability, id and text (None where it was not asked for)."""
    for logprob, token, text in answer["meta_info"]["output_top_logprobs"][0]:
        yield token, text, logprob


def _tgi(answer: dict[str, Any]) -> Rows:
    for token in answer["details"]["top_tokens"][0]:
        yield token["id"], token["text"], token["logprob"]


_READERS = {"completions": _completions, "sglang": _sglang, "tgi": _tgi}
