"""Choices that live in the URL, so that a page can be sent as a link, and that follow from page to page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import streamlit as st

URL = "url of this page"


def begin() -> None:
    """Called before a page is drawn."""
    st.session_state[URL] = {}


def finish() -> None:
    """Called after: writes the choices to the URL at once, so that they are one step of the browser's history."""
    chosen = st.session_state[URL]
    if chosen and chosen != st.query_params.to_dict():
        st.query_params.from_dict(chosen)


def wanted(key: str) -> str | None:
    """What the URL, else what this session chose before, says about a choice."""
    value = st.query_params.get(key)
    return value if value is not None else st.session_state.get(f"kept {key}")


def keep(key: str, value: object) -> None:
    """Puts a choice into the URL and keeps it for the session's other pages."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    st.session_state[f"kept {key}"] = text
    st.session_state[URL][key] = text


def choose(label: str, options: Sequence[str], key: str, default: str | None = None, text: Callable[[str], str] = str,
           note: str | None = None, width: int | Literal["stretch"] = "stretch") -> str:
    """A select box bound to the URL; with one option it only says which."""
    first = default if default is not None and default in options else options[0]
    start = wanted(key)
    index = options.index(start if start in options else first)
    value = st.selectbox(label, options, index=index, key=f"box {key}", format_func=text, help=note,
                         disabled=len(options) == 1, width=width)
    keep(key, value)
    return value


def pick(label: str, options: Sequence[str], key: str, default: str | None = None,
         text: Callable[[str], str] = str) -> str:
    """A row of buttons bound to the URL, one of them pressed; nothing is drawn where there is no choice."""
    first = default if default is not None and default in options else options[0]
    if len(options) == 1:
        return first
    start = wanted(key)
    picked = st.segmented_control(label, options, default=start if start in options else first, key=f"row {key}",
                                  format_func=text, required=True)
    value = picked or first
    keep(key, value)
    return value


def amount(label: str, key: str, default: float, step: float, note: str | None = None) -> float:
    """A positive number bound to the URL."""
    try:
        start = float(wanted(key) or default)
    except ValueError:
        start = default
    value = float(st.number_input(label, min_value=0.0, value=max(0.0, start), step=step, key=f"number {key}",
                                  format="%g", help=note) or 0.0)
    keep(key, value)
    return value
