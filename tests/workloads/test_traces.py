"""Traces: replayed in their order, with their gaps and what their prompts share."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models.errors import UserError
from models.records import Endpoint
from models.specs import Load, Workload
from tests.workloads.conftest import AZURE, CONVERSATION, line, written
from tests.workloads.truth import TruthServer
from workloads import catalogue, driver, prompts, schedule, traces
from workloads.schedule import plan
from workloads.vocabulary import Vocabulary, candidates

WORDS = Vocabulary(tuple(candidates()[:1500]), source="tokenizer")
NOWHERE = Endpoint(url="http://127.0.0.1:1", model="m")


def test_a_workload_is_named_after_its_file_and_keeps_what_it_is_told(conversation: Path) -> None:
    known = traces.workload(conversation)
    assert (known.name, known.source) == ("talk", "talk.jsonl: mooncake trace of 5 requests")
    assert (known.input_tokens.min, known.input_tokens.max, known.output_tokens.max) == (40, 2000, 500)
    told = catalogue.load({"trace": str(conversation), "name": "short", "scale": {"input": 0.1}, "api": "chat"})
    assert (told.name, told.label, told.api, told.trace) == ("short", "short ×0.1/1", "chat", known.trace)
    assert catalogue.load({"trace": str(conversation)}) == known
    with pytest.raises(ValidationError, match="leave out turns"):
        traces.workload(conversation, turns=2)
    with pytest.raises(UserError, match="talk: a trace says itself which prompts share what"):
        catalogue.load({"trace": str(conversation), "turns": 2})
    with pytest.raises(UserError, match=r"^trace: write the path"):
        catalogue.load({"trace": 3})


def test_a_plan_needs_the_file_it_was_made_of(conversation: Path) -> None:
    known = traces.workload(conversation)
    conversation.write_text(conversation.read_text().replace("1300", "1301"))
    with pytest.raises(UserError, match="the file has changed since this was planned"):
        plan(known, Load(concurrency=1), 0)
    conversation.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        plan(known, Load(concurrency=1), 0)


def test_requests_come_in_the_trace_s_order_scaled_and_around(conversation: Path) -> None:
    known = traces.workload(conversation, input_scale=0.1, output_scale=0.5)
    new, out = [130, 60, 200, 4, 140], [250, 45, 4, 10, 150]
    for load in (Load(concurrency=2, requests=12), Load(request_rate=3, requests=12),
                 Load(request_rate=3, requests=12, arrivals="trace"),
                 Load(request_rate=3, request_rate_end=9, requests=12, arrivals="constant")):
        table = plan(known, load, 0).requests
        measured = table.filter(pl.col("phase") == "measured")
        assert measured["input_tokens_planned"].to_list() == (new * 3)[:12] == measured["new_tokens"].to_list()
        assert measured["output_tokens_planned"].to_list() == (out * 3)[:12]
        before = table.filter(pl.col("phase") == "warmup")["new_tokens"].to_list()
        after = table.filter(pl.col("phase") == "tail")["new_tokens"].to_list()
        assert before and before == (new * 9)[-len(before):] and after == (new * 9)[2:2 + len(after)]


def test_arrivals_of_a_trace_keep_its_gaps_at_the_rate_asked_for(conversation: Path) -> None:
    known = traces.workload(conversation)
    assert known.trace
    asis = Load(request_rate=known.trace.request_rate, arrivals="trace", requests=12, warmup_requests=0)
    due = plan(known, asis, 0).requests["offset_ns"].to_numpy()[:12] / 1e9
    lap = 9 * 5 / 4  # the gap between laps is the mean one
    assert due.tolist() == [t + k * lap for k in range(3) for t in (0, 0, 3, 3, 9)][:12]
    fast = asis.model_copy(update={"request_rate": 100 * known.trace.request_rate})
    assert (plan(known, fast, 0).requests["offset_ns"].to_numpy()[:12] / 1e7).tolist() == due.tolist()
    warm = plan(known, asis.model_copy(update={"warmup_requests": 3}), 0).requests
    assert (warm["offset_ns"].to_numpy()[:5] / 1e9).tolist() == [0, 0, 6, 6 + 9 / 4, 6 + 9 / 4]
    assert warm["phase"].to_list()[:4] == ["warmup"] * 3 + ["measured"]


@settings(max_examples=50, deadline=None)
@given(gaps=st.lists(st.integers(0, 50_000), min_size=1, max_size=30).filter(any), rate=st.floats(0.01, 1000),
       first=st.integers(-200, 200), count=st.integers(2, 300))
def test_time_never_runs_backwards_around_a_trace(gaps: list[int], rate: float, first: int, count: int) -> None:
    at = np.cumsum([0, *gaps]) * 1_000_000
    table = pl.DataFrame({"at_ns": at})
    due = traces.offsets_ns(table, rate, first, count)
    n = len(at)
    assert due[0] == 0 and (np.diff(due) >= 0).all() and (due % 1000 == 0).all()
    laps = traces.offsets_ns(table, rate, first, count * n + 1)[::n]
    assert np.diff(laps) == pytest.approx(1e9 * n / rate, abs=2000)
    later = traces.offsets_ns(table, rate, first + n, count)
    assert np.abs(later - due).max() <= 1000


def test_the_tail_of_a_trace_lasts_as_long_as_the_last_measured_may(conversation: Path) -> None:
    known = traces.workload(conversation)
    assert known.trace
    load = Load(request_rate=known.trace.request_rate, arrivals="trace", requests=5, warmup_requests=0, timeout_s=5.3)
    assert plan(known, load, 0).requests["phase"].to_list() == ["measured"] * 5 + ["tail"] * 4  # after 2.25 and 5.25 s
    assert plan(known, load.model_copy(update={"timeout_s": 900.0}), 0).height == 10
    assert plan(known, load.model_copy(update={"timeout_s": 1.0}), 0).height == 5


def test_gaps_of_a_trace_need_a_trace() -> None:
    with pytest.raises(UserError, match="arrivals: trace needs a workload with a trace; chat has none"):
        plan(catalogue.load("chat"), Load(request_rate=1, arrivals="trace"), 0)


def texts(known: Workload, load: Load, words: Vocabulary = WORDS, seed: int = 0, repeat: int = 0) -> list[list[str]]:
    planned = schedule.plan(known, load, seed, repeat)
    return [json.loads(body)["prompt"].split(" ") for body in prompts.bodies(planned, known, NOWHERE, words)]


def alike(one: list[str], other: list[str]) -> int:
    """How many words two prompts have in common at the beginning."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


