"""What is shown before there is anything to show."""

from __future__ import annotations

import polars as pl
import streamlit as st

from app.views import _data, _style
from models.errors import WarehouseError


def nothing_published() -> None:
    """How to get a first measurement. The page changes by itself when there is one."""
    st.header("Nothing has been measured yet")
    st.markdown(f"This explorer shows what is published in `{_data.home()}`. "
                "Measure a real engine on this machine, about 15 minutes the first time:")
    st.code("make run", language="shell")
    st.markdown("or an experiment of your own:")
    st.code("dyno evaluate my-experiment.yaml", language="shell")
    st.caption("This page changes by itself as soon as the first measurement is published.")


def unreadable(error: WarehouseError) -> None:
    """A warehouse that is damaged, another dyno's, or served and silent. The page changes by itself when it is well."""
    st.header("This warehouse cannot be read")
    st.markdown(str(error))
    if str(_data.home()).startswith("quack:"):
        return
    st.code("dyno rebuild", language="shell")
    st.caption("Everything measured lies in bundles beside it; the warehouse only repeats them. This page changes by "
               "itself as soon as a good one is published.")


def nothing_measured(failed: pl.DataFrame) -> None:
    """A warehouse without a single finished measurement."""
    st.header("No measurement has finished yet")
    if failed.is_empty():
        st.markdown("`dyno evaluate my-experiment.yaml` measures what an experiment file asks for.")
        return
    st.markdown(f"{_style.count(failed.height, 'launch', 'launches')} failed. The newest: "
                f"**{failed['setup_label'][0]}**, {failed['stage'][0]}: {failed['error'][0]}")
    st.code(failed["command"][0] or "", language="shell", wrap_lines=True)
    st.code(failed["log_tail"][0] or "", language=None)
