"""The Hugging Face Hub, as a small server on this machine that answers as it does."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlencode

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_PAGE = 2
_ERRORS = {  # status, X-Error-Code, X-Error-Message: as the Hub sends them
    "gated": (403, "GatedRepo", "Access to model {} is restricted and you are not in the authorized list."),
    "missing": (401, None, "Invalid username or password."),  # what it says of a repository that is not there
    "gone": (404, "RepoNotFound", "Repository not found"),
    "limited": (429, None, "We had to rate limit your IP."),
    "broken": (500, None, "Internal Error"),
}


class Hub:
    """Repositories by name, each a folder; or the name of the error that is answered for it."""

    def __init__(self) -> None:
        self.repositories: dict[str, Path | str] = {}
        self.about: dict[str, dict[str, object]] = {}
        """What the API says of a repository beside its files; these are listed, too: sha, gated, tags, safetensors…"""
        self.limited_after: int | None = None
        """Questions to the API that are answered before it limits whoever asks."""
        self.asked: list[str] = []
        """Questions to the API, with what follows the `?`."""
        self.sent: list[tuple[str, int]] = []
        """Path and bytes of every body."""
        self.tokens: set[str | None] = set()
        """Authorization headers."""
        self.url = ""

    def fetched(self, suffix: str) -> int:
        return sum(size for path, size in self.sent if path.endswith(suffix))


@contextmanager
def serve() -> Iterator[Hub]:
    hub = Hub()

    class Handler(_Handler):
        told = hub

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    told: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        self.told.tokens.add(self.headers.get("Authorization"))
        parts = unquote(self.path.partition("?")[0]).strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        if api:
            self.told.asked.append(unquote(self.path))
            if self.told.limited_after is not None and len(self.told.asked) > self.told.limited_after:
                self.refuse(*_ERRORS["limited"], "")
                return
            if len(parts) == 2:
                self.listed()
                return
        kind = parts[4] if api and len(parts) > 4 else ""  # `revision` or `tree`
        repository = "/".join(parts[2:4] if api else parts[:2])
        found = self.told.repositories.get(repository, "missing")
        if isinstance(found, str):
            self.refuse(*_ERRORS[found], repository)
        elif (revision := (parts[5] if kind else "main") if api else parts[3]) not in ("main", COMMIT):
            self.refuse(404, "RevisionNotFound", "Invalid rev id: {}", revision)
        elif api:
            told = _tree(found) if kind == "tree" else _model_info(repository, found) | self.told.about.get(
                repository, {})
            self.send(json.dumps(told).encode(), {"Content-Type": "application/json"})
        elif not (file := found / "/".join(parts[4:])).is_file():
            self.refuse(404, "EntryNotFound", "Entry not found", repository)
        else:
            self.send_file(file.read_bytes())

    def listed(self) -> None:
        """GET /api/models: what matches, page by page, the next one's address in a header."""
        asked = parse_qs(self.path.partition("?")[2])
        author, search = asked.get("author", [""])[0], asked.get("search", [""])[0].lower()
        found = [{"_id": "65fa1b2c3d4e5f6a7b8c9d0e", "id": name, "modelId": name, "sha": COMMIT, "private": False} | {
            key: about[key] for key in asked.get("expand", []) if key in about} for name, about in
            self.told.about.items() if name.startswith(f"{author}/" if author else "") and search in name.lower()
            and set(asked.get("filter", [])) <= set(about.get("tags", ()))]  # type: ignore[call-overload]
        start = int(asked.get("cursor", ["0"])[0])
        headers = {"Content-Type": "application/json"}
        if start + _PAGE < len(found):
            query = urlencode({k: v for k, v in asked.items() if k != "cursor"} | {"cursor": start + _PAGE}, doseq=True)
            headers["Link"] = f'<{self.told.url}/api/models?{query}>; rel="next"'
        self.send(json.dumps(found[start:start + _PAGE]).encode(), headers)

    def send_file(self, data: bytes) -> None:
        whole, headers = len(data), {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "Accept-Ranges": "bytes"}
        if asked := self.headers.get("Range"):
            first, last = asked.removeprefix("bytes=").split("-")
            data = data[int(first):int(last or whole) + 1]
            headers["Content-Range"] = f"bytes {first}-{int(first) + len(data) - 1}/{whole}"
        self.send(data, headers, 206 if asked else 200)

    def refuse(self, status: int, code: str | None, message: str, about: str) -> None:
        said = message.format(about)
        headers = {"X-Error-Message": said} | ({"X-Error-Code": code} if code else {})
        self.send(json.dumps({"error": said}).encode(), headers, status)

    def send(self, data: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in ({"X-Repo-Commit": COMMIT, "Content-Length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)
            if self.path != "/api/agent-harnesses":  # asked by huggingface_hub once a day
                self.told.sent.append((self.path.partition("?")[0], len(data)))

    def log_message(self, *_: object) -> None:
        """Quiet."""


def _tree(folder: Path) -> list[dict[str, object]]:
    """What GET /api/models/…/tree/…?recursive=true answers."""
    found: list[dict[str, object]] = []
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            found.append({"type": "directory", "oid": hashlib.sha1(b"").hexdigest(), "size": 0, "path": name})
            continue
        data = path.read_bytes()
        entry = {"type": "file", "oid": hashlib.sha1(data).hexdigest(), "size": len(data), "path": name}
        if path.suffix in (".safetensors", ".gguf", ".bin", ".pth"):
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 135}
        found.append(entry)
    return found


def _model_info(repository: str, folder: Path) -> dict[str, object]:
    """What GET /api/models/… answers, less what is not read."""
    files = sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())
    return {"_id": "65fa1b2c3d4e5f6a7b8c9d0e", "id": repository, "modelId": repository, "sha": COMMIT, "private": False,
            "gated": False, "disabled": False, "downloads": 12, "likes": 3, "tags": ["safetensors", "llama"],
            "pipeline_tag": "text-generation", "library_name": "transformers",
            "lastModified": "2026-03-01T12:00:00.000Z", "createdAt": "2026-03-01T11:00:00.000Z",
            "siblings": [{"rfilename": name, "size": len(data), "blobId": hashlib.sha1(data).hexdigest()} | (
                {"lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 135}}
                if name.endswith((".safetensors", ".gguf", ".bin")) else {})
                for name in files for data in [(folder / name).read_bytes()]]}
