"""`dyno capacity` on servers of known capacity: python -m bench.capacity [SERVER …] [--sweep SERVER] [--json]

Each server's truth comes from a long simulation of it (up to a million arrivals), dyno's answer from `dyno capacity`
over the wire, and the cost is set beside that of sweeping ten levels evenly from a fifth of the truth to twice it,
each with --above requests above the percentile, four answers a user at least, and the warm-up `dyno load` plans. The
sweep is played by the simulation, unless --sweep has `dyno load` drive it.

    python -m bench.capacity mark            # 32 slots, where GuideLLM takes 135 engine seconds, 271 s in all
    python -m bench.capacity --sweep slots-4 slots-4
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
from typing import Any

import numpy as np

from bench import _dyno
from bench._long_run import Server, largest_concurrency, largest_rate, play
from bench._peers_table import aligned
from bench._truth import Truth
from models import slo
from models.errors import DynoError
from models.slo import Limit

SERVERS = {one.name: one for one in (
    Server("mark", "ttft_ms_p95<=200", slots=32),
    Server("slots-4", "ttft_ms_p95<=300", tokens=40, ttft_ms=20, itl_ms=5, slots=4),
    Server("slots-8", "ttft_ms_p90<=800", tokens=50, slots=8),
    Server("slots-16-p99", "ttft_ms_p99<=400", tokens=64, ttft_ms=40, itl_ms=8, slots=16),
    Server("slope", "tpot_ms_p95<=20.2", tokens=40, ttft_ms=20, itl_ms=5, slope_ms=0.5),
    Server("slots-24-slope", "ttft_ms_p95<=250 and tpot_ms_p95<=14.2", tokens=40, ttft_ms=30, itl_ms=6, slots=24,
           slope_ms=0.4),
)}
KINDS = ("concurrency", "request_rate")
LEVELS = np.arange(1, 11) / 5
ERROR_PERCENT, SWEEP_SHARE = 5.0, 1 / 3
ENGINE_S, WALL_S = 60.0, 75.0
"""Marks of the server `mark`, both capacities together."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One capacity of one server. sweep_s: engine seconds of the sweep; driven: by `dyno load`, not played."""

    server: str
    kind: str
    truth: float
    estimate: float
    low: float
    high: float | None
    sure: float
    probes: int
    engine_s: float
    sweep_s: float
    driven: bool
    why: str

    @property
    def error_percent(self) -> float:
        return 100 * (self.estimate / self.truth - 1)

    @property
    def share(self) -> float:
        """Of the sweep's engine seconds."""
        return self.engine_s / self.sweep_s

    @property
    def covered(self) -> bool:
        """Whether the interval holds the truth."""
        return self.low <= self.truth <= (self.high or math.inf)

    @property
    def met(self) -> bool:
        return abs(self.error_percent) <= ERROR_PERCENT and self.share <= SWEEP_SHARE

    def flat(self) -> dict[str, object]:
        """One object for --json."""
        return dataclasses.asdict(self) | {"error_percent": self.error_percent, "share_of_sweep": self.share,
                                           "covered": self.covered, "met": self.met}


def levels(kind: str, truth: float) -> list[float]:
    """Ten, the fifth of them the truth."""
    return [max(1.0, round(truth * x)) if kind == "concurrency" else float(truth * x) for x in LEVELS]


def requests_for(kind: str, level: float, limits: tuple[Limit, ...], above: int) -> int:
    """As many as the strictest percentile needs."""
    needed = round(above / (1 - max(one.quantile or 0.5 for one in limits)))
    return max(needed, 4 * round(level)) if kind == "concurrency" else needed


def played_s(server: Server, kind: str, level: float, requests: int) -> float:
    """Engine seconds of one level of the sweep."""
    if kind == "concurrency":
        return float(play(server, round(level) + requests, users=round(level)).done.max())
    count = requests + max(1, min(math.ceil(2 * level), math.ceil(requests / 4)))
    gaps = np.random.Generator(np.random.PCG64(1)).exponential(1 / level, count)
    return float(play(server, count, arrivals=np.cumsum(gaps)).done.max())


def driven_s(server: Server, url: str, kind: str, level: float, requests: int) -> float:
    """The same, over the wire."""
    ran = _dyno.run("load", {"url": url, "model": "truth", "input_tokens": 32, "output_tokens": server.tokens,
                             "requests": requests} | ({"concurrency": round(level)} if kind == "concurrency" else
                                                      {"rate": level}))
    return float(ran.said["duration_s"])


