"""A month's bill: a load over its days, the fleet that serves it, what that costs and by what measure.

Money is US dollars, a month 730 hours. The rough bill is the survey's formula on the mean load; the others pay for
whole instances over the whole day.
"""

from __future__ import annotations

from pydantic import Field

from models import cost as rough
from models.identity import Record
from models.planning import cost, fleet
from models.planning import spot as spots
from models.planning.capacity import Served
from models.planning.cost import HOURS_PER_MONTH, PerMillion, Request, Split
from models.planning.fleet import Fleet
from models.planning.profile import HOURS, Profile
from models.planning.spot import Spot


class Demand(Record):
    """What is asked: requests a second on the mean, how they spread over a day, what one is; and how it is served.

    alone: seconds to the first token and from there to the last of a request by itself, for the split by time.
    """

    mean_per_second: float = Field(gt=0)
    profile: Profile
    request: Request
    down: int = Field(default=0, ge=0, description="instances that may be down")
    autoscale: bool = False
    ready_s: float = Field(default=0.0, ge=0, description="that a new instance's start takes")
    spot: Spot | None = None
    alone: tuple[float, float] | None = None


class Rate(Record):
    """What an instance costs: USD an hour; and USD a month of storage, for all together."""

    usd_per_hour: float = Field(ge=0)
    storage_usd_per_month: float = Field(default=0.0, ge=0)


class Bill(Record):
    """A month by one level of formula. Hours are instance-hours a month; per_million, split and usd_per_request charge
    the whole bill, idle hours too; full_load is what a million output tokens would cost without idle hours."""

    level: str
    capacity_per_second: float
    instances: int
    hours: float
    busy_hours: float
    usd_per_month: float
    usd_per_request: float
    usd_per_qps_month: float
    per_million: PerMillion
    full_load: float
    split: Split | None

    @property
    def utilisation(self) -> float:
        """Share of the paid hours that the load takes at full capacity."""
        return self.busy_hours / self.hours if self.hours else 0.0


def bill(served: Served, demand: Demand, rate: Rate) -> Bill:
    """Returns the month by what one instance serves. Raises ValueError when that is nothing, or when interruptions
    leave nothing."""
    if served.level == "rough":
        count = max(1, fleet.instances(demand.mean_per_second, served.requests_per_second))
        busy = demand.mean_per_second / served.requests_per_second * HOURS
        day = Fleet(instances=count, least=count, spares=0, hours=count * HOURS, busy_hours=busy, idle_hours=0.0)
        usd = rough.rough_cost_usd(HOURS_PER_MONTH, rate.usd_per_hour, count, rate.storage_usd_per_month)
    else:
        day = day_of(served.requests_per_second, demand)
        usd = cost.monthly_usd(day.hours, rate.usd_per_hour, rate.storage_usd_per_month, 1.0)
    return _bill(served, demand, rate, day, usd)


def day_of(capacity_per_second: float, demand: Demand) -> Fleet:
    """Returns the fleet of a day. Where instances may be taken away, as many more run all day as spot.instances() asks
    for the busiest hour, unless the spares are more."""
    fixed = fleet.fixed(demand.mean_per_second, capacity_per_second, demand.profile, demand.down)
    day = fixed if not demand.autoscale else fleet.autoscaled(
        demand.mean_per_second, capacity_per_second, demand.profile, demand.down, demand.ready_s)
    if demand.spot is None:
        return day
    wanted = spots.instances(day.instances - demand.down, demand.spot)
    more = max(0, wanted - day.instances)
    return day.model_copy(update={"instances": day.instances + more, "least": day.least + more,
                                  "spares": demand.down + more, "hours": day.hours + more * HOURS,
                                  "idle_hours": day.idle_hours + more * HOURS})


def _bill(served: Served, demand: Demand, rate: Rate, day: Fleet, usd_per_month: float) -> Bill:
    hourly, mean, request = usd_per_month / HOURS_PER_MONTH, demand.mean_per_second, demand.request
    split = None
    if demand.alone:
        seconds = cost.machine_seconds(served.requests_per_second, *demand.alone)
        split = cost.split(hourly, mean, request, *seconds)
    days = HOURS_PER_MONTH / HOURS
    return Bill(level=served.level, capacity_per_second=served.requests_per_second, instances=day.instances,
                hours=day.hours * days, busy_hours=day.busy_hours * days, usd_per_month=usd_per_month,
                usd_per_request=cost.usd_per_request(hourly, mean),
                usd_per_qps_month=cost.usd_per_qps_month(rate.usd_per_hour, served.requests_per_second),
                per_million=cost.per_million(hourly, mean, request),
                full_load=cost.per_million(rate.usd_per_hour, served.requests_per_second, request).output, split=split)
