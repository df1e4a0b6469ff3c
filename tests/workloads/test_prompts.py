"""Prompts of exactly the planned tokens by the server's own count, unlike one another, made beforehand."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable

import polars as pl
import pytest

from models.specs import Lengths, Load, Workload
from tests.workloads.truth import Asked, Step, TruthServer, answer, count, plain
from workloads import prompts, schedule
from workloads.vocabulary import COMMON, WORDS_MIN, Vocabulary, candidates, learn

VARIED = Lengths(distribution="uniform", min=60, max=200)


def workload(**more: object) -> Workload:
    return Workload.model_validate({"name": "w", "input_tokens": VARIED, "output_tokens": Lengths(mean=20), **more})


def made(server: TruthServer, what: Workload, load: Load | None = None, repeat: int = 0,
         **endpoint: object) -> tuple[list[dict[str, object]], pl.DataFrame]:
    plan = schedule.plan(what, load or Load(concurrency=3, requests=30), 0, repeat)
    where = server.endpoint(**endpoint)
    found = prompts.bodies(plan, what, where, prompts.learn(where))
    return [json.loads(b) for b in found], plan.requests


@pytest.mark.parametrize("what", [
    workload(), workload(api="chat"), workload(shared_prefix_tokens=100), workload(turns=3),
    workload(api="chat", shared_prefix_tokens=100, turns=3), workload(input_tokens=Lengths(mean=2)),
], ids=["completions", "chat", "prefix", "turns", "agent", "two tokens"])
def test_prompts_have_exactly_the_planned_tokens(what: Workload) -> None:
    with TruthServer() as server:
        bodies, table = made(server, what)
    assert [count(b) for b in bodies] == table["input_tokens_planned"].to_list()
    assert [b["max_tokens"] for b in bodies] == table["output_tokens_planned"].to_list()


def test_templates_too_long_for_a_message_come_off_later_ones() -> None:
    what = workload(api="chat", turns=4, input_tokens=Lengths(distribution="uniform", min=1, max=40))
    with TruthServer() as server:
        bodies, table = made(server, what)
    over = [count(b) - n for b, n in zip(bodies, table["input_tokens_planned"].to_list(), strict=True)]
    assert min(over) == 0 and max(over) <= 4 * 8 and over.count(0) > len(over) / 2


def test_a_template_without_system_messages_gets_the_prefix_in_the_first_user_message() -> None:
    def script(asked: Asked) -> Iterable[Step]:
        roles = [m["role"] for m in asked.body.get("messages", [])]
        return [plain("400 Bad Request", b"{}")] if "system" in roles else answer(asked)
    with TruthServer(script) as server:
        bodies, table = made(server, workload(api="chat", shared_prefix_tokens=50, turns=2))
    assert {m["role"] for b in bodies for m in b["messages"]} == {"user", "assistant"}  # type: ignore[attr-defined]
    assert [count(b) for b in bodies] == table["input_tokens_planned"].to_list()
    assert len({b["messages"][0]["content"][:150] for b in bodies}) == 1  # type: ignore[index]


def test_no_two_prompts_begin_alike() -> None:
    with TruthServer() as server:
        first, _ = made(server, workload(input_tokens=Lengths(mean=40)), Load(concurrency=4, requests=300))
        other, _ = made(server, workload(input_tokens=Lengths(mean=40)), Load(concurrency=2, requests=300))
        again, _ = made(server, workload(input_tokens=Lengths(mean=40)), Load(concurrency=4, requests=300), repeat=1)
        same, _ = made(server, workload(input_tokens=Lengths(mean=40)), Load(concurrency=4, requests=300))
    beginnings = [str(b["prompt"])[:25] for b in [*first, *other, *again]]
    assert len(set(beginnings)) == len(beginnings)
    assert same == first


def test_only_the_shared_prefix_is_shared_and_turns_carry_the_turns_before() -> None:
    what = workload(shared_prefix_tokens=80, turns=3)
    with TruthServer() as server:
        bodies, table = made(server, what)
    texts = [str(b["prompt"]).split(" ") for b in bodies]
    shared = texts[0][:80]
    assert all(t[:80] == shared for t in texts)
    for session in table.partition_by("session", maintain_order=True):
        mine = [texts[i] for i in session["request_index"]]
        for shorter, longer in itertools.pairwise(mine):
            assert longer[:len(shorter)] == shorter and len(longer) > len(shorter)
    firsts = [tuple(texts[i][80:90]) for i in table.filter(pl.col("turn") == 0)["request_index"]]
    assert len(set(firsts)) == len(firsts)


def test_messages_alternate_and_answers_have_the_planned_length() -> None:
    with TruthServer() as server:
        bodies, table = made(server, workload(api="chat", shared_prefix_tokens=30, turns=3))
    third = table.filter(pl.col("turn") == 2)["request_index"].to_list()
    for i in third:
        messages = bodies[i]["messages"]
        assert isinstance(messages, list)
        assert [m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
        assert [len(m["content"].split(" ")) for m in messages if m["role"] == "assistant"] == [20, 20]


def test_bodies_carry_what_the_engine_needs() -> None:
    with TruthServer() as server:
        bodies, _ = made(server, workload(), body={"ignore_eos": True, "stream": False, "max_tokens": 1})
        silent, _ = made(server, workload(), usage_in_stream=False)
    assert all(b["stream"] is True and b["stream_options"] == {"include_usage": True} for b in bodies)
    assert all(b["model"] == "truth" and b["ignore_eos"] is True and b["max_tokens"] == 20 for b in bodies)
    assert not any("stream_options" in b for b in silent)


def test_without_a_tokenizer_the_filler_is_calibrated_from_usage() -> None:
    with TruthServer(tokenize=False) as server:
        where = server.endpoint()
        words = learn(where)
        assert words.source == "calibrated" and words.completions_overhead == 1
        assert {a.path for a in server.asked} == {"/tokenize", "/v1/completions", "/v1/chat/completions"}
        plan = schedule.plan(workload(), Load(concurrency=1, requests=30), 0)
        counted = [count(json.loads(b)) for b in prompts.bodies(plan, workload(), where, words)]
    wanted = plan.requests["input_tokens_planned"].to_list()
    assert sum(counted) == pytest.approx(sum(wanted), rel=0.03)


def test_a_server_that_tells_nothing_gets_a_word_a_token() -> None:
    with TruthServer(lambda asked: [plain("400 Bad Request", b"{}")], tokenize=False) as server:
        assert learn(server.endpoint()) == Vocabulary(tuple(COMMON))


def test_words_are_learnt_in_few_requests() -> None:
    with TruthServer() as server:
        known = learn(server.endpoint())
        assert len(server.asked) == 6
        learn(server.endpoint(), "completions")
        assert len(server.asked) == 9
    assert known.source == "tokenizer" and len(known.words) > WORDS_MIN
    assert all(len(w) <= 4 for w in known.words)  # what that tokenizer has as one token
    assert (known.completions_overhead, known.chat_overhead, known.chat_turn_overhead) == (1, 7, 8)


def test_candidates_are_the_same_everywhere_and_no_text() -> None:
    words = candidates()
    assert words == candidates() and len(words) == len(set(words)) > 3000
    assert all(w.isascii() and w.isalpha() and w.islower() and len(w) <= 7 for w in words)
