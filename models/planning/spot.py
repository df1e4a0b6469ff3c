"""Instances that may be taken away (spot): what interruptions cost in work and restarts, and how many more it takes.

An instance runs for 1/rate hours on average, loses the work in hand, and is back after its restart (an alternating
renewal process; Barlow and Proschan, Mathematical Theory of Reliability, 1965, chapter 3). Restarts are paid for.
"""

from __future__ import annotations

from models.identity import Record


class Spot(Record):
    """What is known of the interruptions. rate_per_hour: of one instance; restart_s: gone to serving again; lost_s:
    seconds of work thrown away each time (half a response's time, where answers are begun again)."""

    rate_per_hour: float
    restart_s: float
    lost_s: float = 0.0


def up_share(spot: Spot) -> float:
    """Returns the share of time in which an instance serves: 1 ÷ (1 + rate × restart), rate and restart in hours."""
    return 1 / (1 + spot.rate_per_hour * spot.restart_s / 3600)


def useful_share(spot: Spot) -> float:
    """Returns the share of paid time whose work counts: (1 − rate × lost) ÷ (1 + rate × restart), in hours; 0 when each
    run is lost before it yields anything."""
    return max(0.0, 1 - spot.rate_per_hour * spot.lost_s / 3600) * up_share(spot)


def usd_per_useful_hour(price_usd_per_hour: float, spot: Spot) -> float:
    """Returns what an hour of work that counts costs: price ÷ useful_share. ValueError when nothing is useful."""
    share = useful_share(spot)
    if share <= 0:
        raise ValueError("at this rate of interruptions every run is lost before it yields anything")
    return price_usd_per_hour / share


def instances(needed: int, spot: Spot, promise: float = 0.99) -> int:
    """Returns the fewest instances of which `needed` are up with a chance of at least `promise`.

    Each is up independently with up_share (binomial); the work lost is made up for by needed ÷ (1 − rate × lost).
    Interruptions of a whole zone at once are not covered by any number of them. Raises ValueError when the promise is
    not between 0 and 1 or when nothing is useful.
    """
    from scipy.stats import binom  # half a second to import

    if not 0 < promise < 1:
        raise ValueError("a promise between 0 and 1")
    if needed <= 0:
        return 0
    kept = 1 - spot.rate_per_hour * spot.lost_s / 3600
    if kept <= 0:
        raise ValueError("at this rate of interruptions every run is lost before it yields anything")
    wanted = count = -int(-(needed / kept * (1 - 1e-9)) // 1)
    up = up_share(spot)
    while binom.sf(wanted - 1, count, up) < promise:
        count += 1
    return count
