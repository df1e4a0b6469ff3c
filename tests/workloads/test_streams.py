"""Streams cut anywhere give the same tokens, outcome and stamps; events are read as the standard says."""

from __future__ import annotations

import functools
import itertools
import json
import socket
from typing import cast

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.specs import Api, Lengths, Load, Workload
from tests.workloads.truth import DONE, HEADERS, LAST, chunk, delta, event, llama, tgi, token, usage
from tests.workloads.wire import Sock, received
from workloads import answer, client, dialects, schedule, sse
from workloads.columns import arrivals, frame

COMPLETIONS = b"".join((token("a"), token(" b"), token("", "length"), usage(5, 3, 1), DONE))
CHAT = b"".join((delta(role="assistant", content=""), delta(reasoning_content="hm"), delta(content="é\u2028ü"),
                 delta("stop"), usage(5, 2), DONE))
CRLF = COMPLETIONS.replace(b"\n", b"\r\n")
CR = COMPLETIONS.replace(b"\n", b"\r")
COMMENTED = b"\xef\xbb\xbf: hello\n\nretry: 10\nid: 1\n" + COMPLETIONS.replace(b"data: ", b"data:", 1) + b": bye\n\n"
SPREAD = (b'event: x\ndata: {"choices": [{"text": "a",\ndata:  "finish_reason": null}]}\n\n' + token("b", "stop")
          + b"data:[DONE]\n\n")
FAILED = token("a") + event({"error": {"message": "no memory"}})
TOOLS = b"".join((delta(role="assistant", content=None), delta(tool_calls=[{"index": 0, "function": {
    "name": "pick", "arguments": ""}}]), delta(tool_calls=[{"index": 0, "function": {"arguments": '{"n": 1}'}}]),
    delta("tool_calls"), usage(5, 9), DONE))
TGI = tgi("a", tokens=1) + tgi(" é\u2028", tokens=2) + tgi("</s>", "eos_token", tokens=3, special=True)
TGI_FAILED = tgi("a") + b'data:{"error":"Request failed during generation","error_type":"generation"}\n\n'
LLAMA = llama("a", tokens=1) + llama("", tokens=2) + llama(" é\u2028", tokens=3) + llama("", "word", 3, cached=2)
STREAMS = {"completions": COMPLETIONS, "chat": CHAT, "CRLF": CRLF, "CR": CR, "comments": COMMENTED,
           "data over lines": SPREAD, "error event": FAILED, "cut": COMPLETIONS[:-40], "chat tools": TOOLS, "tgi": TGI,
           "tgi error": TGI_FAILED, "tgi cut": TGI[:-40], "tgi CRLF": TGI.replace(b"\n", b"\r\n"),
           "llama_cpp": LLAMA, "llama_cpp cut": LLAMA[:-40]}


def api_of(name: str) -> Api:
    """A stream's name begins with its API where that is not completions."""
    first = name.partition(" ")[0]
    return cast(Api, first) if first in ("chat", "tgi", "llama_cpp") else "completions"


PARTS = [b"data: ", b"data:", b"{}", b"[DONE]", b"\n", b"\r", b"\r\n", b"\n\n", b": c", b"event: e", token("x"),
         tgi("x"), llama("x", "limit"), b"\xff"]


WORKLOAD = Workload(name="w", input_tokens=Lengths(mean=5), output_tokens=Lengths(mean=3))


@functools.cache
def _plan() -> schedule.Plan:
    return schedule.plan(WORKLOAD, Load(concurrency=1, requests=1, warmup_requests=0), 0)


TAKE = dialects.of("completions").take
SAME = ["outcome", "error", "output_tokens", "output_tokens_source", "input_tokens", "cached_tokens", "finish_reason",
        "http_status", "output_valid"]


def asked_for(name: str) -> Workload:
    more = {"tools": ({"name": "pick"},)} if name == "chat tools" else {}
    return WORKLOAD.model_copy(update={"api": api_of(name), **more})


def seen(pieces: list[bytes], name: str) -> dict[str, object]:
    return all_seen([pieces], name)[0]


def all_seen(answers: list[list[bytes]], name: str) -> list[dict[str, object]]:
    """What rows say that must not depend on how the bytes were cut."""
    rows = frame(_plan(), asked_for(name), [received(pieces) for pieces in answers], 0)
    return rows.select(*SAME, chunks=pl.col("chunk_ns").list.len(), reasoned=pl.col("first_reasoning_ns").is_not_null(),
                       said=pl.col("first_content_ns").is_not_null()).to_dicts()


def over_http(stream: bytes, size: int = 50) -> bytes:
    """The stream in an answer whose chunks know nothing of its events."""
    chunks = b"".join(chunk(stream[i:i + size]) for i in range(0, len(stream), size))
    return HEADERS + b"Keep-Alive: timeout=5, max=100\r\n\r\n" + chunks + LAST


