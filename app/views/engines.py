"""Engines: what each can do, what a survey claims of it and what was seen, and its versions over time."""

from __future__ import annotations

import html
import re

import polars as pl
import streamlit as st

from app.views import _data, _engine_claims, _engine_versions, _frame, _nav, _state, _style

KINDS = {"feature": "Features", "batching": "Batching", "quantization": "Quantisations", "kv_type": "KV types",
         "hardware": "Hardware", "runtime": "Runtimes"}
CLAIMS, VERSIONS = "Claims and observations", "Versions over time"
YES, NO = "✓", "–"
STYLE = """
table.can {border-collapse: collapse; font-size: .9rem}
table.can th {font-weight: 600; text-align: left; padding: .3rem .8rem .3rem 0; vertical-align: bottom}
table.can td {padding: .22rem .8rem .22rem 0; border-top: 1px solid rgba(128,128,128,.25); vertical-align: top}
table.can td.has {color: #009E73; font-weight: 700} table.can td.not {opacity: .45}
table.can small {opacity: .65}
div.can {overflow-x: auto}
@media (max-width: 640px) {table.can {font-size: .78rem} table.can small, table.can small + br {display: none}
  table.can th, table.can td {padding-right: .45rem} table.can code {font-size: .72rem; padding: 0}}"""
_BREAKS = re.compile(r"(?<=[_.-])(?=[a-z])")
"""Where the name of a server may go on in another line."""


def page() -> None:
    """Draws the page."""
    can = _data.capabilities()
    if can.is_empty():
        st.header("What the engines can do is not published yet")
        st.markdown("The next evaluation publishes it; `dyno engines` lists it now.")
        return
    _overview(can)
    kind = _state.pick("What they can do", [*KINDS.values(), CLAIMS, VERSIONS], "kind")
    if kind == CLAIMS:
        _engine_claims.draw()
        return
    if kind == VERSIONS:
        _engine_versions.draw()
        return
    _matrix(can.filter(pl.col("kind") == next(k for k, title in KINDS.items() if title == kind)))


def _overview(can: pl.DataFrame) -> None:
    """One row a server: versions, where it runs, how much it has."""
    measured = _data.measured_versions()
    rows = []
    for label in can["label"].unique(maintain_order=True):
        mine = can.filter((pl.col("label") == label) & pl.col("supported"))
        versions = measured.filter(pl.col("label") == label)
        counted = [f"{version} ({_style.count(n, 'trial')})" for _, version, n in versions.iter_rows()]
        rows.append({
            "Engine": label, "Version": mine["pinned_version"][0] or "—", "Measured": ", ".join(counted) or "never",
            "Hardware": _names(mine, "hardware"), "Runtimes": _names(mine, "runtime"),
            "Quantisations": mine.filter(pl.col("kind") == "quantization").height,
            "KV types": mine.filter(pl.col("kind") == "kv_type").height})
    frame = pl.DataFrame(rows)
    _frame.table(frame, key="engines", select=False)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Version: what dyno installs or builds when an experiment names none.")
        st.space("stretch")
        _nav.link_to_sql("from capabilities where not supported", "Ask in SQL")
        _frame.download(can, "capabilities")


def _names(mine: pl.DataFrame, kind: str) -> str:
    return " ".join(mine.filter(pl.col("kind") == kind)["name"])


def _matrix(can: pl.DataFrame) -> None:
    """Names by servers. Plain HTML: it wraps and scrolls on a phone, and a reason can be read where it belongs."""
    labels = can["label"].unique(maintain_order=True).to_list()
    has = {(r["label"], r["name"]): r for r in can.to_dicts()}
    about = {r["name"]: r["about"] for r in can.to_dicts() if r["about"]}
    head = "".join(f"<th>{_BREAKS.sub('<wbr>', html.escape(label))}</th>" for label in labels)
    lines = []
    for name in can["name"].unique(maintain_order=True):
        shown = f"<code>{html.escape(name)}</code>"
        shown += f"<br><small>{html.escape(about[name])}</small>" if name in about else ""
        cells = "".join(_cell(has.get((label, name))) for label in labels)
        lines.append(f"<tr><td>{shown}</td>{cells}</tr>")
    st.html(f"<style>{STYLE}</style><div class='can'><table class='can'><tr><th></th>{head}</tr>{''.join(lines)}"
            "</table></div>")
    _reasons(can)


def _cell(row: dict[str, object] | None) -> str:
    if not row or not row["supported"]:
        return f"<td class='not' aria-label='no'>{NO}</td>"
    partly = "<sup>*</sup>" if row["reason"] else ""
    return f"<td class='has' aria-label='yes'>{YES}{partly}</td>"


def _reasons(can: pl.DataFrame) -> None:
    why = can.filter(pl.col("reason") != "")
    if why.is_empty():
        return
    together = why.group_by("name", "reason", maintain_order=True).agg(pl.col("label").str.join(", "))
    with st.expander("Why not, or only in part", expanded=True):
        st.markdown("\n".join(f"- `{name}`, {labels}: {reason}" for name, reason, labels in together.iter_rows()))
