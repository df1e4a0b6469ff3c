"""Waits until an engine answers: it listens, says it is healthy, and has generated one token."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx

from engines import _ports
from engines._running import Running
from models.errors import EndpointError, LaunchFailed
from models.records import Endpoint

_POLL_S = 0.05
_LOADING = frozenset({408, 425, 429, 503})


class PortTaken(Exception):
    """Somebody else got the port first; another one will do."""


def wait_ready(running: Running, port: int, endpoint_at: Callable[[str], Endpoint], health_path: str | None,
               timeout_s: float) -> Endpoint:
    """Returns how to talk to it, once one real token came back from it.

    The time counts from the program's own start. Raises PortTaken, or LaunchFailed with the exact command, exit code
    and log's tail when it ended, answered an error to its first request, or is not ready in time.
    """
    host, own = _begun(running, port)
    deadline = (running.started_s or time.monotonic()) + timeout_s
    endpoint = endpoint_at(f"http://{host}:{own}")
    trouble = "nothing listened on its port"
    with client(endpoint.url) as http:
        while time.monotonic() < deadline:
            _raise_if_ended(running)
            if not _ports.answers(own, host):
                time.sleep(_POLL_S)
                continue
            if not running.owns(port):
                if running.alive():
                    raise PortTaken
                continue
            try:
                trouble = _not_yet(http, endpoint, health_path, deadline - time.monotonic()) or ""
            except EndpointError as error:
                raise failed(running, str(error)) from error
            if not trouble:
                return endpoint
            time.sleep(_POLL_S)
    raise failed(running, f"was not ready after {timeout_s:g} s: {trouble}")


def _begun(running: Running, port: int) -> tuple[str, int]:
    """Waits until the program has begun, which a pod does in its own time; returns where it will listen."""
    while (at := running.address(port)) is None:
        _raise_if_ended(running)
        time.sleep(_POLL_S)
    return at


def _raise_if_ended(running: Running) -> None:
    if not running.alive():
        if _ports.says_taken(f"{running.ending}\n{running.log_tail(50)}"):
            raise PortTaken
        raise failed(running, "ended before it was ready")


def failed(running: Running, what: str) -> LaunchFailed:
    """The error for an engine that did not come up: what it said last, and what is known of its end."""
    running.alive()
    if running.ending:
        what += f" ({running.ending})"
    return LaunchFailed(f"{running.label} {what}", command=running.command, exit_code=running.exit_code,
                        log_tail=running.log_tail(), log_path=str(running.log_path))


def client(url: str) -> httpx.Client:
    """A client for that server; a proxy is never used for one on this machine."""
    local = any(url.startswith(f"{scheme}://{host}") for scheme in ("http", "https")
                for host in ("127.", "localhost", "[::1]"))
    return httpx.Client(base_url=url, timeout=10.0, trust_env=not local)


def first_token(http: httpx.Client, endpoint: Endpoint, timeout_s: float) -> None:
    """Has one token generated. Raises httpx.HTTPError without an answer, EndpointError when it is not a completion."""
    body = {"model": endpoint.model, "prompt": "Hello", "max_tokens": 1, **endpoint.body,
            **endpoint.fixed_length}
    answer = http.post(endpoint.completions_path, json=body, timeout=max(timeout_s, 1.0))
    if answer.status_code in _LOADING:
        answer.raise_for_status()
    if answer.status_code != 200:
        raise EndpointError(f"answered HTTP {answer.status_code} to its first request: {answer.text[:300]}")
    try:
        choices = answer.json()["choices"]
        ok = bool(choices[0]["finish_reason"]) and isinstance(choices[0]["text"], str)
    except (ValueError, KeyError, IndexError, TypeError):
        ok = False
    if not ok:
        raise EndpointError(f"did not answer its first request with a completion: {answer.text[:300]}")


def get_json(http: httpx.Client, path: str) -> Any:
    """None where it does not answer with JSON; what is plain text, as metrics are, comes as it is."""
    try:
        answer = http.get(path)
        if answer.status_code == 200 and answer.headers.get("content-type", "").startswith("text/plain"):
            return answer.text
        return answer.json() if answer.status_code == 200 else None
    except (httpx.HTTPError, ValueError):
        return None


def _not_yet(http: httpx.Client, endpoint: Endpoint, health_path: str | None, left_s: float) -> str | None:
    """Says what is still missing, None if nothing is."""
    try:
        if health_path and (status := http.get(health_path).status_code) != 200:
            return f"{health_path} answered HTTP {status}"
        first_token(http, endpoint, left_s)
    except httpx.HTTPError as error:
        return f"{type(error).__name__} {error}".strip()
    return None