EXPECTED = {"completions": ("ok", 3, "usage", 2), "chat": ("ok", 2, "usage", 2), "CRLF": ("ok", 3, "usage", 2),
            "CR": ("ok", 3, "usage", 2), "comments": ("ok", 3, "usage", 2), "data over lines": ("ok", 2, "chunks", 2),
            "error event": ("error_event", 1, "chunks", 1), "cut": ("ok", 3, "finish_length", 2),
            "chat tools": ("ok", 9, "usage", 2), "tgi": ("ok", 3, "usage", 2), "tgi CRLF": ("ok", 3, "usage", 2),
            "tgi error": ("error_event", 1, "chunks", 1), "tgi cut": ("truncated", 2, "chunks", 2),
            "llama_cpp": ("ok", 3, "usage", 2), "llama_cpp cut": ("truncated", 2, "chunks", 2)}


@pytest.mark.parametrize("name", STREAMS)
def test_what_a_stream_says(name: str) -> None:
    got = seen([over_http(STREAMS[name])], name)
    assert (got["outcome"], got["output_tokens"], got["output_tokens_source"], got["chunks"]) == EXPECTED[name]
    assert got["reasoned"] == (name == "chat") and got["said"]


@pytest.mark.parametrize("name", STREAMS)
def test_one_cut_at_every_place_changes_nothing(name: str) -> None:
    data = over_http(STREAMS[name])
    expected, places = seen([data], name), range(1, len(data))
    cut = all_seen([[data[:i], data[i:]] for i in places], name)
    assert [i for i, row in zip(places, cut, strict=True) if row != expected] == []


@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, 2000), max_size=30), size=st.integers(1, 400))
def test_any_cuts_and_any_chunks_change_nothing(name: str, cuts: list[int], size: int) -> None:
    data = over_http(STREAMS[name], size)
    places = [0, *sorted(c % len(data) for c in cuts), len(data)]
    assert seen([data[a:b] for a, b in itertools.pairwise(places)], name) == seen([over_http(STREAMS[name])], name)


@settings(max_examples=100, deadline=None)
@given(stream=st.one_of(st.binary(max_size=300), st.lists(st.sampled_from(PARTS)).map(b"".join)))
def test_no_body_makes_the_parser_fail_and_both_readers_agree(stream: bytes) -> None:
    for dialect in dialects.candidates(None):
        got = answer.read(stream, dialect.take)
        assert len(got.ends) == 0 or got.ends[-1] <= len(stream)
    plain, general = sse._plain(stream), sse._general(stream)
    if plain is not None:
        assert (plain.data, plain.ends.tolist(), plain.names) == (general.data, general.ends.tolist(), general.names)


def test_an_event_is_stamped_with_the_read_of_its_last_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1, 10_000))
    monkeypatch.setattr(client, "perf_counter_ns", lambda: next(clock))
    one, two = token("a"), token("b", "length")
    data = HEADERS + b"\r\n" + chunk(one + two) + chunk(DONE) + LAST
    start = data.index(one)
    end_of_one, end_of_two = start + len(one), start + len(one) + len(two)
    for cut, read_of_one in ((start, 2), (end_of_one - 1, 2), (end_of_one, 1), (end_of_two - 1, 1)):
        recording = received([data[:cut], data[cut:]])
        stamps = arrivals(recording, answer.read(bytes(recording.body), TAKE).ends)
        assert stamps.tolist() == [recording.rows[read_of_one - 1, 0], recording.rows[1, 0]]
        row = frame(_plan(), WORKLOAD, [recording], 0)
        assert recording.sent_ns is not None
        assert row["chunk_ns"].to_list() == [[s - recording.sent_ns for s in stamps.tolist()]]
        assert (row["first_byte_ns"][0], row["done_ns"][0]) == tuple(recording.rows[:2, 0])
    whole = received([data])
    assert whole.rows[0, 0] == arrivals(whole, answer.read(bytes(whole.body), TAKE).ends)[0]


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="Linux only")
def test_every_read_is_acknowledged_at_once() -> None:
    """A server without TCP_NODELAY would otherwise wait 40 ms for it, and the first token with it."""
    sock, data = Sock(), over_http(COMPLETIONS)
    received([data[:50], data[50:90], data[90:]], sock)
    assert sock.options == [(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)] * 3


