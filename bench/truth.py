"""dyno against a server whose every token leaves at a known instant: python -m bench.truth [ROW …] [--json]

Each row starts `dyno load` as a user would, against a server of its own, and prints the truth, what was measured, the
error, and whether the mark is met. The server shares the machine: it counts how late it was itself, and where that is
much, nothing here tells of dyno. Run it on a quiet machine.

    streams   500 streams, first token after 20 ms, the others every 10 ms, 100 tokens; CPU beside wrk's, if installed
    start     from the command's start to the first request at the server
    many      2 000 streams at 10 tokens a second each; 10 000 connections that do little
    poisson   1 000 requests a second: send delay, dispersion, the same schedule from the same seed in other processes
    overload  a rate above what the server's slots can do
    shards    two load generator processes beside one
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bench import _dyno
from bench._marks import Line, at_least, at_most, near, table, within
from bench._truth import Truth
from models.errors import DynoError

MS = 1e6
LATE_MS = 0.5
"""A server later than this at the 99th percentile is no truth for marks of a millisecond."""
WRK = """wrk.method="POST"
wrk.headers["Content-Type"]="application/json"
wrk.body='{"model":"truth","prompt":"a b c d e f","max_tokens":100,"stream":true,"stream_options":{}}'
"""


def load(server: Truth, out: Path | None = None, **options: object) -> _dyno.Ran:
    """`dyno load` on that server; short prompts unless said."""
    return _dyno.run("load", {"url": server.url, "model": "truth", "input_tokens": 32, **options}, out)


def streams(folder: Path) -> Iterator[Line]:
    """500 streams, as in the table of facts about other tools."""
    row = "500 streams"
    with Truth(ttft_ms=20, itl_ms=10) as server:
        ran = load(server, folder / "streams", concurrency=500, requests=2000, output_tokens=100)
        stats = server.stats()
    said = ran.said
    yield within(row, "TTFT p50 ms", said["ttft_ms_p50"], 20, 1)
    yield within(row, "TTFT p99 ms", said["ttft_ms_p99"], 20, 1)
    yield near(row, "TPOT mean ms", said["tpot_ms_mean"], 10, 0.5)
    yield at_least(row, "tokens/s", said["output_tokens_per_second"], 48_500, 500 * 100 / 1.01)
    yield _answered(row, ran, 2000)
    tokens = stats["tokens"]
    yield at_most(row, "client µs/token", said["client_cpu_seconds"] * 1e6 / tokens, 12)
    yield Line(row, "… while sending", said["client_cpu_seconds_sending"] * 1e6 / tokens)
    yield Line(row, "… with start-up", ran.cpu_s * 1e6 / tokens)
    yield Line(row, "server µs/token", stats["cpu_s"] * 1e6 / tokens)
    yield _start(row, ran, stats)
    yield from _lateness(row, stats)
    if shutil.which("wrk"):
        yield Line(row, "wrk µs/token", wrk_us(folder), note="C, no parsing: the floor on this machine")


def wrk_us(folder: Path) -> float:
    """CPU of wrk for a token that it receives on the same streams."""
    (folder / "wrk.lua").write_text(WRK)
    with Truth(ttft_ms=20, itl_ms=10) as server:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(["wrk", "-t1", "-c500", "-d5s", "-s", str(folder / "wrk.lua"), f"{server.url}/v1/completions"],
                       capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return cpu_s * 1e6 / float(server.stats()["tokens"])


def start(folder: Path) -> Iterator[Line]:
    """Five starts, as the first one may read from disk."""
    seconds = []
    for _ in range(5):
        with Truth(ttft_ms=20, itl_ms=10) as server:
            ran = load(server, concurrency=4, requests=20, output_tokens=10)
            seconds.append((server.stats()["first_request_ns"] - ran.started_ns) / 1e9)
    yield at_most("start", "median s to first request", statistics.median(seconds), 1.5)
    yield at_most("start", "slowest s", max(seconds), 1.5)


def many(folder: Path) -> Iterator[Line]:
    """Many streams with little on each of them."""
    row = "2 000 streams"
    with Truth(ttft_ms=20, itl_ms=100) as server:
        ran = load(server, concurrency=2000, requests=4000, output_tokens=25)
        stats = server.stats()
    yield within(row, "TTFT p50 ms", ran.said["ttft_ms_p50"], 20, 3)
    yield within(row, "TTFT p99 ms", ran.said["ttft_ms_p99"], 20, 3)
    yield near(row, "TPOT mean ms", ran.said["tpot_ms_mean"], 100, 0.5)
    yield _answered(row, ran, 4000)
    yield from _lateness(row, stats)
    row = "10 000 streams"
    with Truth(ttft_ms=20, itl_ms=5000) as server:  # longer than all of them take to start
        ran = load(server, concurrency=10_000, requests=10_000, output_tokens=3)
        stats = server.stats()
    yield _answered(row, ran, 10_000)
    yield at_least(row, "open at once", stats["open_max"], 10_000)
    yield Line(row, "TTFT p99 ms", ran.said["ttft_ms_p99"], 20)
    yield Line(row, "in all s", ran.wall_s)
    yield from _lateness(row, stats)


def poisson(folder: Path) -> Iterator[Line]:
    """Half a minute of a thousand requests a second; the same again from two processes."""
    row, rans = "Poisson 1 000/s", []
    for processes in (1, 2):
        with Truth(ttft_ms=5, itl_ms=5) as server:
            rans.append(load(server, folder / f"poisson{processes}", rate=1000, requests=30_000, output_tokens=3,
                             seed=7, processes=processes))
            stats = server.stats()
            name = f"{row}, {processes} process{'es' * (processes > 1)}"
            yield at_most(name, "send delay p99 ms", rans[-1].said["send_delay_ms_p99"], 1)
            yield from _lateness(name, stats)
    requests = rans[0].requests().filter(pl.col("phase") != "tail", pl.col("sent_ns").is_not_null())
    for when, width_s in (("planned", 0.02), ("sent", 0.02), ("planned", 0.1)):
        said, windows = dispersion(requests[f"{when}_ns"].to_numpy() / 1e9, width_s)
        note = f"{windows} windows of {width_s:g} s: standard error {(2 / (windows - 1)) ** 0.5:.3f}"
        met = abs(said - 1) <= 0.1 if width_s < 0.1 else None  # a fair process misses it in fewer, wider windows too
        yield Line(row, f"dispersion, {when}", said, 1, "± 0.1" if met is not None else "", met, note)
    digests = {digest(ran.requests()) for ran in rans}
    yield Line(row, "schedules of one seed", len(digests), 1, "the same", len(digests) == 1)


def dispersion(at_s: np.ndarray[Any, Any], width_s: float) -> tuple[float, int]:
    """Variance over mean of the counts in windows, which is 1 for a Poisson process, and how many windows."""
    windows = int((at_s.max() - at_s.min()) / width_s)
    counts, _ = np.histogram(at_s - at_s.min(), windows, (0, windows * width_s))
    return float(counts.var(ddof=1) / counts.mean()), windows


def digest(requests: pl.DataFrame) -> str:
    """Of what was planned when, relative to the first request, and how long it was to be. Warm-up is in it, as how much
    of a run that is depends on what was measured."""
    planned = requests.filter(pl.col("phase") != "tail").sort("request_index")
    columns = ["request_index", "planned_ns", "input_tokens_planned", "output_tokens_planned"]
    shifted = planned.select(columns).with_columns(pl.col("planned_ns") - pl.col("planned_ns").min())
    return hashlib.sha256(shifted.write_csv().encode()).hexdigest()


def overload(folder: Path) -> Iterator[Line]:
    """60 requests a second for 8 slots that can do 38: every third of the run waits longer than the one before."""
    row = "overload"
    with Truth(ttft_ms=20, itl_ms=10, slots=8) as server:
        ran = load(server, folder / "overload", rate=60, requests=600, output_tokens=20)
    measured = ran.requests().filter(pl.col("phase") == "measured", pl.col("outcome") == "ok").sort("planned_ns")
    size = measured.height // 3
    for since in ("planned", "sent"):
        values = ((measured["first_token_ns"] - measured[f"{since}_ns"]) / MS).to_numpy()
        thirds = [float(np.median(values[i * size:(i + 1) * size])) for i in range(3)]
        yield Line(row, f"TTFT from {since}, last third ms", thirds[2], mark="grows", met=thirds[0] < thirds[1]
                   < thirds[2], note="thirds: " + ", ".join(f"{one:.0f}" for one in thirds))
    named = [name for name in ran.verdicts if name in ("backlog_grows", "below_rate")]
    yield Line(row, "verdicts that name it", len(named), mark=">= 1", met=bool(named), note=" ".join(ran.verdicts))
    yield Line(row, "requests/s", ran.said["requests_per_second"], 8 / 0.21, relative=True)


def shards(folder: Path) -> Iterator[Line]:
    """200 streams from one process and from two."""
    figures = {"ttft_ms_p50": 20.0, "ttft_ms_p99": 20.0, "tpot_ms_mean": 10.0, "output_tokens_per_second": 2e4 / 1.01}
    for processes in (1, 2):
        row = f"200 streams, {processes} process{'es' * (processes > 1)}"
        with Truth(ttft_ms=20, itl_ms=10) as server:
            said = load(server, concurrency=200, requests=2000, output_tokens=100, processes=processes).said
            stats = server.stats()
        for name, truth in figures.items():
            yield within(row, name, said[name], truth, 1) if "ttft" in name else near(
                row, name, said[name], truth, 0.5 if "tpot" in name else 1)
        yield Line(row, "client CPU s", said["client_cpu_seconds"])
        yield from _lateness(row, stats)


def _start(row: str, ran: _dyno.Ran, stats: dict[str, Any]) -> Line:
    return at_most(row, "s to first request", (stats["first_request_ns"] - ran.started_ns) / 1e9, 1.5)


def _answered(row: str, ran: _dyno.Ran, asked: int) -> Line:
    ok, failed = ran.said["requests_ok"], ran.said["requests_failed"]
    note = [f"{asked - ok - failed} more found to be warm-up"] if ok + failed < asked else []
    return Line(row, "requests answered", ok, mark="none failed", met=not failed, note="; ".join(note + ran.verdicts))


def _lateness(row: str, stats: dict[str, Any]) -> Iterator[Line]:
    late_ms = stats["late_us_p99"] / 1e3
    yield Line(row, "server late p99 ms", late_ms, note=f"p50 {stats['late_us_p50'] / 1e3:g}" + (
        "; no truth: the machine was busy" if late_ms > LATE_MS else ""))


ROWS = {one.__name__: one for one in (streams, start, many, poisson, overload, shards)}


def main(argv: list[str]) -> int:
    """Returns 1 when a mark is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.truth", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"{', '.join(ROWS)} [default: all]")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"{', '.join(sorted(unknown))}: there are {', '.join(ROWS)}")
    before = os.getloadavg()[0]
    lines: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="dyno-truth-") as folder:
        for name in options.rows or ROWS:
            print(name, file=sys.stderr, flush=True)
            lines += ROWS[name](Path(folder))
    if options.json:
        print(json.dumps({"load_average_before": before, "load_average_after": os.getloadavg()[0],
                          "lines": [one.flat() for one in lines]}, indent=1))
    else:
        print(f"{table(lines)}\nload average: {before:.2f} before, {os.getloadavg()[0]:.2f} after, "
              f"on {os.cpu_count()} cores")
    return int(any(one.met is False for one in lines))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except DynoError as error:
        sys.exit(f"bench.truth: {error}")
