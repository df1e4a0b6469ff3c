"""Whole instances for a load: spares for failures, idle hours of a day, a fixed fleet against one that scales.

Rates are requests a second; a capacity is what one instance serves within the limits. All of it is counting: load ÷
capacity, rounded up, as instances come whole.
"""

from __future__ import annotations

import math

from models.identity import Record
from models.planning.profile import HOURS, Profile

_ROUNDING = 1e-9
"""Relative: a load of 3 capacities is 3 instances, whatever the last bits of the division."""


class Fleet(Record):
    """A day of a fleet. `hours` are instance-hours paid a day, `busy_hours` those that the load itself takes at full
    capacity, `idle_hours` the rest; `instances` runs at the peak, `least` at the quietest hour."""

    instances: int
    least: int
    spares: int
    hours: float
    busy_hours: float
    idle_hours: float

    @property
    def utilisation(self) -> float:
        """Share of the paid instance-hours that the load takes; 0 when none are paid."""
        return self.busy_hours / self.hours if self.hours else 0.0


def instances(load_per_second: float, capacity_per_second: float) -> int:
    """Returns the whole instances for a load: ceil(load ÷ capacity), 0 for none.

    Raises ValueError when the capacity is not positive or the load is negative.
    """
    if capacity_per_second <= 0 or load_per_second < 0:
        raise ValueError("a capacity above 0 and a load of 0 or more")
    return math.ceil(load_per_second / capacity_per_second * (1 - _ROUNDING))


def with_spares(load_per_second: float, capacity_per_second: float, down: int = 1) -> int:
    """Returns the instances that stay within the limits with `down` of them down (N + k): instances() + down.

    Source: k-out-of-n redundancy. 0 for no load. Raises ValueError as instances() does, or when down is negative.
    """
    if down < 0:
        raise ValueError("instances down: 0 or more")
    needed = instances(load_per_second, capacity_per_second)
    return needed + down if needed else 0


def fixed(mean_per_second: float, capacity_per_second: float, profile: Profile, down: int = 0) -> Fleet:
    """Returns a fleet that runs day and night with enough for the busiest hour, and `down` spares.

    Raises ValueError as with_spares() does.
    """
    count = with_spares(max(profile.rates(mean_per_second)), capacity_per_second, down)
    busy = mean_per_second / capacity_per_second * HOURS
    paid = float(count * HOURS)
    return Fleet(instances=count, least=count, spares=min(down, count), hours=paid, busy_hours=busy,
                 idle_hours=max(0.0, paid - busy))


def autoscaled(mean_per_second: float, capacity_per_second: float, profile: Profile, down: int = 0,
               ready_s: float = 0.0, least: int = 1) -> Fleet:
    """Returns a fleet that has each hour what this hour needs (and `down` spares), never under `least`.

    Every instance that is added starts `ready_s` seconds ahead, which is paid and serves nobody. The day repeats: the
    hour after the last is the first. It never pays more than fixed(): where starting costs more than it saves, an
    instance is kept. Raises ValueError as with_spares() does.
    """
    each = [max(least, with_spares(rate, capacity_per_second, down)) for rate in profile.rates(mean_per_second)]
    started = sum(max(0, now - before) for before, now in zip([each[-1], *each[:-1]], each, strict=True))
    always = float(max(each) * HOURS)
    paid = min(always, sum(each) + started * ready_s / 3600)
    busy = mean_per_second / capacity_per_second * HOURS
    return Fleet(instances=max(each), least=min(each), spares=down, hours=paid, busy_hours=busy,
                 idle_hours=max(0.0, paid - busy))
