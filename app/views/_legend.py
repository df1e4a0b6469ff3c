"""One legend for several charts: colour says the engine, the line the quantisation, the point the slots."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TypeVar
from urllib.parse import quote

import altair as alt
import polars as pl
import streamlit as st

from app.views import _style

T = TypeVar("T")
DASHES = ((1, 0), (6, 3), (2, 2), (8, 2, 2, 2), (10, 4), (1, 4))
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
GREY = "#8c8c8c"
_PATHS = {
    "circle": '<circle cx="7" cy="7" r="4.5"/>', "square": '<rect x="3" y="3" width="8" height="8"/>',
    "triangle-up": '<path d="M7 2 L12 12 L2 12 Z"/>', "diamond": '<path d="M7 1 L12 7 L7 13 L2 7 Z"/>',
    "cross": '<path d="M5 2h4v3h3v4h-3v3h-4v-3h-3v-4h3z"/>', "triangle-down": '<path d="M2 2 L12 2 L7 12 Z"/>',
}


def dashes(points: pl.DataFrame) -> alt.Scale:
    """A dash pattern for each quantisation shown, from more to fewer bits."""
    domain = _style.by_size(points["quantization"])
    return alt.Scale(domain=domain, range=[list(_cycle(DASHES, i)) for i in range(len(domain))])


def shapes(points: pl.DataFrame) -> alt.Scale:
    """A point shape for each number of slots shown."""
    domain = _slots(points)
    return alt.Scale(domain=domain, range=[_cycle(SHAPES, i) for i in range(len(domain))])


def draw(points: pl.DataFrame) -> None:
    """Draws the legend as one line of text that wraps."""
    items = [_item(f'<rect x="1" y="3" width="12" height="8" rx="2" fill="{_style.colour(e)}"/>', e)
             for e in sorted(points["engine"].unique())]
    items += [_item(f'<line x1="0" y1="7" x2="28" y2="7" stroke="{GREY}" stroke-width="2" '
                    f'stroke-dasharray="{",".join(map(str, _cycle(DASHES, i)))}"/>', q, width=28)
              for i, q in enumerate(_style.by_size(points["quantization"]))]
    items += [_item(f'<g fill="{GREY}">{_PATHS[_cycle(SHAPES, i)]}</g>',
                    "slots by default" if s == "default" else f"{s} slot{'s' if s != '1' else ''}")
              for i, s in enumerate(_slots(points))]
    st.html(f'<div style="display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;font-size:.86rem;opacity:.85">{"".join(items)}'
            "</div>")


def _slots(points: pl.DataFrame) -> list[str]:
    return sorted(points["slots"].unique(), key=lambda s: (not s.isdigit(), int(s) if s.isdigit() else 0))


def _cycle(options: Sequence[T], index: int) -> T:
    return options[index % len(options)]


def _item(drawing: str, text: str, width: int = 14) -> str:
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="14">{drawing}</svg>'
    image = f'<img alt="" style="vertical-align:-2px" src="data:image/svg+xml,{quote(svg)}">'
    return f'<span style="white-space:nowrap">{image} {html.escape(text)}</span>'
