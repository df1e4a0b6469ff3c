"""How the explorer looks: one colour an engine, the same everywhere; digits and units as in the command."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable

import altair as alt

from app._render import number

COLOURS = {
    "llama-server": "#0072B2", "llama_cpp.server": "#D55E00", "llama_cpp": "#0072B2", "vllm": "#009E73",
    "sglang": "#CC79A7", "tgi": "#E69F00",
}
"""Okabe and Ito's palette, which people with any colour vision tell apart, on light and on dark."""
OTHERS = ("#56B4E9", "#8C6BB1", "#A6761D", "#66A61E")
MUTED = "#8c8c8c"
PHASES = {"waiting in the client": "#E69F00", "to the first token": "#56B4E9", "decoding": "#0072B2"}

UNITS = {
    "ttft_from_schedule_ms": "TTFT", "ttft_ms": "TTFT (from sent)", "tpot_ms": "TPOT", "itl_ms": "ITL",
    "e2e_from_schedule_ms": "E2E", "e2e_ms": "E2E (from sent)", "first_content_ms": "First content",
    "send_delay_ms": "Send delay",
}
"""Latencies by name for people; TTFT and E2E count from the instant a request was meant to be sent."""

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


def colour(engine: str) -> str:
    """The colour of an engine's server; a new one gets a colour of its own that never changes."""
    return COLOURS.get(engine) or OTHERS[zlib.crc32(engine.encode()) % len(OTHERS)]


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
