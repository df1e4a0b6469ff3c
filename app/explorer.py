"""The explorer: Streamlit pages on the published snapshot. Start it with `dyno explore`."""

from __future__ import annotations

import streamlit as st

from app.views import _data, _empty, _nav, _state
from models.errors import DynoError, WarehouseError
from warehouse import published

STYLE = """<style>
.stMainBlockContainer {padding: 4.4rem 2.2rem 2rem 2.2rem; max-width: 1500px}
[data-testid="stMetricValue"] {font-size: 1.45rem}
[data-testid="stSidebarUserContent"] {padding-top: 0}
textarea[aria-label="SQL"] {font-family: var(--st-code-font, ui-monospace, monospace); font-size: .92rem}
@media (max-width: 640px) {.stMainBlockContainer {padding-left: .8rem; padding-right: .8rem}}
</style>"""


def main() -> None:
    """Draws the page that the URL asks for; what goes wrong is said in a sentence."""
    st.set_page_config(page_title="dyno", layout="wide")
    st.html(STYLE)
    page = st.navigation(_nav.pages(), position="top")
    _data.watch()
    _state.begin()
    try:
        if published.stamp(_data.home()) is None:
            _empty.nothing_published()
            return
        page.run()
        _state.finish()
    except WarehouseError as error:
        _empty.unreadable(error)
    except DynoError as error:
        st.error(str(error))


main()
