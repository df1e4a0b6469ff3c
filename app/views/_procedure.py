"""The survey's selection procedure, step by step, beside what measurement says."""

from __future__ import annotations

import polars as pl
import streamlit as st

from app.views import _frame, _nav, _style
from models.choosing.answer import Answer
from models.choosing.evidence import Evidence
from models.choosing.procedure import procedure
from models.choosing.survey import NAMES

MARKS = {True: "✗ disagrees", False: "✓ agrees", None: "– open"}


def draw(answer: Answer, evidence: Evidence) -> None:
    """Draws the six steps."""
    steps = procedure(answer, evidence)
    against = sum(step.disagrees is True for step in steps)
    with st.expander("The survey's rules beside what was measured: " + (
            f"{_style.count(against, 'step')} of {len(steps)} disagree" if against else "no step disagrees")):
        for number, step in enumerate(steps, 1):
            colour = {True: "orange", False: "green", None: "gray"}[step.disagrees]
            st.markdown(f"**{number} · {step.name}** ({step.asked}) :{colour}-badge[{MARKS[step.disagrees]}]  \n"
                        f"Rule: {step.rule}.  \nMeasured: {step.measured}.")
        rows = [{"Step": s.name, "Asked": s.asked, "Rule": s.rule,
                 "Engines": ", ".join(NAMES.get(e, e) for e in s.engines), "Measured": s.measured,
                 "Verdict": MARKS[s.disagrees], "Trials": " ".join(s.trial_ids)} for s in steps]
        with st.container(horizontal=True):
            _nav.link("Engines", "Every claim of the survey")
            st.space("stretch")
            _frame.download(pl.DataFrame(rows), "procedure")
