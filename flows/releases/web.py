"""One polite GET: a deadline, a size limit, and errors that name the host and hold no secret."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from urllib.parse import urlsplit

import httpx

from models.errors import EndpointError

TIMEOUT_S = 20.0
BYTES_MAX = 64 << 20


def get(url: str, headers: Mapping[str, str] | None = None, expect: tuple[int, ...] = (200,)) -> httpx.Response:
    """Raises EndpointError with host and reason; a user and password in the URL go out as its header, and are told
    nobody."""
    host = urlsplit(url).hostname or url
    told = {"User-Agent": f"dyno/{version('llm-dyno')}", **(headers or {})}
    try:
        with httpx.stream("GET", url, headers=told, timeout=TIMEOUT_S, follow_redirects=True) as answer:
            body = bytearray()
            for part in answer.iter_bytes():
                body += part
                if len(body) > BYTES_MAX:
                    raise EndpointError(f"{host}: the answer is over {BYTES_MAX >> 20} MiB")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise EndpointError(f"{host} does not answer: {str(error) or type(error).__name__}") from None
    if answer.status_code not in expect:
        wait = answer.headers.get("Retry-After")
        raise EndpointError(f"{host} answers {answer.status_code} {answer.reason_phrase}"
                            + (f", and asks for a pause of {wait} s" if wait else ""))
    decoded = {k: v for k, v in answer.headers.items() if k not in ("content-encoding", "content-length")}
    return httpx.Response(answer.status_code, headers=decoded, content=bytes(body), request=answer.request)
