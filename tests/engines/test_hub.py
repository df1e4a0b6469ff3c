"""The Hugging Face Hub, as a small server on this machine that answers as it does."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines._checkpoints import checkpoint, resolve_model
from engines._llama_build import Toolchain
from models.errors import ModelError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.BaseHTTPRequestHandler):
    """Serves one file of one repository, with the Hub's headers."""

    content = b""
    sent: list[int]

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        known = [f"/org/tiny/resolve/{revision}/tiny-F16.gguf" for revision in ("main", COMMIT)]
        if self.path not in known:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data, status = self.content, 200
        if asked := self.headers.get("Range"):
            first, last = asked.removeprefix("bytes=").split("-")
            data, status = data[int(first):int(last or len(data)) + 1], 206
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(data) - 1}/{len(self.content)}")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", '"abc"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)
            self.sent.append(len(data))

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def hub(llama_install: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    Hub.content = checkpoint(resolve_model("synthetic-llama-15m"), "F16").path.read_bytes()
    Hub.sent = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    yield Hub
    server.shutdown()
    thread.join()
    server.server_close()


def test_pinned_and_described_without_fetching_then_fetched(hub: type[Hub]) -> None:
    model = resolve_model("org/tiny:tiny-F16.gguf")
    assert (model.source, model.repository, model.revision, model.content) == ("hub", "org/tiny", COMMIT, COMMIT)
    assert model.architecture == resolve_model("synthetic-llama-15m").architecture
    assert sum(hub.sent) < len(hub.content) / 4
    fetched = checkpoint(model, "F16")
    assert fetched.path.read_bytes() == hub.content
    assert resolve_model({"repository": "org/tiny", "file": "tiny-F16.gguf", "revision": COMMIT}).revision == COMMIT


def test_a_file_the_hub_does_not_have(hub: type[Hub]) -> None:
    with pytest.raises(ModelError, match=r"org/tiny:other\.gguf: ") as raised:
        resolve_model("org/tiny:other.gguf")
    assert "\n" not in str(raised.value)


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="the Hub does not answer"):
        resolve_model("org/tiny:tiny-F16.gguf")
