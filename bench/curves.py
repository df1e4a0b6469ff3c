"""Errors of calibrated curves on public measurements beside the marks: python -m bench.curves [--learn] [--json]

Needs the extra `planning`. --learn prints the figures that models.planning.priors and models.planning.transfer carry,
learned from all curves.
"""

from __future__ import annotations

import argparse
import json

from flows import accuracy_public, accuracy_transfer
from models.accuracy import ErrorFigure
from models.planning import curves

MARKS = {"tpot": "3.9 (2.1)", "throughput": "4.2 (2.0)", "ttft": "18"}


def main() -> None:
    """Prints the table, or what is learned."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learn", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.learn:
        _learn()
        return
    found = accuracy_public.figures() + accuracy_transfer.figures()
    if options.json:
        print(json.dumps([one.model_dump() for one in found], indent=1))
        return
    heads = ["quantity", "level", "form", "MAPE%", "median%", "held%", "points", "mark%", "source"]
    lines = [heads, *map(_row, found)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _learn() -> None:
    known = accuracy_public.distinct(accuracy_public.public_curves())
    for quantity in accuracy_public.QUANTITIES:
        print(quantity, accuracy_public.learned_from_all(known, quantity))
        print(quantity, "transfer", accuracy_transfer.spread(accuracy_transfer.carried(quantity)))


def _row(one: ErrorFigure) -> list[str]:
    marked = one.form == curves.FORM and "fitted on 3 points" in one.source and "mixed" not in one.source
    mark = MARKS[one.quantity] if marked else "12" if "between" in one.source and one.quantity != "ttft" else ""
    held = "" if one.interval_coverage is None else f"{100 * one.interval_coverage:.1f}"
    return [one.quantity, one.level, one.form, f"{100 * one.mape:.1f}", f"{100 * one.median_ape:.1f}", held,
            str(one.points), mark, one.source]


if __name__ == "__main__":
    main()
