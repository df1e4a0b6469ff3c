"""Servers that answer as the Hub does, and as a test says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.engines.hub import Hub, serve
from tests.flows.releases.shared import LIST, Answers, Web


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        yield running


@pytest.fixture
def organisation(there: Hub, tmp_path: Path) -> Hub:
    """Three repositories, on two pages of the list: whole weights, GGUF files, and gated ones."""
    for name, about in (("org/Tiny", LIST), ("org/Tiny-GGUF", LIST | {"safetensors": None, "gguf": {
            "total": 15191712, "architecture": "llama", "context_length": 2048}, "tags": ["gguf", "license:mit"]}),
                        ("org/Closed", LIST | {"gated": "manual"}), ("other/Tiny", LIST)):
        there.repositories[name] = tmp_path / name
        there.about[name] = about
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "README.md").write_text("# tiny")
    (tmp_path / "org/Tiny/model.safetensors").write_bytes(b"weights")
    (tmp_path / "org/Closed/model.safetensors").write_bytes(b"others")
    (tmp_path / "org/Tiny-GGUF/tiny-Q4_0.gguf").write_bytes(b"weights")
    return there


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A server of whatever a test wants, by path."""
    answers: Answers = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path)
            told = {k.lower(): v for k, v in self.headers.items()}
            status, headers, body = found(told) if found else (404, {}, "not found")
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", answers
    server.shutdown()
    thread.join()
    server.server_close()
