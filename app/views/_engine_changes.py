"""What got slower or faster since it was measured last, as each evaluation found it."""

from __future__ import annotations

from typing import Any

import polars as pl
import streamlit as st

from app.views import _data, _frame, _nav, _style
from models.shown import LATENCIES

SHOWN = 30


def draw() -> None:
    """Draws the newest changes, or that there were none."""
    if "changes" not in _data.schema()["name"]:  # an older snapshot
        return
    found = _data.query("from changes")
    if found.is_empty():
        return
    changed = found.filter(pl.col("verdict").is_in(["slower", "faster"]))
    if changed.is_empty():
        last = found.row(0, named=True)
        st.success(f"Nothing changed beyond noise. Compared last on {last['compared_at']:%Y-%m-%d}: {last['engine']} "
                   f"{last['before']} with {last['after']}.")
        return
    _frame.table(pl.DataFrame([_row(r) for r in changed.head(SHOWN).to_dicts()]), key="changes", select=False)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Longer by: mean time of a request, compared twin by twin with the last measurement of the same "
                   "setup under the same load; 95 % interval. By chance: corrected for everything compared at once."
                   + (f" The newest {SHOWN} of {changed.height}." if changed.height > SHOWN else ""))
        st.space("stretch")
        _nav.link_to_sql("from changes", "Ask in SQL")
        _frame.download(found, "changes")


def _row(one: dict[str, Any]) -> dict[str, Any]:
    point = " · ".join(str(one[name]) for name in ("setup", "workload", "load"))
    return {"": "▲ slower" if one["verdict"] == "slower" else "▼ faster", "Engine": one["engine"],
            "Before": one["before"], "After": one["after"], "Figure": LATENCIES.get(one["figure"], one["figure"]),
            "Longer by %": f"{one['percent']:+.1f} ({one['low']:+.1f} to {one['high']:+.1f})",
            "Where": point if one["setup"] else f"all {one['points']} points", "By chance": _style.shown(one["chance"]),
            "Model": one["model"], "Hardware": one["hardware"], "Also changed": ", ".join(one["caveats"]) or None}
