"""Request bodies of exactly the planned lengths, made before the clock starts."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from models.records import Endpoint
from models.specs import Workload
from workloads import dialects, texts
from workloads.schedule import Plan
from workloads.structured import asked, instruction
from workloads.vocabulary import Vocabulary as Vocabulary
from workloads.vocabulary import fit as fit
from workloads.vocabulary import learn as learn


def bodies(plan: Plan, workload: Workload, endpoint: Endpoint, vocabulary: Vocabulary) -> list[bytes]:
    """Returns the JSON body of each planned request.

    Each session's text is a stretch of its own out of one long random text, so that no two prompts begin alike, except
    for what the workload shares (a prefix, or a trace's blocks). A later turn carries the earlier ones and, in place of
    what the engine really said, random words of the planned length: only so can bodies be made beforehand. (An engine's
    prefix cache then knows the earlier prompts, but not those answers.)
    """
    if not (vocabulary.asking_tokens and instruction(workload)):
        vocabulary = fit(vocabulary, workload)
    dialect = dialects.of(workload.api)
    make, ask = _chat if dialect.chat else _plain, dialect.asker(endpoint, workload, True)
    return [orjson.dumps(ask(question, limit)) for question, limit in make(plan, workload, vocabulary)]


Prompts = Iterator[tuple[dict[str, object], int]]


def _plain(plan: Plan, workload: Workload, vocabulary: Vocabulary) -> Prompts:
    """Prompts of plain words. What the server adds to each (BOS) comes off the words that are new in the first turn;
    what asks for an object ends every prompt and comes off its words."""
    before, asking = vocabulary.completions_overhead, vocabulary.asking_tokens
    question = instruction(workload)
    tokens = 0
    for session, turn, new, out in texts.rows(plan, workload, vocabulary, before, before + asking):
        tokens = new - before if turn == 0 else tokens + new
        text = session.text(0, session.common + vocabulary.count(tokens - asking))
        yield {"prompt": asked(text, question)}, out
        tokens += out


def _chat(plan: Plan, workload: Workload, vocabulary: Vocabulary) -> Prompts:
    """Messages. The template's own tokens come off the words of the user's messages; where a message is too short for
    that, off those after it. What all share is the system message, or heads the first one where a template takes none.
    """
    system_overhead = vocabulary.chat_system_overhead
    tools, asking, question = vocabulary.tools_tokens, vocabulary.asking_tokens, instruction(workload)
    beside = tools + asking + max(vocabulary.chat_overhead, system_overhead or 0)
    messages: list[dict[str, str]] = []
    at = owed = 0
    for session, turn, new, out in texts.rows(plan, workload, vocabulary, tools, beside):
        if turn == 0:
            messages, at, owed = [], 0, tools + vocabulary.chat_overhead
            if session.common and system_overhead is not None:
                messages = [{"role": "system", "content": session.text(0, session.common)}]
                at, owed = session.common, tools + system_overhead
        else:
            owed += vocabulary.chat_turn_overhead
        owed += asking
        count = vocabulary.count(new - owed)
        owed = max(0, owed + round(count * vocabulary.tokens_per_word) - new)
        end = max(at, session.common) + count
        messages = [*messages, {"role": "user", "content": asked(session.text(at, end - at), question)}]
        yield {"messages": messages}, out
        answered = vocabulary.count(out)
        messages = [*messages, {"role": "assistant", "content": session.text(end, answered)}]
        at = end + answered
