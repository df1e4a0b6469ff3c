"""Questions to an endpoint outside the timed run: is it there, what does it serve, does it answer."""

from __future__ import annotations

import time
from typing import Any

import httpx

from models.errors import EndpointError
from models.records import Endpoint
from models.specs import Api
from workloads import dialects
from workloads.address import Address, bearer, http, redacted
from workloads.answer import read_whole
from workloads.dialects import Dialect

TIMEOUT_S = 10.0
FIRST_TOKEN_TIMEOUT_S = 300.0
_TOKENIZERS = (("/tokenize", "content"), ("/tokenize", "prompt"), ("/tokenize", "inputs"),
               ("/extras/tokenize", "input"))
"""Path and text field: llama-server; vLLM and SGLang; TGI; llama_cpp.server."""
_SCHEMA_FORMS = {("/tokenize", "content"): "json_schema", ("/tokenize", "inputs"): "value",
                 ("/extras/tokenize", "input"): "json_object"}
_NAMES = (("/info", "model_id"), ("/props", "model_alias"))
"""Where TGI and llama-server say what they serve, should they not do so at /v1/models."""
_NO_SUCH_API = (404, 405)


def check(url: str, api_key: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
    """Returns when something speaks HTTP at that URL, whatever it says. Raises UserError for what is no URL,
    EndpointError when nothing answers."""
    key = bearer(api_key)
    with http(Address.parse(url), key, timeout_s) as client:
        _ask(client, "GET", "/v1/models", key)


def discover(url: str, model: str | None = None, api_key: str | None = None, api: Api | None = None) -> Endpoint:
    """Finds out how to talk to a server: its model, its tokenizer endpoint, whether answers can be kept from ending.

    It is asked by the API named, or by whichever it has. A trailing /v1 of the URL is dropped. Raises UserError for
    what is no URL; EndpointError when nothing answers, the key is refused, the model is not served, or several are and
    none was named.
    """
    key = bearer(api_key)
    address = Address.parse(url.rstrip("/").removesuffix("/v1"))
    with http(address, key, TIMEOUT_S) as client:
        endpoint = Endpoint(url=address.url, model=_model(client, model, key))
        endpoint = _with_tokenizer(client, endpoint)
        told: list[httpx.Response] = []
        for dialect in dialects.candidates(api):
            for fixed in ({"body": dict(dialect.sampling), "fixed_length": dict(dialect.fixed_length)}, {}):
                candidate = endpoint.model_copy(update=fixed)
                answer = _one_token(client, candidate, dialect, key)
                if _answered(answer, dialect):
                    return candidate
                told.append(answer)
                if answer.status_code in _NO_SUCH_API:
                    break
            else:
                break
    raise EndpointError(f"{address.url}: {endpoint.model} does not answer: {_says(_telling(told), key)}")


def _with_tokenizer(client: httpx.Client, endpoint: Endpoint) -> Endpoint:
    """The endpoint with its tokenizer, by which llama.cpp's servers and TGI are known."""
    for path, field in _TOKENIZERS:
        tried = endpoint.model_copy(update={"tokenize_path": path, "tokenize_field": field})
        if tokenize(client, tried, "one two three"):
            own = _SCHEMA_FORMS.get((path, field))
            return tried.model_copy(update={"schema_form": own} if own else {})
    return endpoint


def settle(endpoint: Endpoint, api_key: str | None = None, timeout_s: float = 120.0, api: Api | None = None) -> None:
    """Returns once one token was answered, as after a load whose last requests were cut off. Raises EndpointError when
    none is within timeout_s."""
    key, deadline = bearer(api_key), time.monotonic() + timeout_s
    trouble = "no answer"
    with http(Address.parse(endpoint.url), key, timeout_s) as client:
        while (left_s := deadline - time.monotonic()) > 0:
            told: list[httpx.Response] = []
            try:
                for dialect in dialects.candidates(api):
                    answer = _one_token(client, endpoint, dialect, key, left_s)
                    if _answered(answer, dialect):
                        return
                    told.append(answer)
                    if answer.status_code not in _NO_SUCH_API:
                        break
                trouble = _says(_telling(told), key)
            except EndpointError as error:
                trouble = str(error)
            time.sleep(0.05)
    raise EndpointError(f"{endpoint.url} does not answer a request of one token after {timeout_s:g} s: {trouble}")


def forget(endpoint: Endpoint, api_key: str | None = None) -> None:
    """Empties the server's prefix cache, where that can be asked for: what an earlier run left there would speed this
    one up. Raises EndpointError when it refuses."""
    if endpoint.reset_path is None:
        return
    key = bearer(api_key)
    with http(Address.parse(endpoint.url), key, TIMEOUT_S) as client:
        answer = _ask(client, "POST", endpoint.reset_path, key)
    if answer.status_code != 200:
        raise EndpointError(f"{endpoint.url} does not forget its prefix cache: {_says(answer, key)}")


def tokenize(client: httpx.Client, endpoint: Endpoint, text: str, **more: object) -> list[int] | None:
    """Returns token ids by the server's own tokenizer; None when it has no such endpoint. more: fields to ask with."""
    if endpoint.tokenize_path is None:
        return None
    question = {"model": endpoint.model, endpoint.tokenize_field: text, **more}
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


def prompt_tokens(client: httpx.Client, endpoint: Endpoint, api: Api | None = None, /, **question: object,
                  ) -> int | None:
    """Asks for one token and returns the prompt's tokens as the server counted them; None when it does not say.

    question: prompt=…, or messages=… for chat, which is asked by the API named or by whichever takes it.
    """
    for dialect in dialects.candidates(api, "messages" if "messages" in question else "prompt"):
        body = dialect.asker(endpoint, None, False)(question, 1)
        try:
            answer = client.post(dialect.path(endpoint), json=body, timeout=FIRST_TOKEN_TIMEOUT_S)
        except httpx.HTTPError:
            return None
        if answer.status_code == 200:
            return read_whole(answer.content, dialect.take).input_tokens
        if answer.status_code not in _NO_SUCH_API:
            return None
    return None


def _one_token(client: httpx.Client, endpoint: Endpoint, dialect: Dialect, key: str | None,
               timeout_s: float = FIRST_TOKEN_TIMEOUT_S) -> httpx.Response:
    question: dict[str, object] = (
        {"messages": [{"role": "user", "content": "Hello"}]} if dialect.chat else {"prompt": "Hello"})
    body = dialect.asker(endpoint, None, False)(question, 1)
    return _ask(client, "POST", dialect.path(endpoint), key, body, timeout_s)


def _answered(answer: httpx.Response, dialect: Dialect) -> bool:
    return answer.status_code == 200 and read_whole(answer.content, dialect.take).error is None


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
    if not served:
        served = _named_elsewhere(client, key)
    if len(served) != 1:
        raise EndpointError(f"{client.base_url} names no model at /v1/models; say which with --model" if not served else
                            f"{client.base_url} serves {', '.join(served)}; say which with --model")
    return served[0]


def _named_elsewhere(client: httpx.Client, key: str | None) -> list[str]:
    for path, field in _NAMES:
        try:
            name = _ask(client, "GET", path, key).json()[field]
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(name, str) and name:
            return [name]
    return []


def _ask(client: httpx.Client, method: str, path: str, key: str | None, body: Any = None,
         timeout_s: float = TIMEOUT_S) -> httpx.Response:
    """Raises EndpointError, in one line, when there is no HTTP answer."""
    try:
        return client.request(method, path, json=body, timeout=timeout_s)
    except httpx.TimeoutException:
        raise EndpointError(f"{client.base_url}: no answer from {path} within {timeout_s:g} s") from None
    except httpx.TransportError as error:
        raise EndpointError(f"{client.base_url}: nothing answers there: {redacted(str(error), key)}") from None


def _telling(told: list[httpx.Response]) -> httpx.Response:
    """The first that is more than the lack of an API; else the first, which may mean that the model is not there."""
    return next((answer for answer in told if answer.status_code not in _NO_SUCH_API), told[0])


def _says(answer: httpx.Response, key: str | None) -> str:
    return f"HTTP {answer.status_code}: {redacted(answer.text[:4096], key)}"
