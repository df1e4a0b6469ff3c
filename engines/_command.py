"""Runs the programs that provision an engine: logged, owned like an engine, their progress read from their output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from engines._process import supervise
from models.errors import BuildFailed


def run_logged(what: str, argv: Sequence[str], log_path: Path, *, env: Mapping[str, str] | None = None,
               cwd: Path | None = None, on_line: Callable[[str], None] | None = None) -> str:
    """Runs argv to its end and returns what it wrote, also appended to the log; `on_line` gets each line meanwhile.

    Raises BuildFailed, saying `what` failed, with the command, exit code and the log's tail.
    """
    start = log_path.stat().st_size if log_path.is_file() else 0
    read, told = start, ""
    with supervise(argv, env, log_path, cwd) as process:
        ended = False
        while not ended:
            ended = process.wait(0.2)
            with log_path.open("rb") as log:
                log.seek(read)
                new = log.read()
            read += len(new)
            *lines, told = (told + new.decode(errors="replace")).split("\n")
            for line in lines if on_line else ():
                on_line(line)  # type: ignore[misc]  # it is not None here
        tail = process.log_tail(25)
    if process.exit_code != 0:
        raise BuildFailed(f"{what} failed", command=process.command, exit_code=process.exit_code, log_tail=tail,
                          log_path=str(log_path))
    with log_path.open("rb") as log:
        log.seek(start)
        return log.read().decode(errors="replace")
