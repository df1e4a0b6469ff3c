"""Keeps one container or pod on behalf of dyno. A program of its own: `python -m engines._keeper SOCKET`.

It reads what to start as one line of JSON from SOCKET, starts it, copies its log to its own output, and tells over
SOCKET what happens, a line of JSON each: `started_s`, `address`…, and at the end `exit` and `ending`, or `error`. When
the thing ends, or dyno ends this program (its supervisor does that too when dyno is killed), the thing is removed.
Should this program itself be killed, what it started is an orphan, which the next launch removes (see `_owner`).
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

Tell = Callable[[Mapping[str, Any]], None]
CANNOT_START = 125
"""Exit code when nothing could be started, as of `docker run`."""


class Kept(Protocol):
    """A container or a pod. Its errors may be any: they are told in words."""

    def create(self) -> None:
        """Asks for it; is not interrupted, so that what was made is known."""
        ...

    def begin(self, tell: Tell) -> None:
        """Returns when its program has begun, and has told so, or has ended."""
        ...

    def follow(self, write: Callable[[bytes], None]) -> None:
        """Copies its log until it ends."""
        ...

    def ended(self) -> Mapping[str, Any]:
        """`exit` and `ending`."""
        ...

    def remove(self) -> None:
        """Removes everything that `create` made or may have made; returns when it is gone."""
        ...


class Stopped(BaseException):
    """Dyno wants no more of it."""


class _Stop:
    """SIGTERM as an exception, but only where that does no harm."""

    def __init__(self) -> None:
        self.wanted = self._armed = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._handle)

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        self._armed = True
        try:
            if self.wanted:
                raise Stopped
            yield
        finally:
            self._armed = False

    def _handle(self, number: int, frame: object) -> None:
        self.wanted = True
        if self._armed:
            self._armed = False
            raise Stopped


def keep(kept: Kept, tell: Tell) -> int:
    """Returns the exit code of what was kept, when nothing of it is left."""
    stop = _Stop()
    try:
        kept.create()
        with stop.armed():
            kept.begin(tell)
            kept.follow(_write)
            end = kept.ended()
        tell(end)
        return int(end.get("exit") or 0) & 0xFF
    except Stopped:
        return 128 + signal.SIGTERM
    except Exception as error:
        said = explain(error)
        _write(f"dyno: {said}\n".encode())
        tell({"error": said})
        return CANNOT_START
    finally:
        try:
            kept.remove()
        except Exception as error:
            _write(f"dyno: could not remove it: {explain(error)}\n".encode())


def explain(error: Exception) -> str:
    """The one line of a client's error that a person needs."""
    said = getattr(error, "explanation", None)  # docker
    if not said and (body := getattr(error, "body", None)):  # kubernetes
        with contextlib.suppress(ValueError, AttributeError):
            said = json.loads(body).get("message")
    if isinstance(said, bytes):
        said = said.decode(errors="replace")
    return str(said or error).strip().splitlines()[0] if str(said or error).strip() else type(error).__name__


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _made(spec: dict[str, Any]) -> Kept:
    if spec.pop("runtime") == "docker":
        from engines._docker_container import Container

        return Container(**spec)
    from engines._kubernetes_pod import Pod

    return Pod(**spec)


def main(descriptor: int) -> int:
    """Runs until there is nothing left to keep."""
    with socket.socket(fileno=descriptor) as talk:
        with talk.makefile("r") as lines:
            spec = json.loads(lines.readline())

        def tell(state: Mapping[str, Any]) -> None:
            with contextlib.suppress(OSError):  # nobody listens any more
                talk.sendall(json.dumps(state).encode() + b"\n")

        try:
            kept = _made(spec)
        except Exception as error:
            tell({"error": explain(error)})
            return CANNOT_START
        return keep(kept, tell)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
