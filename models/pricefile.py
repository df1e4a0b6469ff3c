"""A person's own prices: the file prices.yaml in DYNO_HOME, read and checked, with what is wrong and where.

    prices:
      - {hardware: H100, price_per_hour: 2.10, tier: reserved-1y, date: 2026-11-01, source: our contract, region: eu}
      - {hardware: L20, price_per_hour: 9.5, currency: CNY, tier: on-demand, date: 2026-11-01, source: quotation 4711}
      - hardware: our rack            # a machine of your own: a price is worked out of what it costs to own
        date: 2026-11-01
        source: purchase order 17
        owned: {price: 250000, years: 5, interest: 0.08, salvage: 0.1, power_w: 8000, pue: 1.3,
                electricity_per_kwh: 0.12, opex_share: 0.05, utilisation: 0.7}
    currencies:
      - {currency: CNY, per_usd: 7.05, date: 2026-11-20, source: our bank}

`hardware` names words of an accelerator's name (the price is for one of them), or a machine by its whole name.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from models import currency
from models.currency import ExchangeRate
from models.errors import UserError
from models.identity import Identifier, Record
from models.planning.ownership import Owned, per_hour
from models.specs import Price

R = TypeVar("R", bound=Record)
Date = Annotated[str, BeforeValidator(lambda v: v.isoformat() if isinstance(v, dt.date) else v),
                 Field(pattern=r"^\d{4}-\d{2}(-\d{2})?$")]


class PriceFile(Record):
    """What the file says: prices in US dollars, and exchange rates that win over the bundled ones."""

    prices: tuple[Price, ...] = ()
    rates: tuple[ExchangeRate, ...] = ()


class _Row(Record):
    hardware: Identifier
    price_per_hour: float | None = Field(default=None, ge=0)
    owned: Owned | None = None
    currency: str = "USD"
    tier: Identifier | None = None
    date: Date
    source: Identifier
    region: str | None = None
    instance: str | None = None

    @model_validator(mode="after")
    def _one_of(self) -> _Row:
        if (self.price_per_hour is None) == (self.owned is None):
            raise ValueError("give price_per_hour, or owned with what the machine costs; one of the two")
        if self.tier is None and self.owned is None:
            raise ValueError("say its tier: on-demand, spot, reserved-1y, …")
        return self

    def price(self, rates: list[ExchangeRate]) -> Price:
        rate = currency.rate(self.currency, rates)
        amount = per_hour(self.owned) if self.owned else self.price_per_hour or 0.0
        quoted: dict[str, Any] = {}
        if rate.currency != "USD":
            quoted = {"currency": rate.currency, "price_per_hour": amount, "rate_date": rate.date}
        return Price(price_usd_per_hour=rate.to_usd(amount), tier=self.tier or "owned", **quoted,
                     **self.model_dump(include={"hardware", "date", "source", "region", "instance"}))


class _Rate(ExchangeRate):
    date: Date


def parse(text: str, source: str) -> PriceFile:
    """Reads the text of a price file. Raises UserError naming the file (`source`), the field and the way out."""
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{source}: is not YAML: {' '.join(str(error).split())}") from None
    if raw is None:
        return PriceFile()
    if not isinstance(raw, dict) or (unknown := sorted(set(map(str, raw)) - {"prices", "currencies"})):
        what = f"unknown field {unknown[0]!r}" if isinstance(raw, dict) else "is a list or a word"
        raise UserError(f"{source}: {what}: write `prices:` (and `currencies:`) with a list under each")
    rates = [ExchangeRate(**_read(_Rate, row, f"{source}: currencies[{i}]").model_dump())
             for i, row in enumerate(_rows(raw, "currencies", source))]
    found = []
    for i, row in enumerate(_rows(raw, "prices", source)):
        where = f"{source}: prices[{i}]"
        read = _read(_Row, row, where)
        try:
            found.append(read.price(rates))
        except ValidationError as error:
            raise UserError(f"{where}: {_said(error)}") from None
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    return PriceFile(prices=tuple(found), rates=tuple(rates))


def _rows(raw: dict[str, Any], name: str, source: str) -> list[Any]:
    rows = raw.get(name) or []
    if not isinstance(rows, list):
        raise UserError(f"{source}: {name}: must be a list, one `- {{…}}` a line")
    return rows


def _read(kind: type[R], row: Any, where: str) -> R:
    try:
        return kind.model_validate(row)
    except ValidationError as error:
        raise UserError(f"{where}{_said(error)}") from None


def _said(error: ValidationError) -> str:
    """`.date: Field required`, of the first thing that is wrong."""
    first = error.errors()[0]
    path = "".join(f".{part}" for part in first["loc"])
    return f"{path}: {first['msg'].removeprefix('Value error, ')}"
