"""Request bodies of exactly the planned lengths, made before the clock starts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import orjson

from models.records import Endpoint
from models.specs import Workload
from workloads.schedule import Plan, prefix_tokens
from workloads.vocabulary import Vocabulary as Vocabulary
from workloads.vocabulary import learn as learn

RIVER_WORDS = 50_000


def bodies(plan: Plan, workload: Workload, endpoint: Endpoint, vocabulary: Vocabulary) -> list[bytes]:
    """Returns the JSON body of each planned request.

    Each session's text is a stretch of its own out of one long random text, so that no two prompts begin alike, except
    for the workload's shared prefix. A later turn carries the earlier ones and, in place of what the engine really
    said, random words of the planned length: only so can bodies be made beforehand. (An engine's prefix cache then
    knows the earlier prompts, but not those answers.)
    """
    prefix = vocabulary.count(prefix_tokens(workload)) if prefix_tokens(workload) else 0
    words = plan.requests.select("session", "turn", "new_tokens", "output_tokens_planned").iter_rows()
    sessions = int(plan.requests["session"].n_unique())
    longest = vocabulary.count(plan.longest_tokens) + workload.turns
    river = _River(vocabulary.words, plan.text_seed, prefix, sessions, longest)
    make = _chat if workload.api == "chat" else _completions
    fixed: dict[str, object] = {**endpoint.body, "stream": True}
    if endpoint.usage_in_stream:
        fixed["stream_options"] = {"include_usage": True}
    return [orjson.dumps({"model": endpoint.model, **prompt, **fixed, "max_tokens": limit})
            for prompt, limit in make(words, river, vocabulary, prefix)]


class _River:
    """One long text of random words. Its first `prefix` words are the shared prefix; sessions start behind it, each at
    a place of its own."""

    def __init__(self, words: tuple[str, ...], seed: int, prefix: int, sessions: int, longest: int) -> None:
        rng = np.random.Generator(np.random.PCG64(seed))
        places = max(RIVER_WORDS, 4 * sessions)
        drawn = [words[i] for i in rng.integers(len(words), size=prefix + places + longest).tolist()]
        self._text = " ".join(drawn)
        self._at = np.concatenate([[0], np.cumsum([len(w) + 1 for w in drawn])]).tolist()
        self._starts = (prefix + rng.choice(places, size=sessions, replace=False)).tolist()

    def start(self, session: int) -> int:
        """Returns the word at which a session's text begins."""
        return int(self._starts[session])

    def words(self, start: int, count: int) -> str:
        """Returns `count` words from the start-th on."""
        return self._text[self._at[start]:self._at[start + count] - 1]


Rows = Iterator[tuple[int, int, int, int]]
Prompts = Iterator[tuple[dict[str, object], int]]


def _completions(rows: Rows, river: _River, vocabulary: Vocabulary, prefix: int) -> Prompts:
    """Prompts of plain words. What the server adds to each (BOS) comes off the words that are new in the first turn."""
    shared = river.words(0, prefix) + " " if prefix else ""
    tokens = 0
    for session, turn, new, out in rows:
        tokens = new - vocabulary.completions_overhead if turn == 0 else tokens + new
        yield {"prompt": shared + river.words(river.start(session), vocabulary.count(tokens))}, out
        tokens += out


def _chat(rows: Rows, river: _River, vocabulary: Vocabulary, prefix: int) -> Prompts:
    """Messages. The template's own tokens come off the words of the user's messages; where a message is too short for
    that, off those after it. A shared prefix is the system message, or heads the first one where a template takes none.
    """
    system_overhead = vocabulary.chat_system_overhead if prefix else None
    overhead = vocabulary.chat_overhead if system_overhead is None else system_overhead
    shared = river.words(0, prefix) if prefix else ""
    messages: list[dict[str, str]] = []
    at = owed = 0
    for session, turn, new, out in rows:
        if turn == 0:
            at, owed = river.start(session), 0
            messages = [{"role": "system", "content": shared}] if system_overhead is not None else []
        owed += vocabulary.chat_turn_overhead if turn else overhead
        count = vocabulary.count(new - owed)
        owed = max(0, owed + round(count * vocabulary.tokens_per_word) - new)
        text = river.words(at, count)
        if turn == 0 and shared and system_overhead is None:
            text = f"{shared} {text}"
        messages = [*messages, {"role": "user", "content": text}]
        yield {"messages": messages}, out
        at += count
        answered = vocabulary.count(out)
        messages = [*messages, {"role": "assistant", "content": river.words(at, answered)}]
        at += answered
