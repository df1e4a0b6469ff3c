"""What a measured setup serves within limits, what a load then costs, at each price and beside a hosted API."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import polars as pl

from app._plan_capacity import surest
from models.planning import capacity, cost
from models.planning.bill import Bill, Demand, Rate, bill
from models.planning.capacity import Impossible, Served
from models.planning.cost import HOURS_PER_MONTH, BreakEven, Request
from models.planning.points import Slots
from models.slo import Limit
from warehouse.hosted import Hosted, hosted


@dataclass(frozen=True)
class Offer:
    """A price of the machine. `label` is how the URL names it."""

    usd_per_hour: float
    tier: str
    date: str
    source: str

    @property
    def label(self) -> str:
        return f"{self.tier} {self.usd_per_hour:.6g}"


def offers(prices: pl.DataFrame) -> list[Offer]:
    """The machine's prices, the one in use first; of several alike one."""
    found = [Offer(r["price_usd_per_hour"], r["tier"], r["date"], r["source"]) for r in prices.to_dicts()]
    return list({one.label: one for one in reversed(found)}.values())[::-1]


def request(rows: pl.DataFrame) -> Request | None:
    """The mean request as it was measured; None where nothing was answered."""
    seen = rows.filter(~pl.col("fatal") & (pl.col("output_tokens_mean") > 0))
    if seen.is_empty():
        return None
    inputs, outputs = (float(seen[f"{side}_tokens_mean"].fill_null(0.0).mean() or 0.0)  # type: ignore[arg-type]
                       for side in ("input", "output"))
    cached = float(seen["cached_tokens"].fill_null(0).sum()) / max(1, int(seen["requests_ok"].sum()))
    return Request(input_tokens=inputs, output_tokens=outputs, cached_tokens=min(cached, inputs))


def served(rows: pl.DataFrame, limits: tuple[Limit, ...]) -> list[Served] | Impossible:
    """What one instance serves within the limits, by level. Raises UserError where no closed loop can be trusted."""
    points = [p for row in rows.to_dicts() if (p := capacity.load_point(row, limits))]
    return capacity.levels(points, limits, None, Slots.of(rows.row(0, named=True)))


def best(levels: list[Served]) -> Served:
    """The level that is answered from."""
    return levels[surest(levels)]


def table(levels: list[Served], demand: Demand, offer: Offer) -> pl.DataFrame:
    """Figures by levels, as `dyno plan cost` has them."""
    bills = [bill(one, demand, Rate(usd_per_hour=offer.usd_per_hour)) for one in levels]
    return pl.DataFrame([{
        "Level": b.level, "req/s an instance": b.capacity_per_second, "Low": s.low, "High": s.high,
        "Instances": b.instances, "Utilisation %": 100 * b.utilisation, "USD a month": b.usd_per_month,
        "USD per M out": b.per_million.output, "USD per M in": b.per_million.input,
        "USD per M all": b.per_million.total,
        "USD per 1000 requests": 1000 * b.usd_per_request, "How": s.how}
        for b, s in zip(bills, levels, strict=True)], infer_schema_length=None)


def by_offer(one: Served, demand: Demand, prices: list[Offer], hosted_usd: float | None) -> pl.DataFrame:
    """The same load at every price, and from which mean rate each is cheaper than the hosted API."""
    rows = []
    for offer in prices:
        made = bill(one, demand, Rate(usd_per_hour=offer.usd_per_hour))
        row = {"Price": offer.label, "USD an hour": offer.usd_per_hour, "USD a month": made.usd_per_month,
               "USD per M out": made.per_million.output, "at full load": made.full_load}
        if hosted_usd:
            even = even_of(one, demand, offer, hosted_usd)
            row |= {"cheaper from req/s": even.first, "for good from req/s": even.for_good}
        rows.append(row | {"Date": offer.date, "Source": offer.source})
    return pl.DataFrame(rows, infer_schema_length=None)


def even_of(one: Served, demand: Demand, offer: Offer, hosted_usd: float) -> BreakEven:
    """Mean rates at which own serving and the API cost the same."""
    return cost.break_even(offer.usd_per_hour, one.requests_per_second / demand.profile.peak_factor, hosted_usd,
                           demand.down)


def apis(name: str, given: tuple[float | None, float | None], asked: Request) -> list[Hosted]:
    """Hosted prices: those typed in first, then of genai-prices by the model's name. Raises UserError."""
    found = []
    if given[0] is not None or given[1] is not None:
        inputs, outputs = (value or 0.0 for value in given)
        found.append(Hosted(provider="the price typed in", model="", usd_per_million_input=inputs,
                            usd_per_million_output=outputs, source="typed in",
                            usd_per_request=(inputs * asked.input_tokens + outputs * asked.output_tokens) / 1e6))
    if name:
        found += hosted(name, asked, dt.datetime.now(dt.UTC))
    return [h for h in found if h.usd_per_request > 0]


def monthly(one: Hosted, demand: Demand) -> float:
    """What the API asks for the load of a month, USD."""
    return one.usd_per_request * demand.mean_per_second * 3600 * HOURS_PER_MONTH


def staircase(one: Served, demand: Demand, prices: list[Offer], top: float, steps: int = 160) -> list[dict[str, Any]]:
    """Own cost a month over mean rates up to `top`."""
    rows = []
    for offer in prices:
        for i in range(1, steps + 1):
            asked = demand.model_copy(update={"mean_per_second": top * i / steps})
            made: Bill = bill(one, asked, Rate(usd_per_hour=offer.usd_per_hour))
            rows.append({"rate": asked.mean_per_second, "usd": made.usd_per_month, "who": f"own: {offer.label}",
                         "instances": made.instances})
    return rows