CLOSED = Load(concurrency=1, requests=5, warmup_requests=0)


@pytest.mark.parametrize(("scale", "per_word"), [(1.0, 1.0), (0.25, 1.0), (0.1, 1.0), (0.5, 1.3)])
def test_prompts_share_what_their_hashes_share_and_nothing_else(conversation: Path, scale: float,
                                                                per_word: float) -> None:
    known = traces.workload(conversation, input_scale=scale)
    got = texts(known, CLOSED, Vocabulary(WORDS.words, per_word))
    assert [len(t) for t in got] == [round(round(row[1] * scale) / per_word) for row in CONVERSATION]
    block = 512 * scale / per_word
    for i, one in enumerate(CONVERSATION):
        for j, other in enumerate(CONVERSATION[:i]):
            mine, theirs = one[3] or [], other[3] or []
            same = next((k for k, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b),
                        min(len(mine), len(theirs)))
            shared = min(round(same * block), len(got[i]), len(got[j]))
            assert shared <= alike(got[i], got[j]) <= shared + 1


def test_words_change_with_seed_load_and_repeat_but_sharing_stays(conversation: Path) -> None:
    known = traces.workload(conversation)
    runs = [texts(known, CLOSED), texts(known, CLOSED, seed=1), texts(known, CLOSED, repeat=1),
            texts(known, CLOSED.model_copy(update={"timeout_s": 9.0}))]
    assert texts(known, CLOSED) == runs[0]
    for i, run in enumerate(runs):
        assert alike(run[0], run[2]) == 1024
        assert all(alike(run[0], other[0]) <= 1 for other in runs[:i])


def test_a_second_lap_shares_within_itself_only(conversation: Path) -> None:
    got = texts(traces.workload(conversation), Load(concurrency=1, requests=10, warmup_requests=2))
    assert alike(got[0], got[1]) <= 1                       # two of the lap before: one has no hashes
    assert alike(got[1], got[2]) <= 1 and alike(got[2], got[7]) <= 1
    assert alike(got[7], got[9]) == alike(got[2], got[4]) == 1024


def test_prompts_of_a_chat_share_as_well(conversation: Path) -> None:
    known = traces.workload(conversation, api="chat")
    words = Vocabulary(WORDS.words, chat_overhead=9)
    bodies = prompts.bodies(plan(known, CLOSED, 0), known, NOWHERE, words)
    said = [json.loads(body)["messages"] for body in bodies]
    assert [[m["role"] for m in messages] for messages in said] == [["user"]] * 5
    got = [messages[0]["content"].split(" ") for messages in said]
    assert [len(t) for t in got] == [row[1] - 9 for row in CONVERSATION] and alike(got[0], got[2]) == 1024


def test_prompts_of_azure_s_trace_are_all_unique(tmp_path: Path) -> None:
    got = texts(traces.workload(written(tmp_path, AZURE)), Load(concurrency=2, requests=9))
    assert len({" ".join(t[:3]) for t in got}) == len(got) >= 11


def test_long_prompts_by_the_thousand_take_little_more_memory_than_they_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [line(i * 100, int(n), 5, [i // 3 * 1000 + j for j in range(-(-int(n) // 512))])
            for i, n in enumerate(rng.integers(1000, 100_000, 400))]
    known = traces.workload(written(tmp_path, "".join(rows)))
    planned = plan(known, Load(request_rate=10, arrivals="trace", requests=400, warmup_requests=0, timeout_s=1), 0)
    bodies = prompts.bodies(planned, known, NOWHERE, WORDS)
    assert len(bodies) == planned.height and planned.longest_tokens > 90_000
    assert sum(map(len, bodies)) < 8 * planned.requests["input_tokens_planned"].sum()


def test_the_plan_of_a_trace_is_the_same_on_every_machine(conversation: Path) -> None:
    known = traces.workload(conversation)
    found = [plan(known, load, 42).digest[:16] for load in (
        Load(concurrency=2, requests=9), Load(request_rate=8, requests=9, arrivals="trace"))]
    assert found == ["9891bae15dfab36f", "483b12d5ed22f175"]


def test_a_trace_is_replayed_over_real_sockets(conversation: Path) -> None:
    known = traces.workload(conversation, input_scale=0.1, output_scale=0.02)
    load = Load(request_rate=60, arrivals="trace", requests=11, warmup_requests=4)
    planned = plan(known, load, 0)
    with TruthServer() as server:
        where = server.endpoint()
        bodies = prompts.bodies(planned, known, where, prompts.learn(where))
        got = driver.drive(planned, bodies, known, where, load).requests.filter(pl.col("phase") != "tail")
    assert set(got["outcome"]) == {"ok"} and got.height == 15
    assert got["input_tokens"].to_list() == got["input_tokens_planned"].to_list()
    assert got["output_tokens"].to_list() == got["output_tokens_planned"].to_list()
    assert (got["planned_ns"].diff().drop_nulls() == planned.requests["offset_ns"][:15].diff().drop_nulls()).all()
