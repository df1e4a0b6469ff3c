"""The table of prices, and the price that a plan is computed from."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import click

from app._render import emit, field, number
from models import currency as currencies
from models.currency import ExchangeRate
from models.errors import UserError
from models.prices import names
from warehouse import pricelist
from warehouse.pricelist import StoredPrice


def today() -> dt.date:
    """By the clock, UTC."""
    return dt.datetime.now(dt.UTC).date()


def show(home: Path, hardware: str | None, tier: str | None, region: str | None, currency: str, every: bool,
         as_json: bool) -> None:
    """Prints the prices that fit. Raises UserError when none does."""
    rate = currencies.rate(currency, pricelist.own_file(home).rates)
    found = known(home, hardware, tier, region)
    rows = [_row(p, rate) for p in sorted(found if every else _newest(found), key=_order)]
    if not rows and not as_json:
        raise UserError(f"no price fits; write one into {home / pricelist.OWN}, or fetch them: dyno prices --refresh")
    unit = rate.currency
    emit(rows, (field("hardware"), ("tier", lambda r: str(r["tier"])),
                (f"{unit} an hour", lambda r: number(r["price_per_hour"])), *map(field, ("region", "instance", "date")),
                ("age days", lambda r: number(r["age_days"])), ("from", lambda r: str(r["origin"])), field("source")),
         as_json)
    if not as_json and unit != "USD":
        click.echo(said(rate))


def said(rate: ExchangeRate) -> str:
    """`1 USD = 6.65 CNY on 2026-10-30 (European Central Bank…)`"""
    return f"1 USD = {rate.per_usd:.5g} {rate.currency} on {rate.date} ({rate.source})"


def known(home: Path, hardware: str | None, tier: str | None = None, region: str | None = None) -> list[StoredPrice]:
    """Returns the prices that fit: every word of `hardware` is one of theirs, or the other way round."""
    def fits(one: StoredPrice) -> bool:
        p = one.price
        return ((hardware is None or names(hardware, p.hardware) or names(p.hardware, hardware))
                and (tier is None or p.tier.lower() == tier.lower())
                and (region is None or (p.region or "").lower().startswith(region.lower())))

    return list(filter(fits, pricelist.every(home)))


def age_days(date: str, on: dt.date) -> int:
    """Days since a price's date, or since its month began; 0 for one that is yet to come."""
    first = dt.date.fromisoformat(date if len(date) > 7 else f"{date}-01")
    return max(0, (on - first).days)


def _order(one: StoredPrice) -> tuple[Any, ...]:
    return one.price.hardware.lower(), not one.given, one.price.tier, one.price.price_usd_per_hour


def _newest(found: list[StoredPrice]) -> list[StoredPrice]:
    best: dict[tuple[Any, ...], StoredPrice] = {}
    for one in found:
        p = one.price
        key = (p.hardware.lower(), p.tier, p.source, None if one.origin == "fetched" else p.region, one.given)
        if key not in best or (p.date, one.stored_at) > (best[key].price.date, best[key].stored_at):
            best[key] = one
    return list(best.values())


def _row(one: StoredPrice, rate: ExchangeRate) -> dict[str, Any]:
    p = one.price
    shown = p.price_per_hour if p.currency == rate.currency else rate.from_usd(p.price_usd_per_hour)
    at = p.rate_date if p.currency == rate.currency else rate.date
    return {"hardware": p.hardware, "tier": p.tier, "price_per_hour": shown, "currency": rate.currency,
            "rate_date": at if rate.currency != "USD" else None,
            "price_usd_per_hour": p.price_usd_per_hour, "region": p.region, "instance": p.instance, "date": p.date,
            "age_days": age_days(p.date, today()), "origin": one.origin, "source": p.source}
