"""Hardware that is owned: what an hour of it costs, from its price, its life, money, power and upkeep."""

from __future__ import annotations

import math

from pydantic import Field

from models.identity import Record

HOURS_PER_YEAR = 8760.0


class Owned(Record):
    """A machine that is bought. Money is of one currency throughout; shares and rates are of 1 (0.08 is 8 %)."""

    price: float = Field(gt=0, description="of the whole machine, as it stands ready")
    years: float = Field(gt=0, description="until it is replaced")
    interest: float = Field(default=0.0, ge=0, lt=1, description="what its money costs a year")
    salvage: float = Field(default=0.0, ge=0, lt=1, description="share of its price that it is sold for in the end")
    power_w: float = Field(default=0.0, ge=0, description="at the wall of the rack, while it serves")
    pue: float = Field(default=1.0, ge=1, description="power usage effectiveness: power of the site ÷ of its machines")
    electricity_per_kwh: float = Field(default=0.0, ge=0)
    opex_share: float = Field(default=0.0, ge=0, lt=1, description="upkeep, space and staff a year, share of the price")
    utilisation: float = Field(default=1.0, gt=0, le=1, description="share of the hours of a year it is put to use")


def recovery_factor(interest: float, years: float) -> float:
    """Returns the share of a sum that is paid back each year: i(1+i)ⁿ ÷ ((1+i)ⁿ − 1), 1 ÷ n without interest.

    Source: the capital recovery factor (the annuity of engineering economics). Raises ValueError for years ≤ 0.
    """
    if years <= 0:
        raise ValueError("a life above 0 years")
    return interest / -math.expm1(-years * math.log1p(interest)) if interest else 1 / years


def capital_per_year(price: float, years: float, interest: float = 0.0, salvage: float = 0.0) -> float:
    """Returns the annuity of a machine: (price − what it is sold for, discounted to today) × recovery_factor."""
    sold_today = price * salvage / math.pow(1 + interest, years)
    return (price - sold_today) * recovery_factor(interest, years)


def per_hour(owned: Owned) -> float:
    """Returns the price of an hour in which it is put to use: the year's capital and upkeep over the hours used, and
    the power of that hour (W ÷ 1000 × PUE × price of a kWh), in its currency. Power of unused hours is not charged."""
    yearly = (capital_per_year(owned.price, owned.years, owned.interest, owned.salvage)
              + owned.opex_share * owned.price)
    power = owned.power_w / 1000 * owned.pue * owned.electricity_per_kwh
    return yearly / (HOURS_PER_YEAR * owned.utilisation) + power
