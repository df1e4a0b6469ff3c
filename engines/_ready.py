"""Waits until an engine answers: it listens, says it is healthy, and has generated one token."""

from __future__ import annotations

import signal
import time
from typing import Any

import httpx

from engines import _ports
from engines._process import Process
from models.errors import EndpointError, LaunchFailed
from models.records import Endpoint

_POLL_S = 0.05
_LOADING = frozenset({408, 425, 429, 503})


class PortTaken(Exception):
    """Somebody else got the port first; another one will do."""


def wait_ready(process: Process, port: int, endpoint: Endpoint, health_path: str | None, timeout_s: float) -> None:
    """Returns once one real token came back from the process.

    Raises PortTaken, or LaunchFailed with the exact command, exit code and log's tail when it ended, answered an error
    to its first request, or is not ready in time.
    """
    deadline = time.monotonic() + timeout_s
    trouble = "nothing listened on its port"
    with client(endpoint.url) as http:
        while time.monotonic() < deadline:
            if not process.alive():
                if _ports.says_taken(process.log_tail(50)):
                    raise PortTaken
                raise _failed(process, "ended before it was ready")
            if not _ports.answers(port):
                time.sleep(_POLL_S)
                continue
            if not _ports.listens(port, process.pids()):
                if process.alive():
                    raise PortTaken
                continue
            try:
                trouble = _not_yet(http, endpoint, health_path, deadline - time.monotonic()) or ""
            except EndpointError as error:
                raise _failed(process, str(error)) from error
            if not trouble:
                return
            time.sleep(_POLL_S)
    raise _failed(process, f"was not ready after {timeout_s:g} s: {trouble}")


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
    """None where it does not answer with JSON."""
    try:
        answer = http.get(path)
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


def _failed(process: Process, what: str) -> LaunchFailed:
    name = process.argv[0].rpartition("/")[2] + (f" {process.argv[3]}" if process.argv[1:3] == ("-I", "-m") else "")
    if process.exit_code is not None and process.exit_code < 0:
        what += f" (killed by {signal.Signals(-process.exit_code).name})"
    return LaunchFailed(f"{name} {what}", command=process.command, exit_code=process.exit_code,
                        log_tail=process.log_tail(), log_path=str(process.log_path))
