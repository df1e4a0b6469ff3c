"""A day's load, hour by hour: how the requests of a day spread over its 24 hours, and what that asks of a fleet."""

from __future__ import annotations

import math
from functools import cache
from importlib import resources
from typing import Any

from pydantic import Field, field_validator

from models.errors import UserError
from models.identity import Record

HOURS = 24


class Profile(Record):
    """24 weights from midnight; only their proportions count. `source` says where they come from."""

    name: str
    weights: tuple[float, ...] = Field(min_length=HOURS, max_length=HOURS)
    source: str

    @field_validator("weights")
    @classmethod
    def _some_load(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if min(value) < 0 or not sum(value) > 0:
            raise ValueError("24 weights, none negative, not all zero")
        return value

    @property
    def peak_factor(self) -> float:
        """Load of the busiest hour over the mean of the day: 1 where every hour is alike."""
        return max(self.weights) * HOURS / sum(self.weights)

    def rates(self, mean_per_second: float) -> tuple[float, ...]:
        """Returns the requests a second of each hour, whose mean over the day is `mean_per_second`."""
        scale = mean_per_second * HOURS / sum(self.weights)
        return tuple(w * scale for w in self.weights)


@cache
def named() -> dict[str, Profile]:
    """Returns the bundled profiles by name (models/data/profiles.yaml, each with its source)."""
    import yaml  # most answers ask no day's load

    table: dict[str, Any] = yaml.safe_load(resources.files("models").joinpath("data/profiles.yaml").read_text())
    return {name: Profile(name=name, **row) for name, row in table.items()}


def parse(text: str) -> Profile:
    """Reads a bundled profile's name, or 24 numbers separated by commas. Raises UserError with the way out."""
    if (found := named().get(text.strip().lower())) is not None:
        return found
    parts = [p for p in text.replace(",", " ").split() if p]
    try:
        weights = tuple(float(p) for p in parts)
    except ValueError:
        raise UserError(f"profile {text!r}: there is no such profile; name one of {', '.join(named())}, or give 24"
                        " numbers, one an hour from midnight") from None
    if len(weights) != HOURS:
        raise UserError(f"profile: {len(weights)} numbers; give 24, one an hour from midnight")
    if not all(math.isfinite(w) and w >= 0 for w in weights) or not sum(weights):
        raise UserError("profile: numbers from 0 up, not all of them 0")
    return Profile(name="given", weights=weights, source="given")
