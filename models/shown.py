"""How figures are shown, the same everywhere: digits, names with units, one colour an engine."""

from __future__ import annotations

import math
import zlib

COLOURS = {
    "llama-server": "#0072B2", "llama_cpp.server": "#D55E00", "llama_cpp": "#0072B2", "vllm": "#009E73",
    "sglang": "#CC79A7", "tgi": "#E69F00",
}
"""Okabe and Ito's palette, which people with any colour vision tell apart, on light and on dark."""
OTHERS = ("#56B4E9", "#8C6BB1", "#A6761D", "#66A61E")
PHASES = {"waiting in the client": "#E69F00", "to the first token": "#56B4E9", "decoding": "#0072B2"}
LATENCIES = {
    "ttft_from_schedule_ms": "TTFT", "ttft_ms": "TTFT (from sent)", "tpot_ms": "TPOT", "itl_ms": "ITL",
    "e2e_from_schedule_ms": "E2E", "e2e_ms": "E2E (from sent)", "first_content_ms": "First content",
    "send_delay_ms": "Send delay",
}
"""By name for people; TTFT and E2E count from the instant a request was meant to be sent."""


def colour(engine: str) -> str:
    """The colour of an engine's server; a new one gets a colour of its own that never changes."""
    return COLOURS.get(engine) or OTHERS[zlib.crc32(engine.encode()) % len(OTHERS)]


def figure(value: object) -> str:
    """A number with three significant digits, thousands set apart; a dash for none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "—"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return f"{value:#.3g}" if abs(value) >= 1e-3 else f"{value:.2g}"


def within(value: object, low: object, high: object) -> str:
    """`118 (110–131)`: a figure and its interval, where it has one; `118 (≥ 110)` where one bound is not known."""
    if low is None and high is None:
        return figure(value)
    if low is None or high is None:
        return f"{figure(value)} ({'≥' if high is None else '≤'} {figure(low if high is None else high)})"
    return f"{figure(value)} ({figure(low)}–{figure(high)})"
