"""Prompts of exactly the planned tokens by the server's own count, unlike one another, made beforehand."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.specs import Lengths, Load, Workload
from tests.workloads.truth import Asked, Step, TruthServer, answer, count, plain
from workloads import prompts, schedule, texts
from workloads.structured import instruction
from workloads.vocabulary import COMMON, WORDS_MIN, Vocabulary, candidates, learn

VARIED = Lengths(distribution="uniform", min=60, max=200)


def workload(**more: object) -> Workload:
    return Workload.model_validate({"name": "w", "input_tokens": VARIED, "output_tokens": Lengths(mean=20), **more})


def made(server: TruthServer, what: Workload, load: Load | None = None, repeat: int = 0,
         **endpoint: object) -> tuple[list[dict[str, object]], pl.DataFrame]:
    plan = schedule.plan(what, load or Load(concurrency=3, requests=30), 0, repeat)
    where = server.endpoint(**endpoint)
    found = prompts.bodies(plan, what, where, prompts.fit(prompts.learn(where), what, where))
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
    spoken = [str(b["prompt"]).split(" ") for b in bodies]
    shared = spoken[0][:80]
    assert all(t[:80] == shared for t in spoken)
    for session in table.partition_by("session", maintain_order=True):
        mine = [spoken[i] for i in session["request_index"]]
        for shorter, longer in itertools.pairwise(mine):
            assert longer[:len(shorter)] == shorter and len(longer) > len(shorter)
    firsts = [tuple(spoken[i][80:90]) for i in table.filter(pl.col("turn") == 0)["request_index"]]
    assert len(set(firsts)) == len(firsts)


@pytest.mark.parametrize("api", ["completions", "chat", "tgi"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.93, 1.0])
def test_a_stated_share_of_each_prompt_is_common(api: str, share: float) -> None:
    what = workload(api=api, shared_prefix_share=share)
    with TruthServer() as server:
        bodies, table = made(server, what)
    lengths = table["input_tokens_planned"].to_list()
    assert [count(b) for b in bodies] == lengths
    assert sorted(lengths) != lengths and table["new_tokens"].to_list() == lengths  # each of its own, the share in it
    spoken = [said(b) for b in bodies]
    longest = max(spoken, key=len)
    for text, length in zip(spoken, lengths, strict=True):
        common = next((i for i, (a, b) in enumerate(zip(text, longest, strict=False)) if a != b), len(text))
        room = 12 if api == "chat" else 1           # the template's tokens are part of the length
        at_most = min(share * length, length - room)
        if text is not longest:
            assert at_most - room - 1 <= common <= at_most + 2


def test_a_share_in_a_chat_is_the_system_message_and_turns_carry_it() -> None:
    with TruthServer() as server:
        bodies, table = made(server, workload(api="chat", shared_prefix_share=0.5, turns=3))
        plain, plain_table = made(server, workload(shared_prefix_share=0.5, turns=3))
    assert [count(b) for b in bodies] == table["input_tokens_planned"].to_list()
    assert [count(b) for b in plain] == plain_table["input_tokens_planned"].to_list()
    for session in table.partition_by("session"):
        systems = {bodies[i]["messages"][0]["content"] for i in session["request_index"]}  # type: ignore[index]
        assert len(systems) == 1
        assert len(systems.pop().split(" ")) == round(session["new_tokens"][0] / 2)


def said(body: dict[str, object]) -> list[str]:
    """The words of a body of one turn."""
    messages = body.get("messages")
    text = " ".join(m["content"] for m in messages) if isinstance(messages, list) else (
        body["prompt"] if "prompt" in body else body["inputs"])
    return str(text).split(" ")


ORDER = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
CALL = {"type": "function", "function": {"name": "look_up", "parameters": ORDER}}
OFFERED = 23
"""Tokens that the functions take in the template of the server below."""


def offered(asked: Asked) -> Iterable[Step]:
    if asked.body.get("stream"):
        return answer(asked)
    counted = count(asked.body) + OFFERED * ("tools" in asked.body)
    return [plain("200 OK", json.dumps({"choices": [{"message": {"content": "a"}, "finish_reason": "length"}],
                                        "usage": {"prompt_tokens": counted, "completion_tokens": 1}}).encode())]


LONG = Lengths(distribution="uniform", min=300, max=500)


@pytest.mark.parametrize("api", ["completions", "chat", "tgi", "llama_cpp"])
def test_prompts_for_an_object_end_in_asking_for_it_and_keep_their_length(api: str) -> None:
    with TruthServer(apis=("completions", "chat", "tgi", "llama_cpp")) as server:
        bodies, table = made(server, workload(api=api, json_schema=ORDER, input_tokens=LONG, turns=2))
    assert [count(b) for b in bodies] == table["input_tokens_planned"].to_list()
    lasts = [b["messages"][-1]["content"] if "messages" in b else b.get("prompt") or b["inputs"]  # type: ignore[index]
             for b in bodies]
    assert all(str(last).endswith("by this schema: " + json.dumps(ORDER, separators=(",", ":"))) for last in lasts)
    firsts = [str(lasts[i])[:30] for i in table.filter(pl.col("turn") == 0)["request_index"]]
    assert len(set(firsts)) == len(firsts) and "Answer" not in "".join(firsts)


def test_prompts_for_a_call_leave_room_for_the_functions() -> None:
    what = workload(api="chat", tools=(CALL,), input_tokens=LONG)
    with TruthServer(offered) as server:
        bodies, table = made(server, what)
    assert [count(b) + OFFERED for b in bodies] == table["input_tokens_planned"].to_list()
    assert all(b["messages"][0]["content"].endswith("call one of the functions look_up.")  # type: ignore[index]
               for b in bodies)
    assert all(b["tools"] == [CALL] for b in bodies)


def test_what_asking_takes_is_estimated_where_nobody_counts_it() -> None:
    what = workload(api="chat", json_schema=ORDER, input_tokens=LONG)
    plan = schedule.plan(what, Load(concurrency=1, requests=30), 0)
    with TruthServer() as server:
        where, words = server.endpoint(), prompts.learn(server.endpoint())
        asked = len(server.asked)
        assert prompts.fit(words, what).asking_tokens == len(instruction(what)) // 4
        assert prompts.fit(words, workload(), where) == words and len(server.asked) == asked
        bodies = prompts.bodies(plan, what, where, words)
    words_each = [len(said(json.loads(b))) for b in bodies]
    assert sum(words_each) == pytest.approx(plan.requests["input_tokens_planned"].sum(), rel=0.15)


RIVER = texts.River(tuple(COMMON), 3, 40, 4, 200)


@given(sizes=st.lists(st.integers(0, 12), max_size=6), cuts=st.lists(st.integers(1, 30), min_size=1, max_size=6),
       share=st.booleans())
def test_a_session_s_text_is_the_same_in_one_piece_or_in_several(sizes: list[int], cuts: list[int],
                                                                 share: bool) -> None:
    starts = [0] * share + RIVER.starts
    heads = tuple((starts[i % len(starts)], size) for i, size in enumerate(sizes))
    session = texts.Session(RIVER, heads, RIVER.starts[3])
    whole = session.text(0, sum(cuts)).split(" ")
    pieces = [session.text(sum(cuts[:i]), count).split(" ") for i, count in enumerate(cuts)]
    assert [word for piece in pieces for word in piece] == whole and len(whole) == sum(cuts)
    headed = [word for start, size in heads if size for word in RIVER.words(start, size).split(" ")]
    assert whole[:len(headed)] == headed[:len(whole)]


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
