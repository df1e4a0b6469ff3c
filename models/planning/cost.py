"""What serving costs: per million tokens, per request, per rate, per month, and beside a hosted API.

Throughput is interpolated first and divided into cost afterwards; cost is never interpolated. Prices are US dollars
(or any one currency throughout), rates are requests a second that one instance serves within the limits.
"""

from __future__ import annotations

import math

from pydantic import Field

from models import cost as rough
from models.identity import Record

HOURS_PER_MONTH = 730.0
"""8760 ÷ 12."""


class Request(Record):
    """The mean request. cached_tokens: of its input, those that the engine takes from its prefix cache."""

    input_tokens: float = Field(ge=0)
    output_tokens: float = Field(gt=0)
    cached_tokens: float = Field(default=0.0, ge=0)


class PerMillion(Record):
    """USD per million tokens. The first three each charge the whole machine, so they do not add up. The split does:
    fresh input × prefill + cached input × 0 + output × decode = the price of a request."""

    input: float | None
    output: float
    total: float


class Split(Record):
    """USD per million tokens by what the machine spends its time on. `fresh_input` charges prefill to the input tokens
    that are not cached, None where there are none; cached ones take no prefill and cost nothing; `output` charges
    decode. The shares are of machine time."""

    fresh_input: float | None
    output: float
    prefill_share: float
    decode_share: float


class BreakEven(Record):
    """Rates in requests a second at which own serving and a hosted API cost the same: the lowest, and the one from
    which own serving stays cheaper (each further instance costs more for a while). None: the API is always cheaper."""

    first: float | None
    for_good: float | None


def usd_per_request(price_usd_per_hour: float, requests_per_second: float) -> float:
    """Returns the price of a request at a rate that one machine serves. Raises ZeroDivisionError for no rate."""
    return rough.usd_per_thousand_requests(price_usd_per_hour, requests_per_second) / 1000


def per_million(price_usd_per_hour: float, requests_per_second: float, request: Request) -> PerMillion:
    """Returns the whole machine's price over its input, output and total tokens. ZeroDivisionError for no rate."""
    def over(tokens: float) -> float:
        return rough.usd_per_million_tokens(price_usd_per_hour, requests_per_second * tokens)

    return PerMillion(input=over(request.input_tokens) if request.input_tokens else None,
                      output=over(request.output_tokens), total=over(request.input_tokens + request.output_tokens))


def split(price_usd_per_hour: float, requests_per_second: float, request: Request, prefill_s: float,
          decode_s: float) -> Split:
    """Apportions a request's price by its prefill and decode seconds (of the machine, or of any clock common to both).

    Adds up: fresh_input × (input − cached) + output × output tokens = 1e6 × usd_per_request. Where no input is fresh,
    decode bears it all. Raises ValueError when the seconds are negative or all 0, or more is cached than put in.
    """
    fresh = request.input_tokens - request.cached_tokens
    if min(prefill_s, decode_s) < 0 or prefill_s + decode_s <= 0 or fresh < 0:
        raise ValueError("prefill and decode seconds of 0 or more, not both 0; no more cached than input tokens")
    share = prefill_s / (prefill_s + decode_s) if fresh else 0.0
    whole = usd_per_request(price_usd_per_hour, requests_per_second) * 1e6
    return Split(fresh_input=whole * share / fresh if fresh else None,
                 output=whole * (1 - share) / request.output_tokens, prefill_share=share, decode_share=1 - share)


def machine_seconds(requests_per_second: float, ttft_alone_s: float, decode_alone_s: float) -> tuple[float, float]:
    """Returns (prefill, decode) seconds of machine time of a request at a measured rate, for split().

    A request takes 1 ÷ rate of the machine. Its prefill takes what it takes alone (TTFT without a queue), the rest is
    decode. Where prefills were batched, so that this leaves nothing for decode, the request's own seconds alone stand
    for both. Raises ValueError when nothing is served.
    """
    if requests_per_second <= 0:
        raise ValueError("a rate above 0 requests a second")
    whole = 1 / requests_per_second
    return (ttft_alone_s, whole - ttft_alone_s) if ttft_alone_s < whole else (ttft_alone_s, decode_alone_s)


def usd_per_qps_month(price_usd_per_hour: float, capacity_per_second: float) -> float:
    """Returns the price of one request a second kept up for a month (730 h) at an instance's capacity at the SLO."""
    return rough.usd_per_qps_hour(price_usd_per_hour, capacity_per_second) * HOURS_PER_MONTH


def monthly_usd(instance_hours_per_day: float, price_usd_per_hour: float, storage_gib: float = 0.0,
                storage_usd_per_gib_month: float = 0.0) -> float:
    """Returns hours × price + storage of a month (730 h): the survey's formula over the instance-hours really paid."""
    hours = instance_hours_per_day * HOURS_PER_MONTH / 24
    return rough.rough_cost_usd(hours, price_usd_per_hour, 1, storage_gib * storage_usd_per_gib_month)


def own_usd_per_hour(load_per_second: float, price_usd_per_hour: float, capacity_per_second: float,
                     spares: int = 0) -> float:
    """Returns what the whole instances for a steady load cost an hour, spares with them (at least one instance)."""
    from models.planning.fleet import instances

    return (max(1, instances(load_per_second, capacity_per_second)) + spares) * price_usd_per_hour


def break_even(price_usd_per_hour: float, capacity_per_second: float, hosted_usd_per_request: float,
               spares: int = 0) -> BreakEven:
    """Returns where a steady load costs the same on own instances as at a hosted API.

    n instances and s spares cost (n + s) × price an hour, the API 3600 × rate × its price; they are equal at
    (n + s) × q with q = price ÷ (3600 × the API's price), as long as n instances serve it. For a load that swings, give
    the capacity divided by the profile's peak_factor and take the rates as means. Raises ValueError for a capacity or a
    hosted price that is not positive.
    """
    if capacity_per_second <= 0 or hosted_usd_per_request <= 0:
        raise ValueError("a capacity and a hosted price above 0")
    q = price_usd_per_hour / (3600 * hosted_usd_per_request)
    gain = capacity_per_second - q
    if gain <= 0:
        return BreakEven(first=None, for_good=None)
    first = max(1, math.ceil(spares * q / gain * (1 - 1e-12)))
    last = max(first, math.ceil((spares * q + capacity_per_second) / gain * (1 - 1e-12)) - 1)
    return BreakEven(first=(first + spares) * q, for_good=(last + spares) * q)
