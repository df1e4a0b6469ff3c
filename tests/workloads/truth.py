"""A server that tells the truth about itself: scripted answers, faults included, over real sockets on loopback.

A script turns what was asked into steps: bytes to write, seconds to wait, or one of the words below.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from models.records import Endpoint
from models.specs import Api

RESET: Literal["reset"] = "reset"      # the connection is torn down
CLOSE: Literal["close"] = "close"      # the connection is closed in good order
HOLD: Literal["hold"] = "hold"         # nothing more, until the client goes away
Step = bytes | float | Literal["reset", "close", "hold"]
HEADERS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
BOS = 1
TEMPLATE = {"message": 4, "chat": 3}


@dataclass(frozen=True)
class Asked:
    """One request as it came in."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    connection: int


Script = Callable[[Asked], Iterable[Step]]


def event(document: object) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def token(text: str, finish: str | None = None, **more: object) -> bytes:
    """A chunk of a completions stream."""
    return event({"id": "c", "choices": [{"index": 0, "text": text, "finish_reason": finish}], **more})


def delta(finish: str | None = None, **said: object) -> bytes:
    """A chunk of a chat stream."""
    return event({"id": "c", "choices": [{"index": 0, "delta": said, "finish_reason": finish}]})


def usage(prompt: int, completion: int, cached: int | None = None) -> bytes:
    details = {} if cached is None else {"prompt_tokens_details": {"cached_tokens": cached}}
    return event({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion, **details}})


DONE = b"data: [DONE]\n\n"


def tgi(text: str, finish: str | None = None, tokens: int = 1, prompt: int = 5, special: bool = False) -> bytes:
    """A token of TGI's own stream, which has no space behind `data:`; the last has the whole text and the details."""
    details = {"finish_reason": finish, "generated_tokens": tokens, "seed": None, "input_length": prompt}
    document = {"index": tokens, "token": {"id": 7, "text": text, "logprob": -0.5, "special": special},
                "generated_text": "all of it" if finish else None, "details": details if finish else None}
    return b"data:" + json.dumps(document).encode() + b"\n\n"


def llama(text: str, finish: str | None = None, tokens: int = 1, prompt: int = 5, cached: int = 0) -> bytes:
    """An event of llama.cpp's own stream; the last says why it ended and what was counted."""
    return event(llama_document(text, finish, tokens, prompt, cached))


def llama_document(text: str, finish: str | None, tokens: int, prompt: int, cached: int = 0) -> dict[str, object]:
    more = {"stop_type": finish, "tokens_cached": prompt + tokens,
            "timings": {"cache_n": cached, "prompt_n": prompt - cached}} if finish else {}
    return {"index": 0, "content": text, "tokens": [7], "stop": finish is not None, "tokens_predicted": tokens,
            "tokens_evaluated": prompt, **more}


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST = b"0\r\n\r\n"


def whole(*events: bytes) -> bytes:
    """An answer in one piece: headers, each event in a chunk of its own, terminator."""
    return HEADERS + b"\r\n" + b"".join(chunk(e) for e in events) + LAST


