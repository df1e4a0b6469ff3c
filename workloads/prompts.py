"""Prompts of a wanted number of tokens, each unlike every other, made from words that are one token each."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from models.records import Endpoint
from models.specs import Workload
from workloads import control
from workloads.schedule import Plan, generator, shared_prefix

# ruff: noqa: SIM905
_SHORT = ("the of and to in is it you that he was for on are with as at be this have from or one had by but not what "
          "all were we when your can said there use an each which she do how their if will up other about out many "
          "then them these so some her would make like him into time has look two more go see no way could my than "
          "first been call who now find long down day did get come made may part over new sound take only little work "
          "know place year live me back give most very after thing our just name good man think say great where help "
          "through much before line right too mean old any same tell boy follow came want show also around form three "
          "small set put end does another well large must big even such because turn here why ask went men read need "
          "land home us move try kind hand picture again change off play air away house point page letter").split()
_ENOUGH = 64
_PROBE_WORDS = 24
_RATIO_WORDS = 120


@dataclass(frozen=True)
class Vocabulary:
    """Words for an endpoint's prompts. `tokens_per_word` is 1 where its tokenizer was asked; `overhead` is what a
    request holds beside its words (start token, chat template)."""

    words: tuple[str, ...]
    tokens_per_word: float
    overhead: int

    def count(self, tokens: int) -> int:
        """Words that make that many tokens; at least one."""
        return max(1, round(tokens / self.tokens_per_word))


def learn(endpoint: Endpoint, api: str = "completions", api_key: str | None = None) -> Vocabulary:
    """Asks an endpoint for its tokenizer's single-token words, and with one request for its overhead.

    Raises EndpointError when it does not answer.
    """
    with control.client(endpoint.url, api_key) as http:
        words = _single_tokens(http, endpoint) if endpoint.tokenize_path else ()
        if len(words) >= _ENOUGH:
            probe = words[:_PROBE_WORDS]
            return Vocabulary(words, 1.0, max(0, (_used(http, endpoint, api, probe) or len(probe)) - len(probe)))
        few, many = (_used(http, endpoint, api, _SHORT[:n]) for n in (_PROBE_WORDS, _PROBE_WORDS + _RATIO_WORDS))
    if few is None or many is None:
        return Vocabulary(tuple(_SHORT), 1.0, 0)
    ratio = max(0.1, (many - few) / _RATIO_WORDS)
    return Vocabulary(tuple(_SHORT), ratio, max(0, round(few - ratio * _PROBE_WORDS)))


def _candidates() -> list[str]:
    """Short words, and syllables that a tokenizer may know: 'bal', 'ren', 'tor' …"""
    syllables = ("".join(p) for p in itertools.product("bcdfglmnprstv", "aeiou", "lnrst"))
    return list(dict.fromkeys([*_SHORT, *syllables]))


def _single_tokens(http: httpx.Client, endpoint: Endpoint) -> tuple[str, ...]:
    """Words that lengthen a text by one token; empty when the tokenizer's endpoint is not what it seemed."""
    def count(text: str) -> int | None:
        answer = control.post(http, endpoint.tokenize_path or "", {endpoint.tokenize_field: text})
        tokens = answer.get("tokens") if isinstance(answer, dict) else None
        return len(tokens) if isinstance(tokens, list) else None

    base = count("the")
    if base is None:
        return ()
    words = tuple(w for w in _candidates() if count(f"the {w}") == base + 1)
    together = count(" ".join(("the", *words)))
    return words if together == base + len(words) else ()


def _used(http: httpx.Client, endpoint: Endpoint, api: str, words: tuple[str, ...] | list[str]) -> int | None:
    """Prompt tokens that the endpoint counts for a text, from the usage of a one-token answer."""
    path = endpoint.chat_path if api == "chat" else endpoint.completions_path
    body = _body(endpoint, api, [("user", " ".join(words))], 1) | {"stream": False}
    body.pop("stream_options", None)
    answer = control.post(http, path, body, timeout_s=120.0)
    usage = answer.get("usage") if isinstance(answer, dict) else None
    used = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return used if isinstance(used, int) and used > 0 else None


def bodies(plan: Plan, workload: Workload, endpoint: Endpoint, vocabulary: Vocabulary) -> list[bytes]:
    """Returns the JSON body of every request of a plan, in its order.

    Only a shared prefix and a session's own earlier turns stand in two prompts. The answers within a session's prompts
    are planned text too, so that everything exists before the clock starts.
    """
    text = _writer(vocabulary, plan.seed)
    prefix = text(vocabulary.count(shared_prefix(workload)), "prefix") if workload.shared_prefix_tokens else ""
    out: list[bytes] = []
    history: list[tuple[str, str]] = []
    for i in range(plan.height):
        if plan.turn[i] == 0:
            history = [("system", prefix)] if prefix else []
        own = int(plan.input_tokens[i]) - (vocabulary.overhead if plan.turn[i] == 0 else 0)
        history.append(("user", text(vocabulary.count(own), "prompt", i)))
        out.append(orjson.dumps(_body(endpoint, workload.api, history, int(plan.output_tokens[i]))))
        if workload.turns > 1:
            history.append(("assistant", text(vocabulary.count(int(plan.output_tokens[i])), "answer", i)))
    return out


def _writer(vocabulary: Vocabulary, seed: int) -> Callable[..., str]:
    def text(words: int, *purpose: object) -> str:
        chosen = generator(seed, *purpose).integers(0, len(vocabulary.words), words)
        return " ".join([vocabulary.words[i] for i in chosen])
    return text


def _body(endpoint: Endpoint, api: str, history: list[tuple[str, str]], max_tokens: int) -> dict[str, Any]:
    content: dict[str, Any]
    if api == "chat":
        content = {"messages": [{"role": role, "content": text} for role, text in history]}
    else:
        content = {"prompt": " ".join(text for _, text in history)}
    body = {"model": endpoint.model, **content, "max_tokens": max_tokens, "stream": True, **endpoint.body}
    if endpoint.usage_in_stream:
        body["stream_options"] = {"include_usage": True}
    return body
