"""How the explorer looks: one colour an engine, the same everywhere; digits and units as in the command."""

from __future__ import annotations

import re
from collections.abc import Iterable

import altair as alt

from app._render import number
from models.shown import COLOURS as COLOURS
from models.shown import LATENCIES
from models.shown import OTHERS as OTHERS
from models.shown import PHASES as PHASES
from models.shown import colour as colour

UNITS = LATENCIES
MUTED = "#8c8c8c"

TITLES = {
    "requests_per_second": "Requests/s", "output_tokens_per_second": "Output tok/s",
    "input_tokens_per_second": "Input tok/s", "input_tokens": "Input tokens in all",
    "output_tokens": "Output tokens in all", "cached_tokens": "Input tokens from the prefix cache",
    "input_tokens_mean": "Input tokens a request", "output_tokens_mean": "Output tokens a request",
    "input_tokens_planned_mean": "Input tokens a request, planned",
    "output_tokens_planned_mean": "Output tokens a request, planned",
    "chunks_per_output_token": "Chunks an output token", "output_valid_share": "Answers that obey their schema, share",
    "joules_per_output_token": "Joules an output token", "joules_per_request": "Joules a request",
    "power_watts_mean": "Power, mean W",
    "kl_nats": "KL divergence, nats", "top1_agreement": "Same likeliest token, share",
    "usd_per_million_output_tokens": "USD per M output tokens", "usd_per_qps_hour": "USD per QPS-hour",
}
"""All else that a chart or a table may show."""


def colours(engines: Iterable[str]) -> alt.Scale:
    """A colour scale over the engines shown."""
    domain = sorted(set(engines))
    return alt.Scale(domain=domain, range=[colour(e) for e in domain])


def title(column: str) -> str:
    """`ttft_from_schedule_ms_p95` → `TTFT p95 ms`."""
    metric, _, statistic = column.rpartition("_")
    return f"{UNITS[metric]} {statistic} ms" if metric in UNITS else TITLES.get(column, column)


def shown(value: object) -> str:
    """A number with three significant digits, zeros at the end included; a dash for none (also pandas' kind)."""
    if value is None or (isinstance(value, float) and value != value):
        return "—"
    if isinstance(value, float) and 1e-3 <= abs(value) < 100:
        return f"{value:#.3g}"
    return number(value)


def axis(ticks: int = 6) -> alt.Axis:
    """A quantitative axis whose labels set thousands apart as the tables do."""
    return alt.Axis(tickCount=ticks, labelExpr="replace(datum.label, /,/g, '\u202f')")


def names() -> alt.Axis:
    """An axis of names, cut so that they leave room for the marks on a phone, too."""
    return alt.Axis(labelLimit=alt.ExprRef("containerSize()[0] < 420 ? 150 : 260"), labelFontSize=12,
                    ticks=False, domain=False, labelPadding=6)


def count(number_of: int, one: str, more: str = "") -> str:
    """`1 launch`, `2 launches`."""
    return f"{shown(number_of)} {one if number_of == 1 else more or one + 's'}"


def by_size(formats: Iterable[str]) -> list[str]:
    """Quantisations from more to fewer bits, as far as their names tell; unknown ones last."""
    def bits(name: str) -> float:
        found = re.search(r"(\d+)", name)
        return -float(found[1]) if found else 0.0

    return sorted(set(formats), key=lambda n: (bits(n), n))