def searched(server: Server, above: int, drive: bool) -> tuple[list[Row], dict[str, Any]]:
    """One server's rows, and what dyno said."""
    limits = slo.parse(server.slo, stored=False)
    told(f"{server.name}: the truth")
    truths = {"concurrency": float(largest_concurrency(server, limits)), "request_rate": largest_rate(server, limits)}
    told(f"{server.name}: {truths['concurrency']:g} users, {truths['request_rate']:.3f} requests/s; dyno capacity")
    with Truth(server.ttft_ms, server.itl_ms, slots=server.slots, slope_ms=server.slope_ms) as running:
        said = _dyno.run("capacity", {"url": running.url, "model": "truth", "input_tokens": 32, "slo": server.slo,
                                      "output_tokens": server.tokens}).said
        rows = []
        for kind in KINDS:
            sweep_s = 0.0
            for level in levels(kind, truths[kind]):
                requests = requests_for(kind, level, limits, above)
                sweep_s += (driven_s(server, running.url, kind, level, requests) if drive else
                            played_s(server, kind, level, requests))
            one = said[kind]
            rows.append(Row(server.name, kind, truths[kind], one["estimate"], one["low"], one["high"], one["sure"],
                            one["probes"], one["seconds"], sweep_s, drive, one["why"]))
    return rows, said


def table(rows: list[Row], said: dict[str, dict[str, Any]]) -> str:
    """The rows, then what each server took in all."""
    heads = ["server", "capacity", "truth", "estimate", "error %", "low", "high", "covers truth", "sure", "probes",
             "engine s", "sweep s", "share", "met"]
    cells = [[r.server, r.kind, f"{r.truth:.2f}", f"{r.estimate:.2f}", f"{r.error_percent:+.1f}", f"{r.low:.2f}",
              "" if r.high is None else f"{r.high:.2f}", "yes" if r.covered else "NO", f"{r.sure:.2f}",
              str(r.probes), f"{r.engine_s:.1f}", f"{r.sweep_s:.1f}{' driven' if r.driven else ''}",
              f"{r.share:.2f}", "yes" if r.met else "NO"] for r in rows]
    lines = [aligned(heads, cells, [r.why for r in rows]), ""]
    for name, one in said.items():
        marks = f" (marks: {ENGINE_S:g}, {WALL_S:g})" if name == "mark" else ""
        lines.append(f"{name}: both in {one['engine_seconds']:.1f} engine seconds, {one['wall_seconds']:.1f} s in all"
                     f"{marks}{''.join(f'; {note}' for note in one['notes'])}")
    return "\n".join(lines)


def told(text: str) -> None:
    """Progress goes to standard error."""
    print(text, file=sys.stderr, flush=True)


def main(argv: list[str]) -> int:
    """Returns 1 when a mark is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers", nargs="*", metavar="SERVER", help=f"{', '.join(SERVERS)} [default: all]")
    parser.add_argument("--sweep", action="append", default=[], choices=list(SERVERS), help="drive this one's sweep")
    parser.add_argument("--above", type=int, default=10, help="requests above the percentile in a sweep [default: 10]")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if unknown := set(options.servers) - set(SERVERS):
        parser.error(f"{', '.join(sorted(unknown))}: there are {', '.join(SERVERS)}")
    before = os.getloadavg()[0]
    rows: list[Row] = []
    said: dict[str, dict[str, Any]] = {}
    for name in options.servers or SERVERS:
        found, said[name] = searched(SERVERS[name], options.above, name in options.sweep)
        rows += found
    marks = "mark" not in said or (said["mark"]["engine_seconds"] < ENGINE_S and said["mark"]["wall_seconds"] < WALL_S)
    if options.json:
        print(json.dumps({"load_average_before": before, "load_average_after": os.getloadavg()[0],
                          "rows": [row.flat() for row in rows], "said": said}, indent=1))
    else:
        print(f"{table(rows, said)}\nload average: {before:.2f} before, {os.getloadavg()[0]:.2f} after, "
              f"on {os.cpu_count()} cores")
    return int(not marks or not all(row.met for row in rows))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except DynoError as error:
        sys.exit(f"bench.capacity: {error}")
