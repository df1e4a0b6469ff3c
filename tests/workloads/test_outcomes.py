"""Every way an answer can end, each provoked over a real socket, and what is kept of it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable

import polars as pl
import pytest

from models.frames import OUTCOMES
from models.records import Endpoint
from models.specs import Api, Load
from models.summary import summarise
from tests.workloads.test_driver import run, workload
from tests.workloads.truth import (
    CLOSE,
    DONE,
    HEADERS,
    HOLD,
    LAST,
    RESET,
    Asked,
    Step,
    TruthServer,
    answer,
    chunk,
    delta,
    event,
    in_pieces,
    llama,
    plain,
    tgi,
    token,
    usage,
    whole,
)

KEY = "sk-very-secret-0123456789"
STARTED = HEADERS + b"\r\n" + chunk(token("one")) + chunk(token(" two"))
ERROR = b'{"error": {"message": "slow down", "type": "rate"}}'


EVERY_API: tuple[Api, ...] = ("completions", "chat", "tgi", "llama_cpp")


def first(script: Callable[[Asked], Iterable[Step]] | Iterable[Step], api: Api = "completions", **load: object,
          ) -> dict[str, object]:
    """The row of a single request answered by a script."""
    play = script if callable(script) else lambda asked: script
    with TruthServer(play, apis=EVERY_API) as server:
        what = Load.model_validate({"concurrency": 1, "requests": 1, "warmup_requests": 0, **load})
        return run(server.endpoint(), what, workload(api=api)).requests.row(0, named=True)


FAULTS: dict[str, tuple[list[Step], str, int | None, str]] = {
    "cut without a finish reason": ([whole(token("one"), DONE)], "truncated", 200, "without a finish reason"),
    "connection closed in mid-stream": ([STARTED, CLOSE], "truncated", 200, "without a finish reason"),
    "closed after the finish, before [DONE]": (
        [STARTED, chunk(token("", "stop")), CLOSE], "truncated", 200, "connection ended before the stream"),
    "closed within an event": ([HEADERS + b"\r\n" + chunk(token("one") + b'data: {"cho'), CLOSE], "truncated", 200, ""),
    "nothing at all": ([HEADERS + b"\r\n" + LAST], "truncated", 200, "without a finish reason"),
    "reset in mid-stream": ([STARTED, 0.05, RESET], "reset", 200, ""),
    "reset before an answer": ([RESET], "reset", None, ""),
    "closed before an answer": ([CLOSE], "reset", None, ""),
    "closed within the headers": ([b"HTTP/1.1 200 OK\r\nContent-", CLOSE], "malformed", None, "before the headers"),
    "error event": ([whole(token("one"), event({"error": {"message": "out of memory", "code": 500}}))],
                    "error_event", 200, "out of memory"),
    "error event as TGI sends it": ([whole(event({"error": "overloaded", "error_type": "overloaded"}))],
                                    "error_event", 200, "overloaded"),
    "error event by name": ([whole(b'event: error\ndata: {"message": "bad luck"}\n\n')],
                            "error_event", 200, "bad luck"),
    "given up by the engine": ([whole(token("one"), token("", "abort"), DONE)], "error_event", 200, "abort"),
    "error in JSON under 200": ([plain("200 OK", ERROR)], "error_event", 200, "slow down"),
    "400": ([plain("400 Bad Request", b'{"error": {"message": "prompt is too long"}}')], "http_400", 400, "too long"),
    "401": ([plain("401 Unauthorized", ERROR)], "http_401", 401, "slow down"),
    "404": ([plain("404 Not Found", b"no")], "http_404", 404, "no"),
    "422": ([plain("422 Unprocessable Entity", b'{"detail": "which model?"}')], "http_422", 422, "which model?"),
    "429": ([plain("429 Too Many Requests", ERROR)], "http_429", 429, "slow down"),
    "413": ([plain("413 Content Too Large", b"")], "http_4xx", 413, "HTTP 413"),
    "500": ([plain("500 Internal Server Error", b"<h1>oh</h1>")], "http_5xx", 500, "<h1>oh</h1>"),
    "503": ([plain("503 Service Unavailable", ERROR)], "http_5xx", 503, "slow down"),
    "redirect": ([plain("302 Found", b"", "Location: http://elsewhere/\r\n")], "malformed", 302, "HTTP 302"),
    "not HTTP": ([b"SSH-2.0-OpenSSH_9.2\r\n", HOLD], "malformed", None, "not HTTP"),
    "not a stream": ([plain("200 OK", b"<html>hello</html>")], "malformed", 200, "not a stream of events"),
    "not JSON": ([whole(token("one"), b"data: {oops\n\n", DONE)], "malformed", 200, "{oops"),
    "not a chunk": ([whole(b"data: [1, 2]\n\n", DONE)], "malformed", 200, "[1, 2]"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_its_own_outcome_and_gives_no_latency(name: str) -> None:
    steps, outcome, status, said = FAULTS[name]
    row = first(steps)
    assert (row["outcome"], row["http_status"]) == (outcome, status)
    assert outcome in OUTCOMES and said in str(row["error"] or "")
    assert row["done_ns"] is not None and row["planned_ns"] == 0


OVERLOADED = b'{"error": "Model is overloaded", "error_type": "overloaded"}'
FAULTS_OF: dict[tuple[Api, str], tuple[list[Step], str, int, str]] = {
    ("chat", "no finish reason"): ([whole(delta(content="a"), DONE)], "truncated", 200, "without a finish reason"),
    ("chat", "error event"): ([whole(delta(content="a"), event({"error": {"message": "no memory"}}), DONE)],
                              "error_event", 200, "no memory"),
    ("chat", "completions' chunks"): ([whole(event({"text": "a"}), DONE)], "malformed", 200, "not a chunk"),
    ("tgi", "no details"): ([whole(tgi("a"), tgi("b"))], "truncated", 200, "without a finish reason"),
    ("tgi", "closed in mid-stream"): ([HEADERS + b"\r\n" + chunk(tgi("a")), CLOSE], "truncated", 200, "finish reason"),
    ("tgi", "overloaded in mid-stream"): ([whole(tgi("a"), b"data:" + OVERLOADED + b"\n\n")], "error_event", 200,
                                          "Model is overloaded"),
    ("tgi", "overloaded"): ([plain("429 Too Many Requests", OVERLOADED)], "http_429", 429, "Model is overloaded"),
    ("tgi", "validation"): ([plain("422 Unprocessable Entity", b'{"error": "`inputs` must have less", "error_type":'
                                   b' "validation"}')], "http_422", 422, "`inputs` must have less"),
    ("tgi", "generation"): ([plain("424 Failed Dependency", b'{"error": "it failed", "error_type": "generation"}')],
                            "http_4xx", 424, "it failed"),
    ("tgi", "another API's chunks"): ([whole(token("a"), DONE)], "malformed", 200, "not a chunk"),
    ("llama_cpp", "no reason to stop"): ([whole(llama("a"), llama("", "none"))], "truncated", 200, "without a finish"),
    ("llama_cpp", "closed in mid-stream"): ([HEADERS + b"\r\n" + chunk(llama("a")), CLOSE], "truncated", 200, ""),
    ("llama_cpp", "error event"): ([whole(llama("a"), event({"error": {"code": 500, "message": "slot died"}}))],
                                   "error_event", 200, "slot died"),
    ("llama_cpp", "another API's chunks"): ([whole(token("a"), DONE)], "malformed", 200, "not a chunk"),
}


@pytest.mark.parametrize(("api", "name"), FAULTS_OF)
def test_a_fault_is_its_own_outcome_by_every_api(api: Api, name: str) -> None:
    steps, outcome, status, said = FAULTS_OF[api, name]
    row = first(steps, api)
    assert (row["outcome"], row["http_status"]) == (outcome, status) and said in str(row["error"])


@pytest.mark.parametrize("api", EVERY_API)
def test_a_slow_answer_is_ok_and_a_stalled_one_is_not(api: Api) -> None:
    def stalled(asked: Asked) -> Iterable[Step]:
        return [*list(answer(asked))[:3], HOLD]
    slow, held = first(lambda asked: answer(asked, 0.1, 0.1), api, timeout_s=5), first(stalled, api, timeout_s=0.3)
    assert (slow["outcome"], slow["finish_reason"], slow["output_tokens"]) == ("ok", "length", 3)
    assert held["outcome"] == "timeout" and held["finish_reason"] is None and held["output_tokens"] == 1


def test_an_end_by_the_model_has_one_name() -> None:
    endings: list[tuple[Api, bytes]] = [
        ("completions", token("a", "stop") + DONE), ("tgi", tgi("a", "eos_token")), ("tgi", tgi("a", "stop_sequence")),
        ("llama_cpp", llama("a") + llama("", "eos")), ("llama_cpp", llama("a") + llama("", "word"))]
    for api, stream in endings:
        row = first([whole(stream)], api)
        assert (row["outcome"], row["finish_reason"], row["output_tokens"]) == ("ok", "stop", 1)


def test_a_failed_request_is_counted_and_is_no_latency_sample() -> None:
    def script(asked: Asked) -> Iterable[Step]:
        return [plain("429 Too Many Requests", ERROR)] if len(server.asked) % 2 else answer(asked)
    with TruthServer(script) as server:
        frame = run(server.endpoint(), Load(concurrency=1, requests=10, warmup_requests=0)).requests
    summary = summarise(frame)
    assert (summary.requests_ok, summary.requests_failed) == (5, 5)
    assert summary.outcomes == {"http_429": 5, "ok": 5}
    assert frame.filter(pl.col("outcome") == "http_429")["first_token_ns"].null_count() == 5


def test_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    frame = run(Endpoint(url=url, model="m"), Load(concurrency=2, requests=4, warmup_requests=0)).requests
    measured = frame.filter(pl.col("phase") == "measured")
    assert measured.height == 4 and set(measured["outcome"]) == {"refused"}
    assert measured["sent_ns"].null_count() == 4 and measured["done_ns"].null_count() == 0


@pytest.mark.parametrize("steps", [[HOLD], [STARTED, HOLD]])
def test_a_stall_ends_at_the_deadline(steps: list[Step]) -> None:
    row = first(steps, timeout_s=0.2)
    assert row["outcome"] == "timeout" and row["error"] == "no end of the answer within 0.2 s"
    assert row["output_tokens"] == (2 if len(steps) == 2 else None)


def test_headers_are_no_token() -> None:
    row = first([HEADERS + b"\r\n", 0.05, chunk(delta(role="assistant", content="")), 0.05, chunk(token("one", "stop")),
                 chunk(DONE) + LAST])
    assert row["outcome"] == "ok" and row["chunk_ns"] is not None and len(row["chunk_ns"]) == 1  # type: ignore[arg-type]
    assert row["first_byte_ns"] < row["first_token_ns"] == row["last_token_ns"]  # type: ignore[operator]


def test_reasoning_and_content_are_stamped_apart() -> None:
    row = first([HEADERS + b"\r\n" + chunk(delta(role="assistant")), 0.02, chunk(delta(reasoning_content="hm")), 0.02,
                 chunk(delta(content="yes")), chunk(delta("stop")), chunk(usage(9, 5, 4)), chunk(DONE) + LAST])
    assert row["outcome"] == "ok" and (row["input_tokens"], row["output_tokens"], row["cached_tokens"]) == (9, 5, 4)
    assert row["first_reasoning_ns"] == row["first_token_ns"] and row["first_content_ns"] == row["last_token_ns"]
    assert row["first_reasoning_ns"] < row["first_content_ns"]  # type: ignore[operator]


@pytest.mark.parametrize(("events", "tokens", "source"), [
    ([token("a"), token("b"), token("", "length"), usage(5, 7)], 7, "usage"),
    ([token("a"), token("b"), token("", "length")], 3, "finish_length"),   # max_tokens of the plan
    ([token("a"), token("b"), token("", "stop")], 2, "chunks"),
])
def test_how_tokens_are_counted(events: list[bytes], tokens: int, source: str) -> None:
    row = first([whole(*events, DONE)])
    assert (row["outcome"], row["output_tokens"], row["output_tokens_source"]) == ("ok", tokens, source)


WHOLE = b"".join(chunk(e) for e in (token("a"), token("b", "length"), usage(5, 2), DONE))


@pytest.mark.parametrize("steps", [
    list(in_pieces(HEADERS + b"Keep-Alive: timeout=5, max=100\r\n\r\n" + WHOLE + LAST, 20,
                   len(HEADERS) + 30, len(HEADERS) + 34)),
    list(in_pieces(HEADERS + b"\r\n" + WHOLE + LAST, *(len(HEADERS) + 2 + len(WHOLE) + i for i in range(5)))),
    [HEADERS + b"\r\n" + WHOLE + b"0\r\nTrailer: x\r\n\r\n"],
    [HEADERS + b"\r\n" + WHOLE + b"0;extension=1\r\n\r\n"],
    [b"HTTP/1.1 100 Continue\r\n\r\n", 0.01, HEADERS + b"\r\n" + WHOLE + LAST],
    [b"HTTP/1.0 200 OK\r\n\r\n" + token("a") + token("b", "length") + usage(5, 2) + DONE, CLOSE],
    [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + token("a") + token("b", "length") + usage(5, 2), CLOSE],
], ids=["max=100 in the headers", "terminator in pieces", "trailer", "chunk extension", "100 Continue",
        "HTTP/1.0", "until the connection closes"])
def test_an_answer_is_whole_however_http_frames_it(steps: list[Step]) -> None:
    row = first(steps)
    assert (row["outcome"], row["output_tokens"], row["http_status"]) == ("ok", 2, 200)


@pytest.mark.parametrize("ending", [LAST, LAST + b"", b"0\r\nConnection: x\r\n\r\n"])
@pytest.mark.parametrize("headers", ["", "Connection: close\r\n", "Keep-Alive: timeout=5, max=100\r\n"])
def test_a_server_that_closes_after_every_answer_loses_no_request(ending: bytes, headers: str) -> None:
    """llama-server promises keep-alive and closes: the next request may already be on its way."""
    whole_answer = HEADERS + headers.encode() + b"\r\n" + WHOLE + ending
    with TruthServer(lambda asked: [whole_answer, CLOSE]) as server:
        frame = run(server.endpoint(), Load(concurrency=3, requests=30, warmup_requests=3), workload(output=2)).requests
    counted = frame.filter(pl.col("phase") != "tail")
    assert counted.height == 33 and set(counted["outcome"]) == {"ok"}
    assert len(server.asked) == frame.filter(pl.col("sent_ns").is_not_null()).height  # none was asked twice


def test_an_answer_to_nothing_costs_the_connection_and_no_request() -> None:
    stray = plain("408 Request Timeout", b"too slow")
    whole_answer = whole(token("a", "length"), usage(5, 3), DONE)
    for steps in ([whole_answer + stray, CLOSE], [whole_answer, 0.01, stray, CLOSE], [whole_answer + stray]):
        with TruthServer(lambda asked, steps=steps: steps) as server:  # type: ignore[misc]
            frame = run(server.endpoint(), Load(concurrency=1, requests=5, warmup_requests=0),
                        workload(turns=5, think_time_s=0.03)).requests
        assert set(frame["outcome"]) == {"ok"} and frame.height == 5 and set(frame["output_tokens"]) == {3}


def test_error_texts_are_short_and_on_one_line() -> None:
    row = first([plain("500 Internal Server Error", b"long\r\n\ttext " * 5000)])
    assert len(str(row["error"])) == 300 and "\n" not in str(row["error"])
