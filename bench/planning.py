"""Planned against measured on this machine: python -m bench.planning [--home FOLDER] [--fit 1,4,8,16] [--json]

Measures bench/planning.yaml and planning_larger.yaml by `dyno evaluate` (two hours, once in a home; leave the machine
alone meanwhile), fits the curve of each setup and workload on some load levels and predicts the others, then predicts
the middle mix of lengths from the two around it. Where points were measured in several rounds their medians are used,
and how far a round is from the median of the others says what no prediction can better.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench._marks import Line, at_most, table
from models.planning import curves
from models.planning.curves import Fit
from models.planning.points import Slots, merged, point
from models.planning.transfer import Mix, transfer
from warehouse import reader

EXPERIMENTS = (Path(__file__).with_suffix(".yaml"), Path(__file__).with_name("planning_larger.yaml"))
UNSEEN, TRANSFER = 5.0, 12.0
"""Per cent of throughput that predictions may miss on average: at an unseen concurrency, at an unseen mix."""


def measure(home: Path) -> None:
    """Raises CalledProcessError when a point could not be measured."""
    for experiment in EXPERIMENTS:
        subprocess.run([sys.executable, "-m", "app", "evaluate", str(experiment)], check=True,
                       stdout=subprocess.DEVNULL, env=os.environ | {"DYNO_HOME": str(home)})


def lines(home: Path, fitted_on: Sequence[float]) -> Iterator[Line]:
    """The marks of unseen concurrencies and of an unseen mix, by engine and model."""
    rows = reader.query(home, "from measurements where workload_name = 'chat' and not fatal").to_dicts()
    for engine in dict.fromkeys(map(_of, rows)):
        mine = [r for r in rows if _of(r) == engine]
        known = [_Curve(w, [r for r in mine if r["workload"] == w]) for w in dict.fromkeys(r["workload"] for r in mine)]
        known.sort(key=lambda one: one.input_tokens)
        off = [percent for one in known for percent in one.unseen(fitted_on)]
        yield at_most(engine, "throughput at unseen concurrencies, mean % off", float(np.mean(off)), UNSEEN)
        yield Line(engine, "… worst % off", max(off), note=f"{len(off)} points; fitted on {len(fitted_on)} a curve")
        again = [percent for one in known for percent in one.again()]
        if again:
            yield Line(engine, "measured again, mean % off", float(np.mean(again)),
                       note=f"{len(again)} points, each against the median of its other rounds")
        if len(known) < 3:
            continue
        middle, around = known[1], (known[0], known[2])
        mixes = [Mix(input_tokens=one.input_tokens, output_tokens=one.output_tokens, fit=one.fit(fitted_on))
                 for one in around]
        off = [_off(transfer(mixes, middle.input_tokens, middle.output_tokens, p.concurrency).value,
                    p.output_tokens_per_second) for p in middle.points]
        yield at_most(engine, "throughput at an unseen mix, mean % off", float(np.mean(off)), TRANSFER)
        yield Line(engine, "… worst % off", max(off), note=f"{middle.workload}, from "
                   + " and ".join(one.workload for one in around))


def _of(row: dict[str, Any]) -> str:
    return f"{row['variant'] or row['engine']}, {row['model'].removeprefix('synthetic-llama-')}"


class _Curve:
    """The points of a setup under a workload."""

    def __init__(self, workload: str, rows: Sequence[dict[str, Any]]) -> None:
        self.workload, self.slots = workload, Slots.of(rows[0])
        self.input_tokens, self.output_tokens = (float(np.mean([r[f"{side}_tokens_mean"] for r in rows]))
                                                 for side in ("input", "output"))
        self.points = merged([point(r["concurrency"], r["ttft_ms_mean"], r["tpot_ms_mean"], r["output_tokens_mean"],
                                    r["output_tokens_per_second"]) for r in rows])

        self.rounds = [[r["output_tokens_per_second"] for r in rows if r["concurrency"] == p.concurrency]
                       for p in self.points]

    def again(self) -> list[float]:
        """How far off each round is from the median of the point's other ones, %; none of points measured once."""
        return [_off(float(np.median(each[:i] + each[i + 1:])), value) for each in self.rounds if len(each) > 1
                for i, value in enumerate(each)]

    def fit(self, on: Sequence[float]) -> Fit:
        return curves.fit([p for p in self.points if p.concurrency in on], "throughput", slots=self.slots)

    def unseen(self, on: Sequence[float]) -> list[float]:
        fitted = self.fit(on)
        return [_off(fitted.predict(p.concurrency).value, p.output_tokens_per_second) for p in self.points
                if p.concurrency not in on]


def _off(predicted: float, measured: float) -> float:
    return abs(predicted / measured - 1) * 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="where it is kept [default: a folder that is gone afterwards]")
    parser.add_argument("--fit", default="1,4,8,16", help="load levels to fit on [default: 1,4,8,16]")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = asked.home or Path(folder)
        measure(home)
        found = list(lines(home, [float(c) for c in asked.fit.split(",")]))
    print(json.dumps([one.flat() for one in found], indent=1) if asked.json else table(found))
    sys.exit(any(one.met is False for one in found))


if __name__ == "__main__":
    main()
