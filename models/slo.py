"""Limits on latencies: `ttft_ms_p95<=500 tpot_ms_p95<=40`, any metric and percentile."""

from __future__ import annotations

import re
from collections.abc import Mapping

from models.errors import UserError
from models.specs import Record
from models.summary import LATENCIES, STATISTICS

_TERM = re.compile(r"([a-z0-9_]+)\s*<=?\s*([0-9.]+)$")


class Limit(Record):
    """One upper bound on one metric."""

    metric: str
    at_most: float

    def __str__(self) -> str:
        return f"{self.metric} ≤ {self.at_most:g}"


def parse(text: str) -> tuple[Limit, ...]:
    """Parses limits separated by spaces, commas or `and`. Raises UserError naming the part it cannot read."""
    limits = []
    for part in re.split(r"\s*,\s*|\s+and\s+|\s+(?=[a-z])", text.strip()):
        match = _TERM.match(part)
        known = {f"{m}_{s}" for m in LATENCIES for s in STATISTICS}
        if not match or match[1] not in known:
            raise UserError(f"limit {part!r}: write METRIC_STATISTIC<=NUMBER, such as ttft_ms_p95<=500; metrics are "
                            f"{', '.join(LATENCIES)}; statistics are {', '.join(STATISTICS)}")
        limits.append(Limit(metric=match[1], at_most=float(match[2])))
    return tuple(limits)


def misses(row: Mapping[str, object], limits: tuple[Limit, ...]) -> list[str]:
    """Returns the metrics of a row that exceed their limit, or were not measured.

    TTFT and E2E are judged from the instant a request was meant to be sent: a queue in the client counts too.
    """
    missed = []
    for limit in limits:
        value = row.get(re.sub(r"^(ttft|e2e)_ms", r"\1_from_schedule_ms", limit.metric))
        if not isinstance(value, int | float) or value > limit.at_most:
            missed.append(limit.metric)
    return missed
