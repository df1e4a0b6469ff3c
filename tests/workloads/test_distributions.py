"""What comes next, asked of recorded answers and of scripted servers; llama.cpp is asked in tests/flows."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from models.errors import EndpointError
from models.records import Endpoint
from workloads import distributions
from workloads.distributions import FIRST, POSITIONS, STRIDE

SAMPLES = Path(__file__).parent / "logprobs"
Asked = list[tuple[str, dict[str, Any]]]


@contextmanager
def server(answer: Callable[[str, dict[str, Any]], tuple[int, bytes]]) -> Iterator[tuple[str, Asked]]:
    """A server whose answers a function makes; yields its URL and what it was asked."""
    asked: Asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, body))
            status, content = answer(self.path, body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}", asked
        finally:
            httpd.shutdown()
            thread.join()


def endpoint(url: str, **fields: object) -> Endpoint:
    known = {"url": url, "model": "m", "tokenize_path": "/tokenize", "logprobs_max": 5}
    return Endpoint.model_validate(known | fields)


def telling(sample: str, tokens: int = 500) -> Callable[[str, dict[str, Any]], tuple[int, bytes]]:
    """A recorded answer to every question, and a tokenizer of so many tokens."""
    body = (SAMPLES / f"{sample}.json").read_bytes()

    def answer(path: str, _: dict[str, Any]) -> tuple[int, bytes]:
        return 200, json.dumps({"tokens": list(range(1000, 1000 + tokens))}).encode() if path == "/tokenize" else body
    return answer


TOP_IDS = [29494, 26320, 9310]
"""The likeliest three, of the same model on every engine."""


@pytest.mark.parametrize(("sample", "fields", "path"), [
    ("llama-server", {}, "/v1/completions"),
    ("vllm", {"tokenize_field": "prompt", "logprobs_body": {"return_tokens_as_token_ids": True}}, "/v1/completions"),
    ("sglang", {"logprobs_form": "sglang"}, "/generate"),
    ("tgi", {"logprobs_form": "tgi", "tokenize_field": "inputs"}, "/generate"),
])
def test_each_engines_answer_is_read(sample: str, fields: dict[str, object], path: str) -> None:
    with server(telling(sample)) as (url, asked):
        told = distributions.ask(endpoint(url, **fields))
    assert told.frame.filter(pl.col("position") == 7)["token_id"].to_list()[:3] == TOP_IDS
    assert told.frame["logprob"].is_between(-9.4, -9.05).all() and told.frame["position"].n_unique() == POSITIONS
    assert {p for p, _ in asked} - {"/tokenize"} == {path}


def test_prefixes_grow_and_say_what_comes_next() -> None:
    with server(telling("llama-server")) as (url, asked):
        told = distributions.ask(endpoint(url, body={"temperature": 0.7}, logprobs_body={"cache_prompt": True}))
    first, last = asked[1][1], asked[-1][1]
    assert first["prompt"] == list(range(1000, 1000 + FIRST)) and told.next_tokens[0] == 1000 + FIRST
    assert len(last["prompt"]) == FIRST + STRIDE * (POSITIONS - 1)
    assert (first["temperature"], first["max_tokens"], first["logprobs"], first["cache_prompt"]) == (0.0, 1, 5, True)
    assert asked[0][1]["add_special"] is True and told.by == "ids" and told.seconds > 0


@pytest.mark.parametrize(("tokens", "context", "positions"), [(500, 100, 23), (60, None, 13), (500, 12, None)])
def test_the_context_and_the_text_bound_the_prefixes(tokens: int, context: int | None, positions: int | None) -> None:
    with server(telling("llama-server", tokens)) as (url, asked):
        if positions is None:
            with pytest.raises(EndpointError, match="a context of 12 tokens"):
                distributions.ask(endpoint(url), context_tokens=context)
            return
        told = distributions.ask(endpoint(url), context_tokens=context)
    assert len(told.next_tokens) == positions
    assert max(len(body["prompt"]) for _, body in asked[1:]) < min(tokens, context or tokens)


def test_the_same_prefixes_have_the_same_id_and_others_another() -> None:
    with server(telling("llama-server")) as (url, _):
        ids = [distributions.ask(endpoint(url), context_tokens=c).text_id for c in (None, 4096, 64)]
    assert ids[0] == ids[1] != ids[2]


def test_without_a_tokenizer_the_text_is_cut_between_words() -> None:
    with server(telling("llama-server")) as (url, asked):
        told = distributions.ask(endpoint(url, tokenize_path=None))
    prompts = [body["prompt"] for _, body in asked]
    assert told.by == "text" and set(told.next_tokens) == {None} and len(prompts) == POSITIONS
    assert prompts[0] == "A bridge is a promise that a river"
    assert all(longer.startswith(prompt) for prompt, longer in itertools.pairwise(prompts))


def test_tokens_by_text_that_are_no_whole_character_are_left_out() -> None:
    body = {"choices": [{"logprobs": {"top_logprobs": [{" a": -0.5, "\ufffd": -1.0, " b": -2.0}]}}]}
    with server(lambda path, _: (404, b"") if path == "/tokenize" else (200, json.dumps(body).encode())) as (url, _):
        told = distributions.ask(endpoint(url))
    assert told.frame.filter(pl.col("position") == 0).select("token_id", "token", "logprob").rows() == [
        (None, " a", -0.5), (None, " b", -2.0)]


@pytest.mark.parametrize(("status", "body", "says"), [
    (400, b'{"error": "at most 20 logprobs"}', "HTTP 400 when asked for 5 next tokens.*at most 20"),
    (200, b'{"choices": [{"text": "x", "logprobs": null}]}', "told no log-probabilities"),
    (200, b"<html>", "told no log-probabilities")])
def test_an_answer_that_tells_nothing_is_an_error_that_says_so(status: int, body: bytes, says: str) -> None:
    with server(lambda path, _: (404, b"") if path == "/tokenize" else (status, body)) as (url, _), \
            pytest.raises(EndpointError, match=says):
        distributions.ask(endpoint(url))


def test_an_engine_that_tells_none_says_why() -> None:
    with pytest.raises(EndpointError, match="only with all logits"):
        distributions.ask(endpoint("http://127.0.0.1:1", logprobs_max=None, logprobs_refused="only with all logits"))
