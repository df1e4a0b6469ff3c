"""What `dyno plan cost` answers."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app import _plan_cost_table, _plan_price, _stack
from app._plan_capacity import one_of, surest
from models import currency as currencies
from models import slo
from models.currency import ExchangeRate
from models.errors import UserError
from models.planning import cost, footprint
from models.planning.bill import Bill, Demand, Rate, bill
from models.planning.capacity import Impossible, Served
from models.planning.cost import HOURS_PER_MONTH, Request
from models.planning.profile import parse
from models.planning.spot import Spot
from models.specs import Price
from warehouse import pricelist
from warehouse.hosted import Hosted, hosted

Options = Mapping[str, Any]
RESTART_S = 180.0
"""Of a spot instance where neither --ready-seconds nor a measurement says it: a machine to boot, weights to load."""


def show(home: Path, which: str | None, options: Options, as_json: bool) -> None:
    """Prints the plan. Raises UserError for a question that is not complete, or an SLO that nothing keeps."""
    money = currencies.rate(options["currency"], pricelist.own_file(home).rates)
    given = options["capacity"] or options["throughput"]
    one_of(which, given)
    stack = _stack.find(home, which, options["workload"]) if which is not None else None
    demand = _demand(options, stack)
    levels = _levels(options, stack, demand.request)
    price = _plan_price.priced(home, options, money, stack.hardware if stack else None)
    rate = Rate(usd_per_hour=price.price_usd_per_hour,
                storage_usd_per_month=money.to_usd(options["storage_gib"] * options["storage_price"]))
    try:
        bills = [bill(one, demand, rate) for one in levels]
    except ValueError as error:
        raise UserError(f"--spot-interruptions, --spot-lost-seconds: {error}") from None
    best = bills[surest(levels)]
    plan = {"stack": stack.label if stack else "given", "demand": demand, "levels": levels, "bills": bills,
            "best": best, "price": price, "money": money, "hosted": _hosted(options, demand, best, price, money),
            "footprint": _footprint(options, stack, demand, best)}
    _plan_cost_table.emit_json(plan) if as_json else _plan_cost_table.echo(plan)


def _demand(options: Options, stack: _stack.Stack | None) -> Demand:
    measured = stack.request if stack else None
    tokens = {name: options[name] if options[name] is not None else getattr(measured, name, None)
              for name in ("input_tokens", "output_tokens", "cached_tokens")}
    if tokens["input_tokens"] is None or tokens["output_tokens"] is None:
        raise UserError("--input-tokens and --output-tokens: the mean request is not known without a measured STACK")
    request = Request(input_tokens=tokens["input_tokens"], output_tokens=tokens["output_tokens"],
                      cached_tokens=tokens["cached_tokens"] or 0.0)
    if request.cached_tokens > request.input_tokens:
        raise UserError("--cached-tokens: more are cached than put in")
    ready = options["ready_seconds"]
    if ready is None and stack:
        ready = max(r["ready_s"] or 0.0 for r in stack.rows)
    spot = None
    if options["spot_interruptions"] is not None:
        spot = Spot(rate_per_hour=options["spot_interruptions"], restart_s=RESTART_S if ready is None else ready,
                    lost_s=options["spot_lost_seconds"])
    alone = stack.alone if stack else None
    return Demand(mean_per_second=_rate(options, request), profile=parse(options["profile"]), request=request,
                  down=options["down"], autoscale=options["autoscale"], ready_s=ready or 0.0, spot=spot,
                  alone=(alone.ttft_ms / 1e3, (alone.e2e_ms - alone.ttft_ms) / 1e3) if alone else None)


def _rate(options: Options, request: Request) -> float:
    """Requests a second, mean of the day."""
    ways = {"rate": 1.0, "requests_per_day": 1 / 86_400, "tokens_per_day": 1 / 86_400 / request.output_tokens}
    said = [name for name in ways if options[name] is not None]
    if len(said) != 1:
        raise UserError("say the load once: --rate (requests a second), --requests-per-day or --tokens-per-day")
    return float(options[said[0]]) * ways[said[0]]


def _levels(options: Options, stack: _stack.Stack | None, request: Request) -> list[Served]:
    if stack is None:
        each = options["capacity"] or options["throughput"] / request.output_tokens
        return [Served(level=level, requests_per_second=each, concurrency=0, how="as given")
                for level in ("rough", "given")]
    if stack.trial is None and options["slo"] is None:
        raise UserError(f"--slo: {stack.label} is a setup: say within which limits it serves, or name a trial")
    found = stack.levels(slo.parse(options["slo"]) if options["slo"] and stack.trial is None else ())
    if isinstance(found, Impossible):
        nearest = " and ".join(f"{x.metric}<={x.at_most:g}" for x in found.nearest)
        raise UserError(f"--slo: {found.reason}. The nearest that is kept: {nearest}")
    return found


def _hosted(options: Options, demand: Demand, best: Bill, price: Price, money: ExchangeRate) -> list[dict[str, Any]]:
    """Hosted APIs, the cheapest first, each with the mean rates from which own serving is cheaper."""
    request, offers = demand.request, list[Hosted]()
    if options["hosted"]:
        offers += hosted(options["hosted"], request, dt.datetime.now(dt.UTC), options["hosted_provider"])
    if options["hosted_price"]:
        inputs, outputs = (money.to_usd(p) for p in options["hosted_price"])
        offers.append(Hosted(provider="given", model=options["hosted"] or "", usd_per_million_input=inputs,
                             usd_per_million_output=outputs, source="--hosted-price",
                             usd_per_request=(inputs * request.input_tokens + outputs * request.output_tokens) / 1e6))
    rows = []
    for one in sorted(offers, key=lambda h: h.usd_per_request):
        if one.usd_per_request > 0:
            even = cost.break_even(price.price_usd_per_hour, best.capacity_per_second / demand.profile.peak_factor,
                                   one.usd_per_request, demand.down)
            rows.append(one.model_dump() | {
                "usd_per_month": one.usd_per_request * demand.mean_per_second * 3600 * HOURS_PER_MONTH,
                "break_even_requests_per_second": even.first, "cheaper_for_good_requests_per_second": even.for_good,
                "break_even_output_tokens_per_day": even.first and even.first * 86_400 * request.output_tokens})
    return rows


def _footprint(options: Options, stack: _stack.Stack | None, demand: Demand, best: Bill) -> dict[str, Any] | None:
    """Energy and carbon of a month; None where power is not known."""
    if (options["gco2_per_kwh"] is None) != (options["gco2_source"] is None):
        raise UserError("--gco2-per-kwh and --gco2-source go together: a carbon intensity is never without its source")
    known = (options["power_w"], "given") if options["power_w"] else stack.power_w if stack else None
    if known is None:
        if options["gco2_per_kwh"] is not None:
            raise UserError("--power-w: carbon needs power, and that of this hardware is not known")
        return None
    watts, source = known
    energy = footprint.kwh(watts, best.hours, options["pue"])
    tokens = demand.mean_per_second * demand.request.output_tokens * 3600 * HOURS_PER_MONTH
    joules = energy * footprint.JOULES_PER_KWH / tokens
    grams = None if options["gco2_per_kwh"] is None else footprint.grams_co2(energy, options["gco2_per_kwh"])
    return {"power_w": watts, "power_source": source, "pue": options["pue"], "kwh_per_month": energy,
            "joules_per_output_token": joules, "kg_co2_per_month": grams and grams / 1000,
            "grams_co2_per_million_output_tokens": grams and grams * 1e6 / tokens,
            "gco2_per_kwh": options["gco2_per_kwh"], "gco2_source": options["gco2_source"]}
