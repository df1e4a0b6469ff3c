"""Where releases are looked for: feeds, package indexes, registries and price lists, each served here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.releases import look, prices
from models.errors import DynoError, EndpointError
from models.releases.policy import FollowFeed, FollowImage, FollowPrices, FollowPyPI
from tests.engines.hub import Hub
from tests.flows.releases.shared import NOTHING, Answer, Web, known, silent

ATOM = """<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom"><title>Release notes</title>
<entry><id>tag:2</id><updated>2026-11-21T10:00:00Z</updated><link rel="alternate" href="https://example.org/b7002"/>
<title>b7002</title></entry>
<entry><id>tag:n</id><updated>2026-11-20T10:00:00Z</updated><title>nightly</title></entry>
<entry><id>tag:1</id><updated>2026-11-19T10:00:00Z</updated><title>b7001</title></entry></feed>"""


def test_an_atom_feed_tells_of_an_engines_versions(web: Web, tmp_path: Path) -> None:
    url, answers = web
    answers["/releases.atom"] = lambda _: (200, {"Content-Type": "application/atom+xml"}, ATOM)
    entry = FollowFeed(feed=f"{url}/releases.atom", tells="engine", engine="llama_cpp")
    (newest,) = look(entry, NOTHING, silent, tmp_path)
    assert (newest.name, newest.version, newest.released_at, newest.url) == (
        "llama_cpp", "b7002", "2026-11-21T10:00:00+00:00", "https://example.org/b7002")
    assert list(look(entry, known(newest), silent, tmp_path)) == []
    two = entry.model_copy(update={"newest": 2, "pattern": r"^b(\d+)$"})
    assert [r.version for r in look(two, NOTHING, silent, tmp_path)] == ["7002", "7001"]


def test_a_json_feed_tells_of_models_on_the_hub(web: Web, organisation: Hub, tmp_path: Path) -> None:
    url, answers = web
    items = [{"id": "1", "url": f"{organisation.url}/org/Tiny", "title": "Tiny is here", "date_published": "2026"},
             {"id": "2", "url": "https://example.org/news", "title": "We moved"}]
    answers["/feed.json"] = lambda _: (200, {}, json.dumps({"version": "https://jsonfeed.org/version/1.1",
                                                           "items": items}))
    answers["/own.json"] = lambda _: (200, {}, json.dumps({"data": {"models": [{"repo": "org/Closed"}]}}))
    told: list[str] = []
    assert [r.name for r in look(FollowFeed(feed=f"{url}/feed.json"), NOTHING, told.append, tmp_path)] == ["org/Tiny"]
    assert "no repository on the Hub is named by 'We moved'" in told[0]
    own = FollowFeed(feed=f"{url}/own.json", items="data.models", name="repo")
    assert [r.name for r in look(own, NOTHING, silent, tmp_path)] == ["org/Closed"]


@pytest.mark.parametrize(("answer", "why"), [
    ((429, {"Retry-After": "60"}, ""), "127.0.0.1 answers 429 Too Many Requests, and asks for a pause of 60 s"),
    ((200, {}, "hello"), "it is neither JSON nor Atom"), ((200, {}, "<html>"), "it is not Atom"),
    ((200, {}, "{}"), "it has no list `items`")])
def test_a_feed_that_is_none(web: Web, tmp_path: Path, answer: Answer, why: str) -> None:
    url, answers = web
    answers["/feed"] = lambda _: answer
    with pytest.raises(EndpointError, match=why):
        list(look(FollowFeed(feed=f"{url}/feed"), NOTHING, silent, tmp_path))


FILES: list[dict[str, Any]] = [
    {"filename": "vllm-0.33.0-py3-none-any.whl", "url": "x", "hashes": {}, "upload-time": "2026-10-01T00:00:00Z"},
    {"filename": "vllm-0.34.0.tar.gz", "url": "x", "hashes": {}, "upload-time": "2026-11-20T00:00:00Z"},
    {"filename": "vllm-0.35.0.tar.gz", "url": "x", "hashes": {}, "yanked": "broken"},
    {"filename": "vllm-0.9.1.tar.gz", "url": "x", "hashes": {}, "yanked": False}]


def test_the_newest_version_on_the_package_index(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, answers = web
    monkeypatch.setenv("PIP_INDEX_URL", url.replace("//", "//somebody:secret@"))
    heard: list[str] = []

    def simple(headers: dict[str, str]) -> Answer:
        heard.append(headers["authorization"])
        return 200, {"Content-Type": "application/vnd.pypi.simple.v1+json"}, json.dumps({"files": FILES})

    answers["/vllm/"] = simple
    entry = FollowPyPI(pypi="vLLM", engine="vllm")
    (found,) = look(entry, NOTHING, silent, tmp_path)
    assert (found.name, found.version, found.released_at) == ("vllm", "0.34.0", "2026-11-20T00:00:00Z")
    assert heard[0].startswith("Basic ")
    html = "".join(f'<a href="x"{" data-yanked=" if f.get("yanked") else ""}>{f["filename"]}</a>' for f in FILES)
    answers["/vllm/"] = lambda _: (200, {"Content-Type": "text/html"}, html)
    assert [r.version for r in look(entry, NOTHING, silent, tmp_path)] == ["0.34.0"]
    del answers["/vllm/"]
    with pytest.raises(EndpointError, match=r"^127\.0\.0\.1 answers 404") as raised:
        list(look(entry, NOTHING, silent, tmp_path))
    assert "secret" not in str(raised.value)


def test_the_newest_tag_of_an_image_from_a_registry_that_wants_a_token(web: Web, tmp_path: Path) -> None:
    url, answers = web
    host = url.removeprefix("http://")

    def tags(page: int) -> Callable[[dict[str, str]], Answer]:
        def answer(headers: dict[str, str]) -> Answer:
            if headers.get("authorization") != "Bearer of-the-day":
                return 401, {"WWW-Authenticate": f'Bearer realm="{url}/token",service="here",'
                                                 'scope="repository:vllm/vllm-openai:pull"'}, ""
            more = {"Link": '</v2/vllm/vllm-openai/tags/list?n=1000&last=b>; rel="next"'} if page == 0 else {}
            return 200, more, json.dumps({"name": "x", "tags": [["latest", "v0.9.1", "v0.34.0"], ["v0.10.2"]][page]})
        return answer

    answers["/v2/vllm/vllm-openai/tags/list?n=1000"] = tags(0)
    answers["/v2/vllm/vllm-openai/tags/list?n=1000&last=b"] = tags(1)
    answers["/token?service=here&scope=repository%3Avllm%2Fvllm-openai%3Apull"] = lambda _: (
        200, {}, json.dumps({"token": "of-the-day"}))
    (found,) = look(FollowImage(image=f"{host}/vllm/vllm-openai", engine="vllm"), NOTHING, silent, tmp_path)
    assert (found.version, found.runtime, found.image) == ("0.34.0", "docker", f"{host}/vllm/vllm-openai:v0.34.0")
    answers["/v2/vllm/vllm-openai/tags/list?n=1000"] = lambda _: (401, {"WWW-Authenticate": "Basic realm=x"}, "")
    with pytest.raises(EndpointError, match="refuses to list the tags of vllm/vllm-openai: docker login"):
        list(look(FollowImage(image=f"{host}/vllm/vllm-openai", engine="vllm"), NOTHING, silent, tmp_path))


def test_a_price_list_is_stored_when_it_says_something_new(tmp_path: Path) -> None:
    home, file = tmp_path / "home", tmp_path / "list.yaml"
    row: dict[str, Any] = {"hardware": "H100", "price_per_hour": 2.0, "tier": "on-demand", "date": "2026-11-01",
                           "source": "quotation"}
    file.write_text(json.dumps({"prices": [row]}))
    entry = FollowPrices(prices="list.yaml")
    found = prices.look(entry, NOTHING, home, tmp_path, "2026-11-26")
    assert found and found[1] == "1 prices stored, of 1 kinds of hardware"
    assert prices.look(entry, known(found[0]), home, tmp_path, "2026-11-27") is None
    file.write_text(json.dumps({"prices": [row | {"price_per_hour": 1.8}]}))
    assert prices.look(entry, known(found[0]), home, tmp_path, "2026-11-27") is not None
    file.write_text("prices: 3")
    with pytest.raises(DynoError):
        prices.look(entry, known(found[0]), home, tmp_path, "2026-11-27")
