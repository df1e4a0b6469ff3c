"""Where an endpoint is and how to be let in: URL, TLS, bearer key. The key stays in memory, never stored nor shown."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from models.errors import UserError

KEY_VARIABLE = "DYNO_API_KEY"
ERROR_TEXT_LENGTH = 300


@dataclass(frozen=True)
class Address:
    """An http or https URL taken apart. `prefix` is its path without a trailing slash."""

    tls: bool
    host: str
    port: int
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises UserError for anything but http(s)://host[:port][/path]; its text shows no password."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise UserError(f"url: not a URL: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            shown = url if "@" not in url else "(hidden: it may hold a password)"
            raise UserError(f"url: {shown!r} is not one; write http://host:port")
        if "@" in parts.netloc:
            raise UserError(f"url: leave user and password out of it; put a bearer key into {KEY_VARIABLE}")
        if parts.query or parts.fragment:
            raise UserError("url: leave out what follows ? or #; write http://host:port")
        tls = parts.scheme == "https"
        return cls(tls, parts.hostname, port or (443 if tls else 80), parts.path.rstrip("/"))

    @property
    def host_header(self) -> str:
        """The Host header: IPv6 in brackets, the port where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL in its shortest form."""
        return f"http{'s' if self.tls else ''}://{self.host_header}{self.prefix}"


def bearer(api_key: str | None) -> str | None:
    """Returns the key given, else the environment's, else None. Raises UserError for one that cannot be in a header."""
    key = api_key or os.environ.get(KEY_VARIABLE) or None
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        raise UserError(f"{KEY_VARIABLE}: a key is one line of printable ASCII without spaces")
    return key


def redacted(text: str, key: str | None) -> str:
    """Returns an error's text on one line, the key taken out, at most ERROR_TEXT_LENGTH characters."""
    if key:
        text = text.replace(key, "[key]")
    text = " ".join(text.split())
    return text if len(text) <= ERROR_TEXT_LENGTH else text[:ERROR_TEXT_LENGTH - 1] + "…"


def tls_context() -> ssl.SSLContext:
    """Verifies against the system's authorities; SSL_CERT_FILE names others."""
    return ssl.create_default_context()


def http(address: Address, api_key: str | None, timeout_s: float) -> httpx.Client:
    """A client for questions outside the timed run. No proxy and no redirect: the run itself takes neither."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return httpx.Client(base_url=address.url, headers=headers, timeout=timeout_s, trust_env=False,
                        verify=tls_context() if address.tls else False)
