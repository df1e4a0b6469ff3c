"""The bundled prices, as rows of a data file."""

from __future__ import annotations

from importlib import resources
from typing import Any

import yaml

from models.specs import HardwareSpec, Price


def bundled(hardware: HardwareSpec) -> list[Price]:
    """Returns the bundled prices that apply to a machine, for all of its accelerators (or cores) together.

    Empty when neither its accelerator nor its number of cores is known.
    """
    table: dict[str, Any] = yaml.safe_load(resources.files("models").joinpath("data/prices.yaml").read_text())
    if hardware.accelerator:
        return [Price(hardware=hardware.name, price_usd_per_hour=row["price_usd_per_hour"] * hardware.accelerators,
                      tier=row["tier"], date=row["date"], source=row["source"])
                for row in table["accelerators"] if row["match"] in hardware.accelerator]
    if not hardware.cores:
        return []
    cpu = table["cpu"]
    return [Price(hardware=hardware.name, price_usd_per_hour=round(cpu["price_usd_per_core_hour"] * hardware.cores, 6),
                  tier=cpu["tier"], date=cpu["date"], source=cpu["source"])]