def plain(status: str, body: bytes, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


PATHS: dict[str, Api] = {"/v1/completions": "completions", "/v1/chat/completions": "chat", "/generate_stream": "tgi",
                         "/completion": "llama_cpp"}


def answer(asked: Asked, ttft_s: float = 0.0, itl_s: float = 0.0) -> Iterator[Step]:
    """What a sound engine does: as many tokens as wanted, one a chunk, usage where asked for; JSON without `stream`,
    but for TGI, which always streams there."""
    api, counted = PATHS[asked.path], count(asked.body)
    if api != "tgi" and not asked.body.get("stream"):
        yield plain("200 OK", json.dumps(in_one_piece(asked)).encode())
        return
    yield HEADERS + b"\r\n"
    yield ttft_s
    n = wanted(asked.body)
    for i in range(n):
        if i:
            yield itl_s
        yield chunk(one(api, i, n, counted))
    if api == "llama_cpp":
        yield chunk(llama("", "limit", n, counted))
    if asked.body.get("stream_options", {}).get("include_usage"):
        yield chunk(usage(counted, n, 0))
    yield (chunk(DONE) if api in ("completions", "chat") else b"") + LAST


def one(api: Api, i: int, n: int, counted: int) -> bytes:
    """The i-th of n tokens of an answer."""
    text, last = f" w{i}", "length" if i == n - 1 else None
    if api == "tgi":
        return tgi(text, last, i + 1, counted)
    if api == "llama_cpp":
        return llama(text, None, i + 1, counted)
    return delta(last, content=text) if api == "chat" else token(text, last)


def wanted(body: dict[str, Any]) -> int:
    """How many tokens are asked for, by whichever API."""
    return int(body.get("max_tokens") or body.get("n_predict") or body["parameters"]["max_new_tokens"])


def in_one_piece(asked: Asked) -> dict[str, object]:
    counted, n = count(asked.body), wanted(asked.body)
    if PATHS[asked.path] == "llama_cpp":
        return llama_document("a", "limit", n, counted)
    said = {"message": {"content": "a"}} if "messages" in asked.body else {"text": "a"}
    return {"choices": [{**said, "finish_reason": "length"}],
            "usage": {"prompt_tokens": counted, "completion_tokens": n}}


def tokens(text: str) -> list[str]:
    """A toy tokenizer: short words are one token with or without a space before them, longer ones a token a letter."""
    return [piece for word in re.findall(r"\n| ?[a-z]+| |.", text)
            for piece in ([word] if len(word.strip()) <= 4 else word)]


def count(body: dict[str, Any]) -> int:
    """Prompt tokens as this server counts them: a start token; or a template around every message of a chat."""
    if "messages" in body:
        return TEMPLATE["chat"] + sum(TEMPLATE["message"] + len(tokens(m["content"])) for m in body["messages"])
    return BOS + len(tokens(body["prompt"] if "prompt" in body else body["inputs"]))


@dataclass
class TruthServer:
    """`with TruthServer(script) as server`. `asked` has every request, `most_busy` the most that were answered at once,
    `left` how many connections the client closed while an answer was under way. A server that has neither of OpenAI's
    `apis` tells its model and tokens in its own way only."""

    script: Script = answer
    tls: ssl.SSLContext | None = None
    tokenize: bool = True
    models: list[str] = field(default_factory=lambda: ["truth"])
    apis: tuple[Api, ...] = ("completions", "chat")
    host: str = "127.0.0.1"
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    busy: int = 0
    most_busy: int = 0
    left: int = 0

    def __enter__(self) -> Self:
        self._pieces: dict[str, int] = {}
        self._started = threading.Event()
        self._socket = socket.create_server((self.host, 0), backlog=1024)
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://{self.host}:{self.port}"

    def endpoint(self, **more: object) -> Endpoint:
        return Endpoint.model_validate({"url": self.url, "model": "truth", "tokenize_path": "/tokenize", **more})

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connection, sock=self._socket, ssl=self.tls, limit=2**24)
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = self.connections
        self.connections += 1
        self.open += 1
        try:
            while asked := await self._read(reader, number):
                self.asked.append(asked)
                self.busy += 1
                self.most_busy = max(self.most_busy, self.busy)
                try:
                    if not await self._play(asked, reader, writer):
                        return
                finally:
                    self.busy -= 1
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            self.open -= 1
            writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader, number: int) -> Asked | None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return Asked(head[0].split()[1], headers, json.loads(body) if body else {}, number)

    async def _play(self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Returns whether the connection may go on."""
        for step in self._route(asked):
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            elif isinstance(step, float):
                await asyncio.sleep(step)
                if reader.at_eof():
                    self.left += 1
                    return False
            elif step == HOLD:
                try:
                    await reader.read()
                finally:
                    self.left += 1
                return False
            else:
                if step == RESET:
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    writer.transport.abort()
                else:
                    writer.close()
                return False
        return True

    def _route(self, asked: Asked) -> Iterable[Step]:
        api = PATHS.get(asked.path)
        if api in self.apis:
            return self.script(asked)
        native = self.apis[0] if self.apis in (("tgi",), ("llama_cpp",)) else None
        found = self._told(asked, native) if api is None else None
        if found is None:
            return [plain("404 Not Found", b'{"error": {"message": "no such path"}}')]
        return [plain("200 OK", json.dumps(found).encode())]

    def _told(self, asked: Asked, native: Api | None) -> object:
        """What is said beside answers; None where there is nothing."""
        if asked.path == "/tokenize" and self.tokenize:
            text = asked.body.get("inputs" if native == "tgi" else "content")
            if text is None and native == "tgi":
                return None
            ids = [self._pieces.setdefault(p, len(self._pieces)) for p in tokens(text or "")]
            return [{"id": i, "text": "", "start": 0, "stop": 0} for i in ids] if native == "tgi" else {"tokens": ids}
        if native is None:
            return {"data": [{"id": m} for m in self.models]} if asked.path == "/v1/models" else None
        name = {("tgi", "/info"): "model_id", ("llama_cpp", "/props"): "model_alias"}.get((native, asked.path))
        return {name: self.models[0]} if name else None


def in_pieces(data: bytes, *at: int) -> Iterator[Step]:
    """Writes data cut at these places, with a pause between so that they come in reads of their own."""
    for i, (start, end) in enumerate(itertools.pairwise([0, *at, len(data)])):
        if i:
            yield 0.01
        yield data[start:end]
