"""A process tree owned by a `with`: whatever happens to dyno, nothing of it stays behind."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from engines import _ports, _running
from models import secrets
from models.errors import LaunchFailed

GRACE_S = 4.0
"""Seconds between SIGTERM and SIGKILL."""
_SUPERVISOR = Path(__file__).with_name("_supervisor.py")
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)


@contextlib.contextmanager
def supervise(argv: Sequence[str], env: Mapping[str, str] | None = None, log_path: Path | None = None,
              cwd: Path | None = None, grace_s: float = GRACE_S, *, pass_fds: Sequence[int] = ()) -> Iterator[Process]:
    """Runs argv, with `env` added to this environment and its output appended to `log_path`, for as long as the `with`.

    On leaving it in any way (also by KeyboardInterrupt or SystemExit), and when this process dies in any way (also by
    SIGKILL), argv and everything it started are terminated. Usable from any thread. argv also gets `pass_fds`, under
    their numbers. Raises LaunchFailed when argv cannot be run at all; that it ran and failed is for the caller to see
    in `exit_code`.
    """
    process = Process(argv, env or {}, log_path or Path(os.devnull), cwd, grace_s, pass_fds)
    try:
        process._await_start()
        yield process
    finally:
        process._stop()


class Process:
    """A running process tree, seen from the `with` that owns it. Made by `supervise` only."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], log_path: Path, cwd: Path | None,
                 grace_s: float, pass_fds: Sequence[int] = ()) -> None:
        self.argv, self.env, self.log_path, self.cwd = tuple(argv), dict(env), log_path, cwd
        self.pid = 0
        self.exit_code: int | None = None
        self._error: int | None = None
        self._gone = False
        self._pending = b""
        self._grace_s = grace_s
        self._lock = threading.Lock()
        self._log_start = log_path.stat().st_size if log_path.is_file() else 0
        log_path.parent.mkdir(parents=True, exist_ok=True)
        control, mine = os.pipe()
        status, theirs = os.pipe()
        # File objects, so that being dropped at any instant closes them, which ends the supervisor.
        self._control, self._status = os.fdopen(mine, "wb", 0), os.fdopen(status, "rb", 0)
        os.set_blocking(status, False)
        self.started_s: float | None = time.monotonic()
        try:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_SUPERVISOR), str(control), str(theirs), str(log_path.absolute()),
                 str(grace_s), *self.argv],
                pass_fds=(control, theirs, *pass_fds), start_new_session=True, cwd=cwd, env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        finally:
            os.close(control)
            os.close(theirs)

    @property
    def command(self) -> str:
        """The exact command, to paste into a shell; secrets are blotted out."""
        change = [f"cd {shlex.quote(str(self.cwd))} &&"] if self.cwd else []
        settings = [f"{name}={shlex.quote(value)}" for name, value in redacted(self.env).items()]
        return " ".join([*change, *settings, shlex.join(redacted_argv(self.argv))])

    @property
    def label(self) -> str:
        """The program, and the module where Python runs one."""
        return self.argv[0].rpartition("/")[2] + (f" {self.argv[3]}" if self.argv[1:3] == ("-I", "-m") else "")

    @property
    def image(self) -> str | None:
        """None: a process has no image."""
        return None

    @property
    def ending(self) -> str:
        """The signal that ended it."""
        return _running.of_signal(-self.exit_code) if self.exit_code is not None and self.exit_code < 0 else ""

    def address(self, port: int) -> tuple[str, int] | None:
        """Always on this machine's loopback."""
        return _ports.HOST, port

    def owns(self, port: int) -> bool:
        """Whether one of its processes listens there."""
        return _ports.listens(port, self.pids())

    def alive(self) -> bool:
        """Whether the process that was started (not its children) still runs."""
        self._listen()
        return self.exit_code is None and not self._gone

    def pids(self) -> list[int]:
        """The process and everything below it, as of now."""
        try:
            return [child.pid for child in psutil.Process(self._supervisor.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def wait(self, seconds: float) -> bool:
        """Returns whether it ended within so many seconds."""
        deadline = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        return True

    def log_tail(self, lines: int = 20) -> str:
        """The last lines this run wrote (earlier content of the file is left out)."""
        try:
            with self.log_path.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self._log_start, end - 400 * lines))
                text = file.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(line.rstrip() for line in text.splitlines()[-lines:])

    def _await_start(self) -> None:
        while not (self.pid or self._error or self._gone):
            self._listen()
            time.sleep(0.002)
        if not self.pid:
            reason = os.strerror(self._error) if self._error else "the supervising process ended"
            raise LaunchFailed(f"cannot start {self.argv[0]}: {reason}", command=self.command)

    def _listen(self) -> None:
        """Takes in what the supervisor has said so far."""
        with self._lock:
            if self._gone:
                return
            while (said := self._status.read(4096)) is not None:
                if not said:
                    self._gone = True
                    break
                self._pending += said
            *complete, self._pending = self._pending.split(b"\n")
            for word, number in (line.split() for line in complete):
                name = {b"pid": "pid", b"exit": "exit_code", b"error": "_error"}[word]
                setattr(self, name, int(number))

    def _stop(self) -> None:
        """Returns when the whole tree is gone; an interrupt that comes meanwhile is raised after that."""
        interrupt: BaseException | None = None
        deadline = time.monotonic() + self._grace_s + 10
        while True:
            try:
                self._control.close()
                self._supervisor.wait(timeout=max(deadline - time.monotonic(), 0.1))
                break
            except subprocess.TimeoutExpired:
                self._kill()
            except (KeyboardInterrupt, SystemExit) as error:
                interrupt = error
        self._listen()
        if not self._gone or self.exit_code is None:
            self._kill()
        self._status.close()
        self._gone = True
        if interrupt:
            raise interrupt

    def _kill(self) -> None:
        """The last resort, when the supervisor did not do it: someone killed it, or it hangs."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self.pid:
                os.killpg(self.pid, signal.SIGKILL)
        self._supervisor.kill()


def redacted(env: Mapping[str, str]) -> dict[str, str]:
    """The same with the values of variables that name a secret blotted out."""
    return {name: "***" if _SECRET.search(name) else value for name, value in env.items()}


def redacted_argv(argv: Sequence[str]) -> tuple[str, ...]:
    """The same with the values of `--api-key`-like options blotted out."""
    words = []
    hide = False
    for word in argv:
        option, equals, _ = word.partition("=")
        named = bool(secrets.OPTION.fullmatch(option))
        words.append("***" if hide else f"{option}=***" if named and equals else word)
        hide = named and not equals
    return tuple(words)
