"""`dyno plan …`: the formulas at three levels, side by side, with what was measured beside them where there is."""

from __future__ import annotations

import click


@click.group()
def plan() -> None:
    """Plan memory, concurrency, capacity and cost: three levels of formulas side by side, each with its error.

    \b
    rough         the survey's formulas, exactly as stated
    architecture  what the model's shape, the engine's overheads and the hardware's spec sheet say
    calibrated    fitted on your own measurements of this setup
    """
