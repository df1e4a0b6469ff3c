"""The table of what every formula's error is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app._render import Row, emit
from models.accuracy import ErrorFigure


def show(figures: Sequence[ErrorFigure], as_json: bool) -> None:
    """Prints the figures in the order of their quantities, the rough formulas before the better ones."""
    emit([one.model_dump() for one in figures], (
        ("quantity", lambda r: str(r["quantity"])),
        ("level", lambda r: str(r["level"])),
        ("form", lambda r: str(r["form"])),
        ("MAPE %", _percent("mape")),
        ("median %", _percent("median_ape")),
        ("inside %", _percent("interval_coverage")),
        ("points", lambda r: f"{r['points']:,}".replace(",", " ")),
        ("source", lambda r: str(r["source"])),
    ), as_json)


def _percent(name: str) -> Callable[[Row], str]:
    return lambda r: "—" if r[name] is None else f"{100 * r[name]:.1f}"
