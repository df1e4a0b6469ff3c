"""A whole engine in one file, as somebody would add it to engines/: the adapter, and (which others have elsewhere) the
server itself. It repeats a word."""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from engines._contract import Adapter, Capabilities, Checkpoint, Command, Install, prometheus_gauges
from models.progress import Progress
from models.records import Endpoint
from models.specs import Setup


class Parrot(Adapter):
    """One server, on CPUs."""

    name = "parrot"

    def pinned_version(self) -> str | None:
        return "1.0"

    def capabilities(self, variant: str | None = None) -> Capabilities:
        return Capabilities(quantizations=("F16", "Q8_0"), kv_types=("f16",), hardware=frozenset({"cpu"}),
                            features=frozenset({"openai_api", "streaming_usage", "ignore_eos", "metrics"}),
                            runtimes=frozenset({"venv", "endpoint"}), batching=frozenset({"context_tokens"}),
                            model_sources=frozenset({"synthetic"}), reasons={"threads": "it does not compute"})

    def install(self, setup: Setup, progress: Progress) -> Install:
        return Install("1.0", (sys.executable, __file__))

    def checkpoint(self, setup: Setup, progress: Progress) -> Checkpoint:
        return Checkpoint(Path("word"), bytes=4, bits_per_weight=32.0)

    def command(self, setup: Setup, install: Install, checkpoint: Checkpoint, port: int) -> Command:
        context = setup.engine.batching.context_tokens or 2048
        return Command((*install.program, setup.model.name, str(port), str(context), *setup.engine.extra_args),
                       dict(setup.engine.environment), context_tokens=context)

    def endpoint(self, setup: Setup, url: str, checkpoint: Checkpoint | None) -> Endpoint:
        return Endpoint(url=url, model=setup.model.name, metrics_path="/metrics", fixed_length={"ignore_eos": True})

    def gauges(self, text: str) -> dict[str, float]:
        return prometheus_gauges(text, {"parrot_said_total": "generated_tokens"})


ADAPTER = Parrot()


class Handler(BaseHTTPRequestHandler):
    """OpenAI's two APIs: a token is a word."""

    protocol_version = "HTTP/1.1"
    said = 0

    def do_GET(self) -> None:
        self._whole(200, f"# TYPE parrot_said_total counter\nparrot_said_total {Handler.said}\n".encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        chat, limit = self.path.endswith("/chat/completions"), body.get("max_tokens")
        asked = " ".join(m["content"] for m in body["messages"]) if chat else body.get("prompt")
        words = len(asked.split()) if isinstance(asked, str) else 0
        if body.get("model") != sys.argv[1]:
            self._refuse(404, f"no model {body.get('model')}")
        elif not words or not isinstance(limit, int):
            self._refuse(400, "prompt and max_tokens are needed")
        elif words + limit > int(sys.argv[3]):
            self._refuse(400, f"{words} tokens are too many: the context is {sys.argv[3]}")
        else:
            Handler.said += limit
            usage = {"prompt_tokens": words, "completion_tokens": limit, "total_tokens": words + limit}
            if body.get("stream"):
                self._stream(chat, limit, usage)
            else:
                text = " polly" * limit
                said: dict[str, Any] = {"message": {"content": text}} if chat else {"text": text}
                choice = {**said, "finish_reason": "length"}
                self._whole(200, json.dumps({"choices": [choice], "usage": usage}).encode())

    def _stream(self, chat: bool, limit: int, usage: dict[str, int]) -> None:
        def event(document: dict[str, Any]) -> None:
            data = b"data: %b\n\n" % json.dumps(document).encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if chat:
            event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        for i in range(limit):
            time.sleep(0.002)
            said = {"delta": {"content": " polly"}} if chat else {"text": " polly"}
            event({"choices": [{**said, "finish_reason": "length" if i + 1 == limit else None}]})
        event({"choices": [], "usage": usage})
        self.wfile.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    def _refuse(self, status: int, why: str) -> None:
        self._whole(status, json.dumps({"error": {"message": why}}).encode())

    def _whole(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
