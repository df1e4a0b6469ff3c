"""Figures beside the truth and the mark they have to reach, as a table or as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from bench._peers_table import aligned


@dataclass(frozen=True)
class Line:
    """One figure. truth: what it should be, where there is one; mark: the words of what is asked; met: None where
    nothing is."""

    row: str
    figure: str
    measured: float
    truth: float | None = None
    mark: str = ""
    met: bool | None = None
    note: str = ""
    relative: bool = False

    @property
    def error(self) -> float | None:
        """Measured less true, in per cent of the truth where `relative`."""
        if self.truth is None:
            return None
        return 100 * (self.measured / self.truth - 1) if self.relative else self.measured - self.truth

    def flat(self) -> dict[str, object]:
        """One object for --json."""
        return dataclasses.asdict(self) | {"error": self.error}


def within(row: str, figure: str, measured: float, truth: float, most: float, unit: str = "ms") -> Line:
    """A figure that may be off by `most` either way."""
    return Line(row, figure, measured, truth, f"± {most:g} {unit}", abs(measured - truth) <= most)


def near(row: str, figure: str, measured: float, truth: float, percent: float) -> Line:
    """A figure that may be off by so many per cent either way."""
    return Line(row, figure, measured, truth, f"± {percent:g} %", abs(measured / truth - 1) * 100 <= percent,
                relative=True)


def at_most(row: str, figure: str, measured: float, most: float) -> Line:
    """A figure that may not be larger."""
    return Line(row, figure, measured, mark=f"<= {most:g}", met=measured <= most)


def at_least(row: str, figure: str, measured: float, least: float, truth: float | None = None) -> Line:
    """A figure that may not be smaller."""
    return Line(row, figure, measured, truth, f">= {least:g}", measured >= least, relative=True)


def table(lines: Sequence[Line]) -> str:
    """The lines under their heads."""
    cells = [[one.row, one.figure, "" if one.truth is None else f"{one.truth:.5g}", f"{one.measured:.5g}",
              "" if one.error is None else f"{one.error:+.2f}{' %' if one.relative else ''}", one.mark,
              {None: "", True: "yes", False: "NO"}[one.met]] for one in lines]
    return aligned(["row", "figure", "truth", "measured", "error", "mark", "met"], cells, [one.note for one in lines])
