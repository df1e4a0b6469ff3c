"""An engine that goes wrong, one way a variant. Both the adapter and, run as a program, the server it starts."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.progress import Progress
    from models.records import Endpoint
    from models.specs import Setup

VARIANTS = ("crashes", "exhausts", "hangs", "dies", "babbles", "degrades")


def adapter() -> Any:
    from engines._contract import Adapter, Capabilities, Checkpoint, Command, Install
    from models.records import Endpoint

    class Faulty(Adapter):
        """Serves words without a model."""

        name = "faulty"
        variants = VARIANTS

        def capabilities(self, variant: str | None = None) -> Capabilities:
            return Capabilities(quantizations=("F16",), kv_types=("f16",), features=frozenset({"openai_api"}),
                                hardware=frozenset({"cpu"}), runtimes=frozenset({"path"}), batching=frozenset())

        def install(self, setup: Setup, progress: Progress) -> Install:
            return Install("1.0", (sys.executable, __file__))

        def checkpoint(self, setup: Setup, progress: Progress) -> Checkpoint:
            return Checkpoint(Path(__file__), 1000, 16.0)

        def command(self, setup: Setup, install: Install, checkpoint: Checkpoint, port: int) -> Command:
            return Command((*install.program, str(self.variant(setup.engine)), str(port)), {})

        def endpoint(self, setup: Setup, url: str, checkpoint: Checkpoint | None) -> Endpoint:
            return Endpoint(url=url, model=setup.model.name, tokenize_path="/tokenize")

    return Faulty()


def say(text: str) -> None:
    """Into the log."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Handler(http.server.BaseHTTPRequestHandler):
    """As many words as are asked for, until it goes wrong."""

    protocol_version = "HTTP/1.1"
    mode = ""
    answered = 0

    def log_message(self, format: str, *args: object) -> None:
        say(format % args)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/tokenize":
            return self.answer({"tokens": list(range(len(body["content"].split())))})
        if self.mode == "babbles":
            return self.answer({"haiku": "an old silent pond"})
        if not body.get("stream"):
            return self.answer({"choices": [{"text": "word", "finish_reason": "length"}]})
        Handler.answered += 1
        return self.stream(body["max_tokens"], broken=Handler.answered > 4)

    def stream(self, words: int, broken: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for i in range(words):
            if broken and i == words // 2 and self.mode == "dies":
                say("panic: illegal memory access")
                os._exit(3)
            self.event("{]" if broken and self.mode == "degrades" else json.dumps(
                {"choices": [{"text": " word", "finish_reason": "length" if i == words - 1 else None}]}))
        self.event(json.dumps({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": words}}))
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def event(self, text: str) -> None:
        data = f"data: {text}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def answer(self, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main(mode: str, port: int) -> None:
    """Every mode leaves a child about, which has to be gone with it."""
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    say(f"starting to serve, {mode}")
    if mode == "crashes":
        sys.exit("error: unrecognized arguments: --no-such-flag")
    if mode == "exhausts":
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        say(str(len(bytearray(2 << 30))))
    if mode == "hangs":
        time.sleep(600)
    Handler.mode = mode
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
else:
    ADAPTER = adapter()
