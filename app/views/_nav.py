"""The pages and their addresses."""

from __future__ import annotations

import streamlit as st
from streamlit.navigation.page import Page


def pages() -> list[Page]:
    """The explorer's pages in order; the first is where one lands."""
    from app.views import choose, compare, cost, curves, engines, plan, quality, runs, sql

    return [st.Page(choose.page, title="Choose", url_path="choose", default=True),
            st.Page(compare.page, title="Compare", url_path="compare"),
            st.Page(curves.page, title="Curves", url_path="curves"),
            st.Page(cost.page, title="Cost", url_path="cost"),
            st.Page(plan.page, title="Plan", url_path="plan"),
            st.Page(quality.page, title="Quality", url_path="quality"),
            st.Page(engines.page, title="Engines", url_path="engines"),
            st.Page(runs.page, title="Runs", url_path="runs"),
            st.Page(sql.page, title="SQL", url_path="sql")]


def link_to_run(trial_id: str, label: str) -> None:
    """A link to one run's page."""
    link("Runs", label, trial=trial_id)


def link_to_sql(query: str, label: str) -> None:
    """A link to a question on the SQL page."""
    link("SQL", label, q=query)


def link(title: str, label: str, **state: str) -> None:
    """A link to a page in a state."""
    st.page_link(next(p for p in pages() if p.title == title), label=label, query_params=state)
