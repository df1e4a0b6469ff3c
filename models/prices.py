"""Prices of hardware: the bundled ones, as rows of a data file; which apply to a machine, and which of them is used."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.specs import HardwareSpec, Price

SPOT = "spot"
"""The tier of instances that may be taken away: never used unless it is asked for."""


@cache
def _table() -> dict[str, Any]:
    import yaml  # an answer of what was measured asks names() only

    table: dict[str, Any] = yaml.safe_load(resources.files("models").joinpath("data/prices.yaml").read_text())
    return table


def catalogue() -> list[Price]:
    """Returns the bundled prices of accelerators, in US dollars for an hour of one."""
    from models.specs import Price

    return [Price(hardware=row["match"], **{k: v for k, v in row.items() if k != "match"})
            for row in _table()["accelerators"]]


def bundled(hardware: HardwareSpec) -> list[Price]:
    """Returns the bundled prices that apply to a machine, for all of its accelerators (or cores) together.

    Empty when neither its accelerator nor its number of cores is known.
    """
    if hardware.accelerator:
        return applying(catalogue(), hardware)
    if not hardware.cores:
        return []
    from models.specs import Price

    cpu = _table()["cpu"]
    return [Price(hardware=hardware.name, price_usd_per_hour=round(cpu["price_usd_per_core_hour"] * hardware.cores, 6),
                  tier=cpu["tier"], date=cpu["date"], source=cpu["source"])]


def names(price_hardware: str, accelerator: str) -> bool:
    """Whether every word of a price's hardware is one of the accelerator's name: `A100 80GB` of `NVIDIA
    A100-SXM4-80GB`, but `L4` not of `NVIDIA L40S`. The view `hardware_prices` states the same in SQL."""
    words = _words(price_hardware)
    return bool(words) and words <= _words(accelerator)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", text.lower()))


def applying(prices: Iterable[Price], hardware: HardwareSpec) -> list[Price]:
    """Returns the prices that apply to a machine, each for the whole of it: by its name, or by its accelerator's (then
    times their number)."""
    found = []
    for price in prices:
        if price.hardware.lower() == hardware.name.lower():
            found.append(price)
        elif hardware.accelerator and names(price.hardware, hardware.accelerator):
            found.append(price.model_copy(update={
                "hardware": hardware.name, "price_usd_per_hour": price.price_usd_per_hour * hardware.accelerators,
                "price_per_hour": price.price_per_hour and price.price_per_hour * hardware.accelerators}))
    return found


def choose(prices: Sequence[Price], tier: str | None = None, region: str | None = None) -> Price | None:
    """Returns the newest of a tier and region (where none is named, any but spot), of these the cheapest; None if none.

    A region is named by its start: `eu` takes eu-west-1.
    """
    def fits(price: Price) -> bool:
        same = price.tier.lower() == tier.lower() if tier else price.tier != SPOT
        return same and (region is None or (price.region or "").lower().startswith(region.lower()))

    return min(filter(fits, prices), key=lambda p: ([-ord(c) for c in p.date], p.price_usd_per_hour), default=None)
