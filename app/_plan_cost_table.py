"""The tables of `dyno plan cost`, and its JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from app import _prices
from app._render import dump, emit, number
from models.currency import ExchangeRate
from models.planning.bill import Bill
from models.planning.capacity import Served
from models.specs import Price

Plan = Mapping[str, Any]
Quantity = tuple[str, Callable[[Bill], float | None]]
SHOWN = 6
MONEY: tuple[Quantity, ...] = (
    ("a month", lambda b: b.usd_per_month),
    ("per million output tokens", lambda b: b.per_million.output),
    ("per million input tokens", lambda b: b.per_million.input),
    ("per million tokens in all", lambda b: b.per_million.total),
    ("split: million fresh input tokens", lambda b: b.split.fresh_input if b.split else None),
    ("split: million output tokens", lambda b: b.split.output if b.split else None),
    ("per thousand requests", lambda b: 1000 * b.usd_per_request),
    ("one request a second, a month at full load", lambda b: b.usd_per_qps_month),
    ("per million output tokens at full load", lambda b: b.full_load))
COUNTS: tuple[Quantity, ...] = (
    ("requests a second an instance", lambda b: b.capacity_per_second), ("instances", lambda b: b.instances),
    ("instance-hours a month", lambda b: b.hours), ("of these idle", lambda b: b.hours - b.busy_hours),
    ("utilisation %", lambda b: 100 * b.utilisation))


def emit_json(plan: Plan) -> None:
    """Prints the plan whole; money in US dollars under `usd_…`, and the currency asked for with its rate."""
    bills: Sequence[Bill] = plan["bills"]
    served: Sequence[Served] = plan["levels"]
    levels = [b.model_dump() | {"utilisation": b.utilisation, "how": s.how, "low": s.low, "high": s.high,
                                "error": s.error, "concurrency": s.concurrency,
                                "per_month": plan["money"].from_usd(b.usd_per_month)}
              for b, s in zip(bills, served, strict=True)]
    dump({"stack": plan["stack"], "demand": plan["demand"].model_dump(), "price": plan["price"].model_dump(),
          "currency": plan["money"].model_dump(), "levels": levels, "answer": plan["best"].level,
          "hosted": plan["hosted"], "footprint": plan["footprint"]})


def echo(plan: Plan) -> None:
    """Prints the levels side by side, then what they rest on."""
    money: ExchangeRate = plan["money"]
    bills: Sequence[Bill] = plan["bills"]
    _head(plan)
    rows = [{"": what, **{b.level: value(b) for b in bills}} for what, value in COUNTS]
    rows += [{"": f"{money.currency} {what}", **{b.level: v if (v := value(b)) is None else money.from_usd(v)
                                                for b in bills}} for what, value in MONEY]
    rows = [r for r in rows if any(r[b.level] is not None for b in bills)]
    emit(rows, (("", lambda r: str(r[""])), *((b.level, lambda r, name=b.level: number(r[name])) for b in bills)),
         as_json=False)
    for one in plan["levels"]:
        error = f"; {100 * one.error:.1f} % off, left out of sample" if one.error is not None else ""
        span = f"; 90 %: {number(one.low)} to {number(one.high)} requests a second" if one.low else ""
        click.echo(f"  {one.level}: {one.how}{span}{error}")
    click.echo("Prices per million input, output and all tokens each charge everything: they do not add up; the split"
               " does.")
    _hosted(plan["hosted"], money, plan["best"])
    _footprint(plan["footprint"])


def _head(plan: Plan) -> None:
    demand, money = plan["demand"], plan["money"]
    price: Price = plan["price"]
    request = demand.request
    click.echo(f"{plan['stack']}\n{number(demand.mean_per_second)} requests a second on the mean,"
               f" {number(demand.mean_per_second * demand.profile.peak_factor)} in the busiest hour"
               f" ({demand.profile.source}); {number(request.input_tokens)} tokens in,"
               f" {number(request.cached_tokens)} of them cached, {number(request.output_tokens)} out")
    click.echo(f"{money.from_usd(price.price_usd_per_hour):.4g} {money.currency} an hour ({price.tier}, {price.date},"
               f" {_prices.age_days(price.date, _prices.today())} days old: {price.source})")
    if money.currency != "USD":
        click.echo(_prices.said(money))


def _hosted(rows: Sequence[Mapping[str, Any]], money: ExchangeRate, best: Bill) -> None:
    if not rows:
        return
    click.echo(f"\nA hosted API instead (own, {best.level}: {number(money.from_usd(best.usd_per_month))}"
               f" {money.currency} a month)")
    emit(rows[:SHOWN], (
        ("provider", lambda r: str(r["provider"])), ("model", lambda r: str(r["model"])),
        (f"{money.currency} per M in", lambda r: number(money.from_usd(r["usd_per_million_input"]))),
        ("out", lambda r: number(money.from_usd(r["usd_per_million_output"]))),
        ("a month", lambda r: number(money.from_usd(r["usd_per_month"]))),
        ("own is cheaper from req/s", lambda r: number(r["break_even_requests_per_second"])),
        ("for good from", lambda r: number(r["cheaper_for_good_requests_per_second"])),
        ("M output tokens a day", lambda r: number((r["break_even_output_tokens_per_day"] or 0) / 1e6 or None)),
        ("source", lambda r: str(r["source"]))), as_json=False)
    if any(r["break_even_requests_per_second"] is None for r in rows[:SHOWN]):
        click.echo("—: the API is cheaper at any rate, even beside machines that are never idle.")


def _footprint(found: Mapping[str, Any] | None) -> None:
    if found is None:
        return
    carbon = ""
    if found["kg_co2_per_month"] is not None:
        carbon = (f"; {number(found['kg_co2_per_month'])} kg CO₂e a month,"
                  f" {number(found['grams_co2_per_million_output_tokens'])} g a million output tokens"
                  f" ({found['gco2_per_kwh']:g} g/kWh: {found['gco2_source']})")
    click.echo(f"\nEnergy: {number(found['kwh_per_month'])} kWh a month, {number(found['joules_per_output_token'])} J"
               f" an output token ({number(found['power_w'])} W an instance: {found['power_source']}; PUE"
               f" {found['pue']:g}){carbon}")
