"""Currencies: dyno reckons in US dollars; other currencies come in and go out at a rate that carries its date."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any

import yaml
from pydantic import Field

from models.errors import UserError
from models.identity import Record


class ExchangeRate(Record):
    """Units of a currency for one US dollar."""

    currency: str = Field(pattern=r"^[A-Z]{3}$", description="ISO 4217: CNY, EUR, …")
    per_usd: float = Field(gt=0)
    date: str = Field(pattern=r"^\d{4}-\d{2}(-\d{2})?$")
    source: str = Field(min_length=1)

    def from_usd(self, usd: float) -> float:
        """Returns dollars in this currency."""
        return usd * self.per_usd

    def to_usd(self, amount: float) -> float:
        """Returns an amount of this currency in dollars."""
        return amount / self.per_usd


@cache
def bundled() -> dict[str, ExchangeRate]:
    """Returns the bundled rates by currency (models/data/currencies.yaml: date and source are the file's)."""
    table: dict[str, Any] = yaml.safe_load(resources.files("models").joinpath("data/currencies.yaml").read_text())
    return {name: ExchangeRate(currency=name, per_usd=rate, date=table["date"], source=table["source"])
            for name, rate in table["per_usd"].items()}


def rate(currency: str, own: Iterable[ExchangeRate] = ()) -> ExchangeRate:
    """Returns the rate of a currency: the newest of `own` (from prices.yaml), else the bundled one.

    Raises UserError naming the known ones.
    """
    name = currency.strip().upper()
    mine = sorted((r for r in own if r.currency == name), key=lambda r: r.date)
    if mine:
        return mine[-1]
    if name not in bundled():
        raise UserError(f"currency {currency!r}: no rate is known; name one of {', '.join(bundled())}, or give it in"
                        " prices.yaml: currencies: [{currency: …, per_usd: …, date: …, source: …}]")
    return bundled()[name]
