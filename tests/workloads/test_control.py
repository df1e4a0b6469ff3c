"""Questions outside the timed run: what serves at a URL, and one-line errors where nothing of use does."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

import pytest

from models.errors import EndpointError, UserError
from models.records import Endpoint
from models.specs import Api
from tests.workloads.truth import CLOSE, HOLD, Asked, Step, TruthServer, answer, plain, whole
from workloads import control
from workloads.address import Address, http, redacted

KEY = "sk-very-secret-0123456789"


def test_discover_finds_model_tokenizer_and_what_is_accepted() -> None:
    with TruthServer(models=["m-8b"]) as server:
        found = control.discover(server.url + "/v1/")
    assert found == Endpoint(url=server.url, model="m-8b", tokenize_path="/tokenize", tokenize_field="content",
                             schema_form="json_schema", body={"temperature": 0.0}, fixed_length={"ignore_eos": True})


def test_discover_leaves_out_what_is_refused() -> None:
    def strict(asked: Asked) -> Iterable[Step]:
        return [plain("400 Bad Request", b"{}")] if "ignore_eos" in asked.body else answer(asked)
    with TruthServer(strict, tokenize=False) as server:
        found = control.discover(server.url, "truth", KEY)
        assert {a.headers["authorization"] for a in server.asked} == {f"Bearer {KEY}"}
    assert found == Endpoint(url=server.url, model="truth") and KEY not in repr(found)


def test_discover_works_where_there_is_only_chat() -> None:
    def chat(asked: Asked) -> Iterable[Step]:
        return answer(asked) if "messages" in asked.body else [plain("404 Not Found", b"{}")]
    with TruthServer(chat) as server:
        assert control.discover(server.url).model == "truth"
        control.settle(server.endpoint())


NATIVE: tuple[Api, ...] = ("tgi", "llama_cpp")


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("api", NATIVE)
def test_discover_and_settle_work_where_there_is_only_the_engine_s_own_api(api: Api, named: bool) -> None:
    with TruthServer(apis=(api,), models=["m-8b"]) as server:
        found = control.discover(server.url, api=api if named else None)
        control.settle(found, api=api if named else None)
        with http(Address.parse(server.url), None, 10) as client:
            assert control.prompt_tokens(client, found, api if named else None, prompt="one two six") == 4
    own = {"body": {"temperature": 0.0}, "fixed_length": {"ignore_eos": True}}
    form = "value" if api == "tgi" else "json_schema"
    assert found == Endpoint.model_validate({
        "url": server.url, "model": "m-8b", "tokenize_path": "/tokenize", "schema_form": form,
        "tokenize_field": "inputs" if api == "tgi" else "content", **(own if api == "llama_cpp" else {})})


@pytest.mark.parametrize("api", NATIVE)
def test_an_api_that_is_not_there_is_said(api: Api) -> None:
    with TruthServer() as server, pytest.raises(EndpointError, match="truth does not answer: HTTP 404"):
        control.discover(server.url, api=api)
    with TruthServer() as server, pytest.raises(EndpointError, match="HTTP 404"):
        control.settle(server.endpoint(), timeout_s=0.3, api=api)


def test_of_several_refusals_the_telling_one_is_said() -> None:
    gone = [plain("404 Not Found", b'{"error": {"message": "the model m does not exist"}}')]
    with TruthServer(lambda asked: gone) as server, pytest.raises(EndpointError, match="the model m does not exist"):
        control.discover(server.url, "truth")


def test_a_prefix_cache_is_forgotten_where_that_can_be_asked_for() -> None:
    with TruthServer(lambda asked: [plain("200 OK", b'{"success": true}')]) as server:
        control.forget(server.endpoint())
        assert server.asked == []
        control.forget(server.endpoint(reset_path="/v1/completions"))  # any path that answers a POST
        assert len(server.asked) == 1
        with pytest.raises(EndpointError, match=r"does not forget its prefix cache: HTTP 404: .*no such path"):
            control.forget(server.endpoint(reset_path="/reset_prefix_cache"))


def test_an_error_under_200_is_no_answer() -> None:
    overloaded = [whole(b'data:{"error":"Model is overloaded","error_type":"overloaded"}\n\n')]
    with TruthServer(lambda asked: overloaded, apis=("tgi",)) as server:
        with pytest.raises(EndpointError, match="Model is overloaded"):
            control.discover(server.url)
        with pytest.raises(EndpointError, match="Model is overloaded"):
            control.settle(server.endpoint(), timeout_s=0.3)


@pytest.mark.parametrize(("more", "model", "said"), [
    ({"models": ["a", "b"]}, None, "serves a, b; say which with --model"),
    ({"models": []}, None, "names no model at /v1/models; say which with --model"),
    ({"models": ["a"]}, "c", "does not serve 'c'; it serves a"),
    ({"script": lambda asked: [plain("500 Oh", b'{"error": "no memory"}')]}, None,
     'truth does not answer: HTTP 500: {"error": "no memory"}'),
])
def test_discover_says_what_is_wrong(more: dict[str, Any], model: str | None, said: str) -> None:
    with TruthServer(**more) as server, pytest.raises(EndpointError) as caught:
        control.discover(server.url, model)
    assert said in str(caught.value) and server.url in str(caught.value) and "\n" not in str(caught.value)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def test_nothing_there_is_one_line() -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    for ask in (control.check, control.discover):
        with pytest.raises(EndpointError, match=f"{url}: nothing answers there: .*refused") as caught:
            ask(url)
        assert "\n" not in str(caught.value)


def test_check_is_content_with_anything_that_speaks_http() -> None:
    with TruthServer() as server:
        control.check(server.url)
        assert [a.path for a in server.asked] == ["/v1/models"]


@pytest.mark.parametrize("script", [[HOLD], [CLOSE], [plain("503 Loading", b"")]])
def test_settle_gives_up_in_time(script: list[Step]) -> None:
    with TruthServer(lambda asked: script) as server, pytest.raises(EndpointError, match=r"after 0\.3 s"):
        control.settle(server.endpoint(), timeout_s=0.3)


def test_settle_waits_until_the_engine_answers() -> None:
    def script(asked: Asked) -> Iterable[Step]:
        return answer(asked) if len(server.asked) > 3 else [plain("503 Loading", b"")]
    with TruthServer(script) as server:
        control.settle(server.endpoint())
    assert len(server.asked) == 4


@pytest.mark.parametrize(("url", "said"), [
    ("127.0.0.1:8080", "write http://host:port"), ("ftp://h", "write http://host:port"), ("http://", "http://host"),
    ("http://h:x", "not a URL"), ("http://h:99999", "not a URL"), ("http://h/v1?key=1", "leave out what follows"),
    ("http://me:hunter2@h", "leave user and password out"), ("me:hunter2@h", "(hidden: it may hold a password)"),
])
def test_what_is_no_url_is_said_without_its_password(url: str, said: str) -> None:
    for ask in (control.check, control.discover):
        with pytest.raises(UserError) as caught:
            ask(url)
        assert said in str(caught.value) and "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("url", "parsed", "shown"), [
    ("http://h:8080/", Address(False, "h", 8080, ""), "http://h:8080"),
    ("https://h/base/", Address(True, "h", 443, "/base"), "https://h/base"),
    ("http://[::1]:80", Address(False, "::1", 80, ""), "http://[::1]"),
])
def test_addresses(url: str, parsed: Address, shown: str) -> None:
    assert Address.parse(url) == parsed and parsed.url == shown


def test_a_key_is_taken_out_of_any_text() -> None:
    assert redacted(f"bad {KEY}\n {KEY}", KEY) == "bad [key] [key]" and len(redacted("x" * 999, None)) == 300
