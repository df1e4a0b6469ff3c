"""Tables: sensible digits, best values marked, rows greyed, and every one of them downloadable."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import polars as pl
import streamlit as st

from app.views._style import MUTED, shown

BEST_STYLE = "font-weight: 700; background-color: rgba(0, 158, 115, 0.20)"
WIDTHS = {"Trust": 190, "Limits": 110, "Quantisation": 100}
MUTED_STYLE = f"color: {MUTED}"


def table(frame: pl.DataFrame, key: str, muted: Sequence[bool] | None = None, lower: Sequence[str] = (),
          higher: Sequence[str] = (), among: Sequence[bool] | None = None, select: bool = True,
          selected: int | None = None, height: int | Literal["content", "auto"] = "content",
          faint: Mapping[str, Sequence[bool]] | None = None) -> int | None:
    """Draws a table and returns the row selected in it, at first `selected`.

    `lower` and `higher` name the columns whose best value is marked, among the rows of `among`. `faint` says which
    cells of a column are greyed.
    """
    style = _styled(frame, muted, lower, higher, among, faint or {})
    config = {c: st.column_config.TextColumn(width=w) for c, w in WIDTHS.items() if c in frame.columns}
    if not select:
        st.dataframe(style, hide_index=True, key=f"table {key}", height=height, column_config=config,
                     placeholder="—")
        return None
    event = st.dataframe(style, hide_index=True, key=f"table {key}", height=height, column_config=config,
                         on_select="rerun", selection_mode="single-row", placeholder="—",
                         selection_default={"selection": {"rows": [] if selected is None else [selected]}})
    rows = event.selection.rows
    return int(rows[0]) if rows and rows[0] < frame.height else None


def _styled(frame: pl.DataFrame, muted: Sequence[bool] | None, lower: Sequence[str], higher: Sequence[str],
            among: Sequence[bool] | None, faint: Mapping[str, Sequence[bool]]) -> Any:
    """The frame with its digits, greys and best values; pandas' Styler is what Streamlit's tables understand. Words
    alone stay as they are: a Styler takes a second a few thousand rows."""
    numeric = [c for c in frame.columns if frame.schema[c].is_numeric()]
    if not (numeric or muted or faint):
        return frame
    data = frame.to_pandas()
    style = data.style.format(shown, subset=numeric)
    if muted is not None:
        style = style.apply(lambda row: [MUTED_STYLE if muted[int(str(row.name))] else ""] * len(row), axis=1)
    candidates = list(among) if among is not None else [True] * frame.height
    for column in (*lower, *higher):
        style = style.apply(_best, subset=[column], candidates=candidates, low=column in lower)
    for column, cells in faint.items():
        style = style.apply(lambda _, grey=cells: [MUTED_STYLE if g else "" for g in grey], subset=[column])
    return style


def _best(values: Any, candidates: list[bool], low: bool) -> list[str]:
    fit = [v for v, ok in zip(values, candidates, strict=True) if ok and v == v]
    if len(fit) < 2:
        return [""] * len(values)
    best = min(fit) if low else max(fit)
    return [BEST_STYLE if ok and v == best else "" for v, ok in zip(values, candidates, strict=True)]


def typical(rows: pl.DataFrame) -> pl.DataFrame:
    """One row a setup and load: of several repeats the one of median throughput, a real trial."""
    keys = ["setup_id", "workload_id", "load"]
    ranked = rows.sort("output_tokens_per_second", nulls_last=True).with_columns(
        repeats=pl.len().over(keys), place=pl.int_range(pl.len()).over(keys))
    return ranked.filter(pl.col("place") == (pl.col("repeats") - 1) // 2).drop("place")


def download(frame: pl.DataFrame | Callable[[], pl.DataFrame], name: str, parquet: bool = False, label: str = "CSV",
             ) -> None:
    """Buttons that download a frame whole, not only what is shown; made when it is asked for."""
    made = frame if callable(frame) else lambda: frame
    st.download_button(label, lambda: _csv(made()), f"dyno-{name}.csv", "text/csv", key=f"csv {name}", type="tertiary",
                       on_click="ignore", help="download the data shown here, every column")
    if parquet:
        st.download_button("Parquet", lambda: _parquet(made()), f"dyno-{name}.parquet", "application/octet-stream",
                           key=f"parquet {name}", type="tertiary", on_click="ignore")


def _csv(frame: pl.DataFrame) -> str:
    return frame.with_columns(pl.col(c).cast(pl.List(pl.String)).list.join(" ") for c, t in frame.schema.items()
                              if isinstance(t, pl.List)).write_csv()


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()
