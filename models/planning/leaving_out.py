"""How well zero-shot predicts what it did not see: rows left out by groups, the model learnt anew each time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.planning.terms import coefficients
from models.planning.zero_shot import Measured, Prediction, Quantity, fit, terms
from models.progress import Progress, silent


def by_label(rows: Sequence[Measured], name: str) -> list[str]:
    """Each row's group: its `model`, `chip`, `stack`… (Setting.labels)."""
    return [row.setting.labels[name] for row in rows]


def by_folds(rows: Sequence[Measured], name: str, folds: int = 20, seed: int = 1) -> list[str]:
    """Groups dealt at random to `folds` folds of about as many groups: rows of one group are left out together."""
    names = by_label(rows, name)
    groups = list(dict.fromkeys(names))
    places = np.random.default_rng(seed).permutation(len(groups))
    fold = {group: f"fold {place % folds + 1}" for group, place in zip(groups, places, strict=True)}
    return [fold[one] for one in names]


def leave_out(rows: Sequence[Measured], groups: Sequence[str], quantity: Quantity = "tpot", *, most_rows: int = 400,
              progress: Progress = silent) -> list[Prediction]:
    """Predicts each row from those of the other groups: physics, scales and intervals know nothing of its group.

    Raises UserError when what is left is too little to learn from.
    """
    found: dict[int, Prediction] = {}
    names = list(dict.fromkeys(groups))
    for done, name in enumerate(names):
        progress(f"zero-shot {quantity}", done / len(names), f"without {name}")
        inside = [place for place, group in enumerate(groups) if group == name]
        learnt = fit([row for row, group in zip(rows, groups, strict=True) if group != name], quantity,
                     most_rows=most_rows)
        found.update(zip(inside, learnt.predict_all([rows[place].setting for place in inside]), strict=True))
    return [found[place] for place in range(len(rows))]


def physics_alone(rows: Sequence[Measured], groups: Sequence[str], quantity: Quantity = "tpot") -> list[float]:
    """The same with the roofline terms' coefficients only, ms: what the likeness of rows adds is the difference."""
    table = terms(quantity, [row.setting for row in rows])
    values = np.array([getattr(row, f"{quantity}_ms") for row in rows], float)
    named, found = np.array(groups), np.zeros(len(rows))
    for name in dict.fromkeys(groups):
        inside = named == name
        found[inside] = table[inside] @ coefficients(table[~inside], values[~inside])
    return [float(value) for value in found]
