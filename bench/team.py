"""A team at one served warehouse: python -m bench.team [--seconds 300] [--readers 20] [--workers 4] [--json]

Everything is real and in processes of its own: `dyno serve`, `dyno ingest --every 10`, workers that each finish a trial
(made up by rule) every --pause seconds and push it to a shared folder, and readers that ask what the explorer's pages
ask, as people do: a question, --look seconds at it, another one. All of it shares this one machine's cores, which a
real team does not. Marks: no error, no lost row, p95 of a question 500 ms.

    python -m bench.team --seconds 60 --trials 1000
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from bench import _scale_data
from bench._marks import Line, at_least, at_most, table
from flows import ingest
from models.errors import DynoError
from warehouse import bundles, reader

P95_MS = 500
READERS_A_PROCESS = 5
CATCH_UP_S = 120.0
ROOT = Path(__file__).parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--readers", type=int, default=20)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--trials", type=int, default=5000, help="in the warehouse beforehand")
    parser.add_argument("--requests", type=int, default=200, help="of each of these")
    parser.add_argument("--pause", type=float, default=5.0, help="seconds between two trials of a worker")
    parser.add_argument("--look", type=float, default=3.0, help="mean seconds between two questions of a reader")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="dyno-team-"))
    try:
        lines = list(measured(folder, given))
    except DynoError as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps([one.flat() for one in lines], indent=1) if given.json else table(lines))
    return 0 if all(one.met is not False for one in lines) else 1


def measured(folder: Path, given: argparse.Namespace) -> Iterator[Line]:
    """Runs the team in a folder of its own and tells what came of it. Raises DynoError when a part did not start."""
    home, place, port = folder / "home", folder / "place", _free()
    place.mkdir(parents=True)
    os.environ.update(DYNO_HOME=str(home), DYNO_BUNDLES=str(place))
    os.environ.pop("DYNO_WAREHOUSE", None)
    if given.trials:
        _scale_data.make(home, given.trials, given.requests, lambda said: print(said, file=sys.stderr))
    ingest.turn(home)
    served = Path(f"quack:127.0.0.1:{port}")
    with ExitStack() as running:
        running.enter_context(_process("app", "serve", "--listen", f"127.0.0.1:{port}"))
        _answers(served)
        running.enter_context(_process("app", "ingest", "--every", "10"))
        workers = [running.enter_context(_process(
            "bench._team_worker", str(folder / f"worker-{i}"), str(i), str(given.seconds), str(given.pause)))
            for i in range(given.workers)]
        readers = [running.enter_context(_process(
            "bench._team_reader", str(served), str(count), str(given.seconds), str(given.look)))
            for count in _shares(given.readers)]
        said = [_result(one, given.seconds) for one in (*workers, *readers)]
        yield from _asked([q for one in said[given.workers:] for q in one["asked"]], given.readers)
        errors = [error for one in said for error in one["errors"]]
        for error in errors[:5]:
            print(error, file=sys.stderr)
        yield at_most("team", "errors", len(errors), 0)
        yield from _rows(folder, served, given)


def _shares(readers: int) -> list[int]:
    """Readers a process: threads of one, as the sessions of an explorer are."""
    return [min(READERS_A_PROCESS, readers - first) for first in range(0, readers, READERS_A_PROCESS)]


def _asked(asked: Sequence[tuple[str, float]], readers: int) -> Iterator[Line]:
    """Each question's latency, and of all together."""
    for name in sorted({name for name, _ in asked}):
        ms = [value for one, value in asked if one == name]
        yield Line(name, "p95 ms", float(np.percentile(ms, 95)), note=f"{len(ms)} times, median {np.median(ms):.0f} ms")
    every = [value for _, value in asked] or [0.0]
    yield at_least("team", "questions", len(asked), readers)
    yield Line("team", "p50 ms", float(np.percentile(every, 50)))
    yield at_most("team", "p95 ms", float(np.percentile(every, 95)), P95_MS)
    yield Line("team", "highest ms", max(every))


def _rows(folder: Path, served: Path, given: argparse.Namespace) -> Iterator[Line]:
    """What workers measured and what the warehouse holds of it, once the writer has caught up."""
    trials = [path for i in range(given.workers) for path in bundles.paths(folder / f"worker-{i}")]
    requests = sum(bundles.read(path).requests.height for path in trials)
    ids = [path.name for path in trials]
    deadline = time.monotonic() + CATCH_UP_S
    while True:
        found = reader.query(served, "select count(distinct trial_id) as trials, count(*) as requests from requests "
                             "where list_contains(?, trial_id)", [ids]).row(0)
        if found == (len(ids), requests) or time.monotonic() > deadline:
            break
        time.sleep(1)
    rows = reader.query(served, "select count(*) from trials where list_contains(?, trial_id)", [ids]).item()
    yield Line("team", "trials measured", len(ids))
    yield at_most("team", "trials lost", len(ids) - found[0], 0)
    yield at_most("team", "trials twice", rows - found[0], 0)
    yield at_most("team", "requests lost", requests - found[1], 0)


@contextmanager
def _process(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


def _answers(served: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            reader.query(served, "select 1")
            return
        except DynoError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _result(process: subprocess.Popen[str], seconds: float) -> dict[str, list[tuple[str, float]]]:
    out, _ = process.communicate(timeout=seconds + 300)
    if process.returncode:
        raise DynoError(f"{process.args!r} ended with {process.returncode}")
    return json.loads(out)  # type: ignore[no-any-return]


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
