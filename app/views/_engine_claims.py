"""The survey's feature table, each claim beside what engines were seen to do."""

from __future__ import annotations

import html

import polars as pl
import streamlit as st

from app.views import _data, _frame, _nav, _style
from models.choosing import survey
from models.choosing.survey import Cell

MARKS = {"agrees": ("✓ agrees", "#009E73"), "disagrees": ("✗ disagrees", "#D55E00"),
         "not observed": ("– open", "#8c8c8c")}
STYLE = """
table.claims {border-collapse: collapse; font-size: .88rem; table-layout: fixed; min-width: 760px; width: 100%}
table.claims th {font-weight: 600; text-align: left; padding: .3rem .7rem .3rem 0; vertical-align: bottom}
table.claims td {padding: .4rem .7rem .4rem 0; border-top: 1px solid rgba(128,128,128,.25); vertical-align: top}
table.claims small {opacity: .75; display: block; margin-top: .2rem} table.claims b {font-size: .8rem}
div.claims {overflow-x: auto}"""


def draw() -> None:
    """Draws the table: features by engines."""
    cells = survey.table(_data.evidence(None))
    seen = [c for c in cells if c.verdict != "not observed"]
    against = sum(c.verdict == "disagrees" for c in seen)
    st.markdown(f"Of {_style.count(len(cells), 'claim')}, {len(seen)} can be held against measurements here; "
                f"**{against} disagree**." if seen else "No claim could be held against a measurement here yet.")
    engines = list(dict.fromkeys(c.engine for c in cells))
    head = "".join(f"<th>{html.escape(survey.NAMES.get(e, e))}</th>" for e in engines)
    by_place = {(c.feature, c.engine): c for c in cells}
    rows = "".join(f"<tr><td>{html.escape(feature)}</td>" + "".join(_cell(by_place.get((feature, e))) for e in engines)
                   + "</tr>" for feature in dict.fromkeys(c.feature for c in cells))
    st.html(f"<style>{STYLE}</style><div class='claims'><table class='claims'><tr><th></th>{head}</tr>{rows}</table>"
            "</div>")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"Claims: {survey.said()['source']}. Below each: what was seen.")
        st.space("stretch")
        _frame.download(pl.DataFrame([c.model_dump() | {"trial_ids": " ".join(c.trial_ids)} for c in cells]), "claims")
    shown = [(c, t) for c in seen for t in c.trial_ids[:1]]
    if shown:
        with st.container(horizontal=True):
            for cell, trial in shown[:8]:
                _nav.link_to_run(trial, f"{survey.NAMES.get(cell.engine, cell.engine)}, {cell.feature}: {trial[:8]}")


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "<td></td>"
    text, colour = MARKS[cell.verdict]
    seen = f"<small>{html.escape(cell.observed)}</small>" if cell.observed else ""
    return f"<td>{html.escape(cell.claim)}<br><b style='color:{colour}'>{text}</b>{seen}</td>"
