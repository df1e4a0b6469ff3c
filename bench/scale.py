"""How dyno bears a large warehouse: python -m bench.scale [--trials N] [--requests N] [--home DIR] [--json]

Makes a warehouse by rule (--home: there, or what lies there is used again), publishes it, and times what people wait
for: every question that the explorer's pages ask, with empty caches; the first page in a real browser; the commands as
whole processes. Marks: each question of a page 300 ms, the first page usable within 2 s, `dyno choose` 1 s, the
explorer's memory 1 GB.

    python -m bench.scale --trials 2000 --home /tmp/large
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from bench import _dyno, _scale_data, _scale_explorer
from bench._marks import Line, at_most, table
from flows import capabilities
from models.errors import DynoError
from warehouse import published, reader, writer

QUESTION_MS, FIRST_PAGE_S, CHOOSE_S, MEMORY_GB = 300, 2, 1, 1
TRIES = 3


COMMANDS = {
    "choose": ["choose", "--model", "{most}", "--workload", "chat", "--rate", "20"],
    "choose, a rarer model": ["choose", "--model", "{rare}", "--workload", "chat", "--rate", "20"],
    "choose, by size": ["choose", "--model", "8B", "--workload", "chat", "--rate", "20"],
    "runs": ["runs"], "sql": ["sql", "from measurements limit 5"],
    "sql, the cheapest": ["sql", "from measurements where trust = 'ok' order by usd_per_million_output_tokens limit 5"],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=500, help="of each trial")
    parser.add_argument("--home", type=Path, help="left out: a temporary one, removed at the end")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    home = given.home or Path(tempfile.mkdtemp(prefix="dyno-scale-"))
    os.environ["DYNO_HOME"] = str(home)
    try:
        lines = list(_heard(_made(home, given.trials, given.requests), _commands(), _pages(), _browser(home)))
    except DynoError as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        if given.home is None:
            shutil.rmtree(home)
    print(json.dumps([line.flat() for line in lines], indent=1) if given.json else table(lines))
    return 0


def _heard(*parts: Iterator[Line]) -> Iterator[Line]:
    """Each line as it comes, said aloud: the whole takes a while."""
    for line in chain(*parts):
        _said(f"  {line.row}: {line.figure} {line.measured:.4g}{' NO' if line.met is False else ''}")
        yield line


def _made(home: Path, trials: int, requests: int) -> Iterator[Line]:
    if not (home / writer.DATABASE).exists():
        started = time.perf_counter()
        _scale_data.make(home, trials, requests, _said)
        yield Line("made", "seconds", time.perf_counter() - started)
        writer.set_engines(home, capabilities.of())
    _said("publishing")
    started = time.perf_counter()
    writer.publish(home)
    yield Line("published", "seconds", time.perf_counter() - started)
    yield Line("published", "GB", published.snapshot(home).stat().st_size / 1e9)
    for name in ("trials", "requests", "telemetry", "metrics"):
        count = reader.query(home, f"select count(*) as n from {name}")["n"].item()
        yield Line("holds", name, count)


def _commands() -> Iterator[Line]:
    """Whole processes, start-up included: the fastest of their tries. Their modules are compiled, as after any first
    run, whatever this process was told."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    names = {"most": _scale_data.MODELS[0][0], "rare": _scale_data.MODELS[12][0]}
    for name, arguments in COMMANDS.items():
        _said(f"dyno {name}")
        argv = [str(_dyno.PROGRAM), *(a.format(**names) for a in arguments)]
        seconds = []
        for _ in range(TRIES):
            started = time.perf_counter()
            done = subprocess.run(argv, capture_output=True, text=True, check=False, env=kept)
            seconds.append(time.perf_counter() - started)
            if done.returncode:
                raise DynoError(f"{shlex.join(argv)}: {done.stderr.strip()[-600:]}")
        line = Line("command", f"{name}, s", min(seconds))
        yield at_most(line.row, line.figure, line.measured, CHOOSE_S) if name.startswith("choose") else line


def _pages() -> Iterator[Line]:
    _said("every page, with empty caches")
    for one in _scale_explorer.asked(TRIES):
        if one.name == _scale_explorer.WHOLE:
            yield Line(one.page, f"{one.name}, ms", one.ms)
        else:
            yield at_most(one.page, f"{one.name}, ms", one.ms, QUESTION_MS)


def _browser(home: Path) -> Iterator[Line]:
    _said("a real browser")
    seen = _scale_explorer.opened(home, TRIES)
    for i, seconds in enumerate(seen.first_s, 1):
        yield at_most("browser", f"first page usable, visit {i}, s", seconds, FIRST_PAGE_S)
    yield at_most("explorer", "memory after every page, GB", seen.memory_bytes / 1e9, MEMORY_GB)
    yield at_most("explorer", "memory at its highest, GB", seen.memory_highest_bytes / 1e9, MEMORY_GB)


def _said(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
