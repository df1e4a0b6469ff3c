"""The pages and their addresses."""

from __future__ import annotations

import streamlit as st
from streamlit.navigation.page import Page


def pages() -> list[Page]:
    """The explorer's pages in order; the first is where one lands."""
    from app.views import compare, curves, engines, runs, sql

    return [st.Page(compare.page, title="Compare", url_path="compare", default=True),
            st.Page(curves.page, title="Curves", url_path="curves"),
            st.Page(runs.page, title="Runs", url_path="runs"),
            st.Page(sql.page, title="SQL", url_path="sql"),
            st.Page(engines.page, title="Engines", url_path="engines")]


def link_to_run(trial_id: str, label: str) -> None:
    """A link to one run's page."""
    st.page_link(pages()[2], label=label, query_params={"trial": trial_id})


def link_to_sql(query: str, label: str) -> None:
    """A link to a question on the SQL page."""
    st.page_link(pages()[3], label=label, query_params={"q": query})
