"""Choices that live in the URL, so that a page can be sent as a link, and that follow from page to page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import streamlit as st

URL = "url of this page"
EMPTY = "-"


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
    """Puts a choice into the URL and keeps it for the session's other pages; None and "" take it out of both."""
    if value is None or value == "":
        forget(key)
        return
    text = f"{value:g}" if isinstance(value, float) else str(value)
    st.session_state[f"kept {key}"] = text
    st.session_state[URL][key] = text


def forget(key: str) -> None:
    """Takes a choice that says nothing out of the URL again."""
    st.session_state.pop(f"kept {key}", None)
    st.session_state[URL].pop(key, None)


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


def number(label: str, key: str, step: float, default: float | None = None, note: str | None = None,
           hint: str | None = None) -> float | None:
    """A positive number that may be left empty, bound to the URL; `default` where the URL says nothing.

    Left empty against a default it is `-` in the URL, so that the link says so too.
    """
    said = wanted(key)
    try:
        start = default if said is None else None if said == EMPTY else float(said)
    except ValueError:
        start = default
    value = st.number_input(label, min_value=0.0, value=start if start is None else max(0.0, start), step=step,
                            key=f"number {key}", format="%g", help=note, placeholder=hint)
    found = float(value) if value else None
    keep(key, EMPTY if found is None and default is not None else found)
    return found


def several(label: str, options: Sequence[str], key: str, text: Callable[[str], str] = str,
            note: str | None = None) -> tuple[str, ...]:
    """Any of the options, bound to the URL as a list with semicolons."""
    said = [w for w in (wanted(key) or "").split(";") if w in options]
    picked = tuple(st.pills(label, options, selection_mode="multi", default=said, key=f"pills {key}", format_func=text,
                            help=note) or ())
    keep(key, ";".join(picked))
    return picked


def listed(label: str, options: Sequence[str], key: str, text: Callable[[str], str] = str,
           hint: str = "all") -> list[str]:
    """Any of many options, bound to the URL as a list with semicolons; those with no name in it any more are left."""
    said = [w for w in (wanted(key) or "").split(";") if w in options]
    picked = st.multiselect(label, options, default=said, key=f"list {key}", format_func=text, placeholder=hint)
    keep(key, ";".join(picked))
    return list(picked)


def words(label: str, key: str, note: str | None = None, hint: str | None = None) -> str:
    """A line of text bound to the URL."""
    value = st.text_input(label, value=wanted(key) or "", key=f"words {key}", help=note, placeholder=hint).strip()
    keep(key, value)
    return value


def flag(label: str, key: str, note: str | None = None) -> bool:
    """A switch bound to the URL."""
    value = st.toggle(label, value=wanted(key) == "yes", key=f"flag {key}", help=note)
    keep(key, "yes" if value else None)
    return value
