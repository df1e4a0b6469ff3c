"""Questions to an endpoint outside the timed run: is it there, what does it serve, does it answer."""

from __future__ import annotations

import time
from typing import Any

import httpx

from models.errors import EndpointError
from models.records import Endpoint
from workloads.address import Address, bearer, http, redacted

TIMEOUT_S = 10.0
FIRST_TOKEN_TIMEOUT_S = 300.0
_TOKENIZERS = (("/tokenize", "content"), ("/tokenize", "prompt"), ("/tokenize", "inputs"),
               ("/extras/tokenize", "input"))
"""Path and text field: llama-server; vLLM and SGLang; TGI; llama_cpp.server."""
_FIXED_LENGTH: dict[str, object] = {"ignore_eos": True, "temperature": 0.0}
"""vLLM, SGLang, llama-server: go on until max_tokens, the same each time. Others refuse it or overlook it."""


def check(url: str, api_key: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
    """Returns when something speaks HTTP at that URL, whatever it says. Raises UserError for what is no URL,
    EndpointError when nothing answers."""
    key = bearer(api_key)
    with http(Address.parse(url), key, timeout_s) as client:
        _ask(client, "GET", "/v1/models", key)


def discover(url: str, model: str | None = None, api_key: str | None = None) -> Endpoint:
    """Finds out how to talk to an OpenAI-compatible server: its model, tokenizer endpoint, whether it takes ignore_eos.

    A trailing /v1 of the URL is dropped. Raises UserError for what is no URL; EndpointError when nothing answers, the
    key is refused, the model is not served, or several are and none was named.
    """
    key = bearer(api_key)
    address = Address.parse(url.rstrip("/").removesuffix("/v1"))
    with http(address, key, TIMEOUT_S) as client:
        endpoint = Endpoint(url=address.url, model=_model(client, model, key))
        for path, field in _TOKENIZERS:
            tried = endpoint.model_copy(update={"tokenize_path": path, "tokenize_field": field})
            if tokenize(client, tried, "one two three"):
                endpoint = tried
                break
        fixed = endpoint.model_copy(update={"body": dict(_FIXED_LENGTH)})
        for candidate in (fixed, endpoint):
            answer = _one_token(client, candidate, key)
            if answer.status_code == 200:
                return candidate
    raise EndpointError(f"{address.url}: {endpoint.model} does not answer: {_says(answer, key)}")


def settle(endpoint: Endpoint, api_key: str | None = None, timeout_s: float = 120.0) -> None:
    """Returns once one token was answered, as after a load whose last requests were cut off. Raises EndpointError when
    none is within timeout_s."""
    key, deadline = bearer(api_key), time.monotonic() + timeout_s
    trouble = "no answer"
    with http(Address.parse(endpoint.url), key, timeout_s) as client:
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                answer = _one_token(client, endpoint, key, left_s)
            except EndpointError as error:
                trouble = str(error)
            else:
                if answer.status_code == 200:
                    return
                trouble = _says(answer, key)
            time.sleep(0.05)
    raise EndpointError(f"{endpoint.url} does not answer a request of one token after {timeout_s:g} s: {trouble}")


def tokenize(client: httpx.Client, endpoint: Endpoint, text: str) -> list[int] | None:
    """Returns token ids by the server's own tokenizer; None when it has no such endpoint."""
    if endpoint.tokenize_path is None:
        return None
    question = {"model": endpoint.model, endpoint.tokenize_field: text}
    try:
        answer = client.post(endpoint.tokenize_path, json=question)
        found = answer.json() if answer.status_code == 200 else None
    except (httpx.HTTPError, ValueError):
        return None
    ids = found.get("tokens") if isinstance(found, dict) else found
    if not isinstance(ids, list) or not ids:
        return None
    ids = [t.get("id") if isinstance(t, dict) else t for t in ids]
    return ids if all(isinstance(t, int) for t in ids) else None


def prompt_tokens(client: httpx.Client, endpoint: Endpoint, **question: object) -> int | None:
    """Asks for one token and returns the prompt's tokens as the server counted them; None when it does not say.

    question: prompt=… for completions, messages=… for chat.
    """
    path = endpoint.chat_path if "messages" in question else endpoint.completions_path
    body = {"model": endpoint.model, **question, **endpoint.body, "max_tokens": 1}
    try:
        answer = client.post(path, json=body, timeout=FIRST_TOKEN_TIMEOUT_S)
        count = answer.json()["usage"]["prompt_tokens"] if answer.status_code == 200 else None
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return None
    return count if isinstance(count, int) else None


def _one_token(client: httpx.Client, endpoint: Endpoint, key: str | None,
               timeout_s: float = FIRST_TOKEN_TIMEOUT_S) -> httpx.Response:
    """By completions, or by chat where there are none."""
    body = {"model": endpoint.model, **endpoint.body, "max_tokens": 1}
    answer = _ask(client, "POST", endpoint.completions_path, key, {**body, "prompt": "Hello"}, timeout_s)
    if answer.status_code in (404, 405):
        chat = {**body, "messages": [{"role": "user", "content": "Hello"}]}
        answer = _ask(client, "POST", endpoint.chat_path, key, chat, timeout_s)
    return answer


def _model(client: httpx.Client, wanted: str | None, key: str | None) -> str:
    """The served model's name, checked against /v1/models where there is one."""
    answer = _ask(client, "GET", "/v1/models", key)
    if answer.status_code in (401, 403):
        raise EndpointError(f"{client.base_url}: {_says(answer, key)}: put a valid key into DYNO_API_KEY")
    try:
        served = [str(m["id"]) for m in answer.json()["data"]] if answer.status_code == 200 else []
    except (ValueError, KeyError, TypeError):
        served = []
    if wanted is not None:
        if served and wanted not in served:
            raise EndpointError(f"{client.base_url} does not serve {wanted!r}; it serves {', '.join(served)}")
        return wanted
    if len(served) != 1:
        raise EndpointError(f"{client.base_url} names no model at /v1/models; say which with --model" if not served else
                            f"{client.base_url} serves {', '.join(served)}; say which with --model")
    return served[0]


def _ask(client: httpx.Client, method: str, path: str, key: str | None, body: Any = None,
         timeout_s: float = TIMEOUT_S) -> httpx.Response:
    """Raises EndpointError, in one line, when there is no HTTP answer."""
    try:
        return client.request(method, path, json=body, timeout=timeout_s)
    except httpx.TimeoutException:
        raise EndpointError(f"{client.base_url}: no answer from {path} within {timeout_s:g} s") from None
    except httpx.TransportError as error:
        raise EndpointError(f"{client.base_url}: nothing answers there: {redacted(str(error), key)}") from None


def _says(answer: httpx.Response, key: str | None) -> str:
    return f"HTTP {answer.status_code}: {redacted(answer.text[:4096], key)}"
