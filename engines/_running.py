"""What launch holds while an engine runs, whatever runs it: a process tree, a container or a pod."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Protocol

import psutil


class Running(Protocol):
    """Something that was started, seen from the `with` that owns it; it is gone when that is left, in any way."""

    @property
    def log_path(self) -> Path: ...

    @property
    def exit_code(self) -> int | None:
        """Of its program, once it ended; negative, or above 128, for a signal."""
        ...

    @property
    def label(self) -> str:
        """Name of the program, for messages."""
        ...

    @property
    def command(self) -> str:
        """What starts the same, to paste into a shell; secrets are blotted out."""
        ...

    @property
    def started_s(self) -> float | None:
        """When the program began, by the monotonic clock; None while it is waited for (a node, an image)."""
        ...

    @property
    def image(self) -> str | None:
        """The image it runs in, with its digest."""
        ...

    @property
    def ending(self) -> str:
        """What is known of why it ended, beyond the exit code."""
        ...

    def alive(self) -> bool: ...

    def pids(self) -> list[int]:
        """Its processes on this machine, as of now; empty where they cannot be seen."""
        ...

    def address(self, port: int) -> tuple[str, int] | None:
        """Host and port at which its own `port` is reached from here; None while that is not known."""
        ...

    def owns(self, port: int) -> bool:
        """Whether it is what listens there, as far as that can be seen."""
        ...

    def log_tail(self, lines: int = 20) -> str:
        """The last lines this run wrote."""
        ...


def of_signal(number: int) -> str:
    """`killed by SIGSEGV`; of SIGKILL, who often sends it."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return f"killed by {name}" + (", as the system does for want of memory" if number == signal.SIGKILL else "")


def tree(pid: int, mark: str = "") -> list[int]:
    """The process and everything below it; empty when it is gone or its control group does not name `mark`."""
    try:
        root = psutil.Process(pid)
        if mark and not re.search(re.escape(mark), Path(f"/proc/{pid}/cgroup").read_text()):
            return []
        return [pid, *(child.pid for child in root.children(recursive=True))]
    except (psutil.Error, OSError):
        return []
