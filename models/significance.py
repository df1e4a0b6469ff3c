"""Whether two measured figures really differ, by their confidence intervals."""

from __future__ import annotations

import math

from models.intervals import Interval


def differs(one: float, of_one: Interval, other: float, of_other: Interval) -> bool | None:
    """Returns whether two independent figures differ at the level of their intervals; None where a bound that it takes
    is not known.

    The difference of two independent estimates has the half-width √(a² + b²) of theirs, so that intervals may overlap a
    little although the figures differ (Schenker and Gentleman, The American Statistician 55, 2001). Of each interval
    the half that faces the other figure counts, as intervals of percentiles are not symmetric.
    """
    (low, below), (high, above) = sorted(((one, of_one), (other, of_other)), key=lambda pair: pair[0])
    if below[1] is None or above[0] is None:
        return None
    return high - low > math.hypot(below[1] - low, high - above[0])
