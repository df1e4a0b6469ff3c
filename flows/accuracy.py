"""Every formula's error, recomputed from measured data: one's own, and public ones where their package is installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from flows import (
    accuracy_memory,
    accuracy_own,
    accuracy_public,
    accuracy_simulation,
    accuracy_transfer,
    accuracy_zero_shot,
)
from models.accuracy import ErrorFigure, Quantity
from models.errors import UserError
from models.progress import Progress, silent

_LEVELS = ("rough", "architecture", "calibrated", "simulated", "zero-shot", "peer")


@dataclass(frozen=True)
class Report:
    """The figures by quantity and level, and what could not be computed, with the reason."""

    figures: list[ErrorFigure]
    left_out: list[str]


def figures(home: Path, progress: Progress = silent, quick: bool = False, vllm_logs: Path | None = None) -> Report:
    """Computes all of them; `quick` leaves out the zero-shot study. Raises UserError for a CSV that cannot be read."""
    found: list[ErrorFigure] = list(accuracy_memory.of_logs(vllm_logs)) if vllm_logs else []
    left_out: list[str] = []
    parts: list[tuple[str, Callable[[], Sequence[ErrorFigure]]]] = [
        ("own measurements", lambda: accuracy_own.figures(home)),
        ("memory", lambda: accuracy_memory.figures(home)),
        ("simulation", lambda: accuracy_simulation.figures(home)),
        ("public curves", accuracy_public.figures),
        ("public curves at other lengths", accuracy_transfer.figures),
    ]
    if not quick:
        parts.append(("zero-shot", lambda: accuracy_zero_shot.figures(progress)))
    for name, compute in parts:
        progress(f"accuracy: {name}")
        try:
            found += compute()
        except UserError as error:
            left_out.append(f"{name}: {error}")
    order = {q: i for i, q in enumerate(get_args(Quantity))}
    found.sort(key=lambda one: (order[one.quantity], _LEVELS.index(one.level)))
    return Report(found, left_out)
