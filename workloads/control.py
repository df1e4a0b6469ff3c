"""What is asked of a server outside the timed part: is it there, what does it serve, is it free again."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import httpx

from models.errors import EndpointError, UserError
from models.records import Endpoint

_TOKENIZERS = (("/tokenize", "content"), ("/tokenize", "prompt"), ("/extras/tokenize", "input"))
"""llama-server, vLLM, llama_cpp.server: path and name of the text's field."""


def client(url: str, api_key: str | None = None) -> httpx.Client:
    """A client for control requests. Proxies of the environment are not used for a server on this machine."""
    local = (urlsplit(url).hostname or "") in {"127.0.0.1", "localhost", "::1"}
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return httpx.Client(base_url=url, headers=headers, timeout=30.0, trust_env=not local)


def post(http: httpx.Client, path: str, body: dict[str, Any], timeout_s: float = 30.0) -> Any:
    """Returns the JSON of an answer, None when the server refuses. Raises EndpointError when it does not answer."""
    try:
        answer = http.post(path, json=body, timeout=timeout_s)
        return answer.json() if answer.is_success else None
    except ValueError:
        return None
    except httpx.HTTPError as error:
        raise EndpointError(f"{http.base_url} does not answer: {str(error) or type(error).__name__}") from None


def settle(endpoint: Endpoint, api_key: str | None = None, timeout_s: float = 120.0) -> None:
    """Returns when a one-token request was answered: nothing of the trial before is in the engine's way any more.

    Raises EndpointError when it does not answer.
    """
    with client(endpoint.url, api_key) as http:
        body = {"model": endpoint.model, "prompt": "settle", "max_tokens": 1, **endpoint.body}
        post(http, endpoint.completions_path, body, timeout_s)


def discover(url: str, model: str | None = None, api_key: str | None = None) -> Endpoint:
    """Finds out how to talk to whatever serves at a URL: its model's name, its tokenizer, what it accepts.

    Raises UserError for a URL that is none, EndpointError when it does not answer or serves another API.
    """
    url = url.rstrip("/").removesuffix("/v1")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"--url {url}: write http://host:port")
    with client(url, api_key) as http:
        served = _models(http, url)
        if model is None and not served:
            raise EndpointError(f"{url} lists no model under /v1/models: give --model")
        tokenizer = next(((p, f) for p, f in _TOKENIZERS if _tokenizes(http, p, f)), (None, "content"))
        found = Endpoint(url=url, model=model or served[0], tokenize_path=tokenizer[0], tokenize_field=tokenizer[1])
        return found.model_copy(update={"body": _accepted(http, found.model)})


def _models(http: httpx.Client, url: str) -> list[str]:
    try:
        answer = http.get("/v1/models")
        if answer.status_code in (401, 403):
            raise EndpointError(f"{url} answered HTTP {answer.status_code}: set DYNO_API_KEY")
        listed = answer.json().get("data", []) if answer.is_success else []
        return [str(m["id"]) for m in listed]
    except (ValueError, KeyError, AttributeError, TypeError):
        raise EndpointError(f"{url}/v1/models is not the OpenAI API") from None
    except httpx.HTTPError as error:
        raise EndpointError(f"{url} does not answer: {str(error) or type(error).__name__}") from None


def _tokenizes(http: httpx.Client, path: str, field: str) -> bool:
    answer = post(http, path, {field: "hello"})
    return isinstance(answer, dict) and bool(answer.get("tokens"))


def _accepted(http: httpx.Client, model: str) -> dict[str, object]:
    """Fields that fix the output length, where the server does not refuse them."""
    wanted: dict[str, object] = {"ignore_eos": True, "temperature": 0.0}
    body = {"model": model, "prompt": "hello", "max_tokens": 1, **wanted}
    return wanted if post(http, "/v1/completions", body, timeout_s=120.0) is not None else {}
