"""Words of known length in tokens, learnt from the server itself, so that a prompt of N tokens can be put together.

No text is copied from anywhere: words are made of syllables, plus a few dozen of the commonest English ones.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, replace
from typing import Literal

import httpx
import numpy as np

from models.records import Endpoint
from models.specs import Api, Workload
from workloads.address import Address, bearer, http
from workloads.control import prompt_tokens, tokenize
from workloads.dialects import functions
from workloads.structured import asked, instruction

# ruff: noqa: SIM905
COMMON = ("the of and to in is it you that he was for on are with as his they be at one have this from or had by word "
          "but not what all were we when your can said there use an each which she do how their if will up other about "
          "out many then them these so some her would make like him into time has look two more go see no way").split()
_ONSETS = "b c d f g h l m n p r s t v w bl br ch cl cr dr fl gr pl pr sh sl sp st tr".split()
_NUCLEI = "a e i o u ea ou".split()
_CODAS = ("", *"b ck d g l ll m n nd ng p r rt s st t x".split())
CANDIDATES = 4000
WORDS_MIN = 64
PROBE_WORDS = 8
QUERY_TIMEOUT_S = 60.0
LETTERS_PER_TOKEN = 4
"""Of English and JSON, roughly."""


@dataclass(frozen=True)
class Vocabulary:
    """Words, each of tokens_per_word tokens, and the tokens that a server adds around them.

    source: `tokenizer` (each word is one token by the server's own tokenizer), `calibrated` (tokens per word from the
    usage of two probes) or `assumed` (the server says neither: one token a word). Overheads are tokens beside the
    words: of a plain prompt (BOS), of a chat with one user message, with a system message too (None: the
    template takes none), and of each further pair of an assistant's and a user's message. `fit` adds those of one
    workload: of the sentences that ask for its form of answer, and of the functions it offers.
    """

    words: tuple[str, ...]
    tokens_per_word: float = 1.0
    source: Literal["tokenizer", "calibrated", "assumed"] = "assumed"
    completions_overhead: int = 0
    chat_overhead: int = 0
    chat_system_overhead: int | None = 0
    chat_turn_overhead: int = 0
    asking_tokens: int = 0
    tools_tokens: int = 0

    def count(self, tokens: int) -> int:
        """Returns how many words make that many tokens: at least one."""
        return max(1, round(tokens / self.tokens_per_word))


def learn(endpoint: Endpoint, api: Api | None = None, api_key: str | None = None) -> Vocabulary:
    """Learns words and overheads from a server that answers: two requests to its tokenizer where it has one, and up to
    six of one token each (fewer when only one `api` will be used). Never raises for what a server does not offer;
    `source` says how sure the lengths are."""
    key = bearer(api_key)
    with http(Address.parse(endpoint.url), key, QUERY_TIMEOUT_S) as client:
        words = _single_tokens(client, endpoint)
        per_word = 1.0 if words else _tokens_per_word(client, endpoint, None if api == "chat" else api)
        source: Literal["tokenizer", "calibrated", "assumed"] = (
            "tokenizer" if words else "assumed" if per_word is None else "calibrated")
        known = Vocabulary(tuple(words or COMMON), per_word or 1.0, source)
        return _with_overheads(known, client, endpoint, api)


def fit(known: Vocabulary, workload: Workload, endpoint: Endpoint | None = None, api_key: str | None = None,
        ) -> Vocabulary:
    """Returns a vocabulary that knows what a workload's form of answer adds to prompts: counted by the server in two or
    three requests of one token, or estimated from letters when there is no endpoint or it does not say. Free text adds
    nothing and asks nothing."""
    question = instruction(workload)
    if not question:
        return replace(known, asking_tokens=0, tools_tokens=0)
    tools = {"tools": functions(workload)} if workload.tools else {}
    guess = replace(known, asking_tokens=len(question) // LETTERS_PER_TOKEN,
                    tools_tokens=len(json.dumps(tools)) // LETTERS_PER_TOKEN if tools else 0)
    if endpoint is None:
        return guess
    text = " ".join(known.words[:PROBE_WORDS])
    with http(Address.parse(endpoint.url), bearer(api_key), QUERY_TIMEOUT_S) as client:
        def counted(text: str, **more: object) -> int | None:
            said = {"messages": [{"role": "user", "content": text}]} if workload.api == "chat" else {"prompt": text}
            return prompt_tokens(client, endpoint, workload.api, **said, **more)
        plain, asking = counted(text), counted(asked(text, question))
        offering = counted(asked(text, question), **tools) if tools else asking
    if plain is None or asking is None:
        return guess
    return replace(known, asking_tokens=max(1, asking - plain),
                   tools_tokens=guess.tools_tokens if offering is None else max(0, offering - asking))


def candidates() -> list[str]:
    """Returns pronounceable words, the same ones everywhere, no two alike."""
    one = ["".join(parts) for parts in itertools.product(_ONSETS, _NUCLEI, _CODAS)]
    rng = np.random.Generator(np.random.PCG64(20))
    two = ["".join(one[i] for i in pair) for pair in rng.integers(len(one), size=(CANDIDATES, 2))]
    return list(dict.fromkeys([*COMMON, *one, *(w for w in two if len(w) <= 7)]))[:CANDIDATES]


def _single_tokens(client: httpx.Client, endpoint: Endpoint) -> list[str]:
    """Words that are one token both after a space and at the beginning of a line; [] when too few can be found.

    One request has every candidate on a line of its own. Lines are told apart by the newline's token.
    """
    wanted = candidates()
    spaced, bare = (_per_line(client, endpoint, [lead + w for w in wanted]) for lead in (" ", ""))
    if spaced is None or bare is None:
        return []
    words = [w for w, a, b in zip(wanted, spaced, bare, strict=True) if len(a) == 1 and len(b) == 1]
    return words if len(words) >= WORDS_MIN else []


def _per_line(client: httpx.Client, endpoint: Endpoint, lines: list[str]) -> list[list[int]] | None:
    """Returns the tokens of each line; None when lines cannot be told apart."""
    ids = tokenize(client, endpoint, "\n" + "".join(f"{line}\n" for line in lines))
    if not ids:
        return None
    newline = ids[-1]
    groups: list[list[int]] = [[]]
    for token in ids:
        if token == newline:
            groups.append([])
        else:
            groups[-1].append(token)
    groups = groups[1:-1]  # before the first newline: what a tokenizer puts in front (BOS)
    return groups if len(groups) == len(lines) else None


def _tokens_per_word(client: httpx.Client, endpoint: Endpoint, api: Api | None) -> float | None:
    """From the usage of two prompts of common words, so that what is added to every prompt cancels out."""
    counts = []
    for n in (1, 1 + len(COMMON)):
        text = " ".join((COMMON * 2)[:n])
        count = (prompt_tokens(client, endpoint, api, prompt=text)
                 or prompt_tokens(client, endpoint, messages=[{"role": "user", "content": text}]))
        if count is None:
            return None
        counts.append(count)
    per_word = (counts[1] - counts[0]) / len(COMMON)
    return per_word if per_word > 0 else None


def _with_overheads(known: Vocabulary, client: httpx.Client, endpoint: Endpoint, api: Api | None) -> Vocabulary:
    probe = known.words[:PROBE_WORDS] if known.source == "tokenizer" else known.words  # all, as they were calibrated
    text = " ".join(probe)

    def overhead(texts: int, **question: object) -> int | None:
        count = prompt_tokens(client, endpoint, api, **question)
        return None if count is None else count - round(texts * len(probe) * known.tokens_per_word)

    def said(*roles: str) -> int | None:
        return overhead(len(roles), messages=[{"role": role, "content": text} for role in roles])
    if api != "chat":
        known = replace(known, completions_overhead=overhead(1, prompt=text) or 0)
    if api not in (None, "chat") or (chat := said("user")) is None:
        return known
    turns = said("user", "assistant", "user")
    return replace(known, chat_overhead=chat, chat_system_overhead=said("system", "user"),
                   chat_turn_overhead=0 if turns is None else max(0, turns - chat))