def test_stamps_count_from_the_start_of_the_run() -> None:
    recording = received([over_http(COMPLETIONS)])
    at_zero, later = frame(_plan(), WORKLOAD, [recording], 0), frame(_plan(), WORKLOAD, [recording], 1_000)
    shifted = [c for c in at_zero.columns if c.endswith("_ns") and c != "chunk_ns"]
    for column in shifted:
        assert (at_zero[column] - later[column]).drop_nulls().unique().to_list() in ([1_000], [])
    assert at_zero["chunk_ns"].to_list() == later["chunk_ns"].to_list()


def test_no_request_gives_an_empty_frame_of_the_same_columns() -> None:
    one, none = frame(_plan(), WORKLOAD, [received([over_http(CHAT)])], 0), frame(_plan(), WORKLOAD, [], 0)
    assert none.height == 0 and none.schema == one.schema
    assert pl.concat([none, one]).height == 1


@pytest.mark.parametrize(("body", "data"), [
    (b"", []), (b"data: a\n\n", [b"a"]), (b"data: a\n", []), (b"data\n\n", [b""]), (b"data:  a\n\n", [b" a"]),
    (b"data: a\ndata: b\n\n", [b"a\nb"]), (b"event: e\n\ndata: a\n\n", [b"a"]), (b": c\ndata: a\r\n\r\n", [b"a"]),
    (b"data: a\r\rdata: b\n\r\n", [b"a", b"b"]), (b"\n\ndata: a\n\n\n\n", [b"a"]), (b"datax: a\n\n", []),
    (b"\xef\xbb\xbfdata: a\n\n", [b"a"]), (b" data: a\n\n", []),
])
def test_events_as_the_standard_says(body: bytes, data: list[bytes]) -> None:
    assert sse.parse(body).data == data


def test_the_name_of_an_event_belongs_to_it_alone() -> None:
    events = sse.parse(b"event: error\ndata: a\n\ndata: b\n\nevent: x\n\ndata: c\n\n")
    assert (events.data, events.names) == ([b"a", b"b", b"c"], {0: b"error"})


@pytest.mark.parametrize(("document", "text"), [
    ({"error": {"message": "m"}}, "m"), ({"error": "m"}, "m"), ({"detail": "m"}, "m"), ({"message": "m"}, "m"),
    ({"detail": [{"loc": ["x"]}]}, '[{"loc":["x"]}]'), ({"other": 1}, '{"other":1}'),
])
def test_the_text_of_an_error_is_found(document: object, text: str) -> None:
    assert answer.message(json.dumps(document).encode()) == text


@pytest.mark.parametrize("said", [{"tool_calls": [{"function": {"arguments": "{"}}]}, {"refusal": "no"},
                                  {"content": "x"}, {"reasoning": "x"}, {"reasoning_content": "x"}])
def test_what_is_output(said: dict[str, object]) -> None:
    stream = delta(role="assistant", content="") + delta(**said) + delta("stop") + DONE
    got = answer.read(stream, dialects.of("chat").take)
    assert len(got.ends) == 1 and got.finish_reason == "stop" and got.done
    assert (got.first_reasoning is None) == (got.first_content is not None)


def test_usage_on_every_chunk_counts_the_last() -> None:
    first = event({"choices": [{"text": "a", "finish_reason": None}],
                   "usage": {"prompt_tokens": 4, "completion_tokens": 1}})
    last = event({"choices": [{"text": "bcd", "finish_reason": "stop"}],
                  "usage": {"prompt_tokens": 4, "completion_tokens": 3, "prompt_tokens_details": None}})
    got = answer.read(first + last + DONE, TAKE)
    assert (got.input_tokens, got.output_tokens, got.cached_tokens, len(got.ends)) == (4, 3, None, 2)
    assert np.array_equal(got.ends, [len(first), len(first + last)])


FRAMED = HEADERS + b"\r\n" + b"5\r\nhello\r\n" + b"0A\r\n0123456789\r\n" + b"0\r\n\r\n"


@settings(max_examples=1000, deadline=None)
@given(st.integers(len(HEADERS) + 2, len(FRAMED) - 1), st.sampled_from(b"\r\n0aF 5x\x00:"), st.integers(1, len(FRAMED)))
def test_damaged_chunks_end_alike_in_both_receive_loops(where: int, byte: int, cut: int) -> None:
    """`received` compares them."""
    damaged = FRAMED[:where] + bytes([byte]) + FRAMED[where + 1:]
    assert received([damaged[:cut], damaged[cut:]]).ending in ("complete", "malformed", "reset", "closed")


def test_extensions_and_trailers_of_chunks_are_passed_over() -> None:
    data = HEADERS + b"\r\n5;a=b\r\nhello\r\n0;c\r\nX-A: b\r\nX-B: c\r\n\r\n"
    for cut in range(1, len(data)):
        recording = received([data[:cut], data[cut:]])
        assert (recording.ending, bytes(recording.body)) == ("complete", b"hello")
