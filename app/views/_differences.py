"""How much setups differ from one of them, and which of these differences are more than chance."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import streamlit as st

from app.views import _data, _frame, _state, _style
from models.intervals import Interval
from models.planner import COST
from models.significance import differs

METRICS = ("ttft_from_schedule_ms_p50", "ttft_from_schedule_ms_p95", "tpot_ms_p50", "tpot_ms_p95",
           "output_tokens_per_second", COST)
THROUGHPUT = "output_tokens_per_second"
Intervals = dict[str, Interval]


def draw(points: pl.DataFrame) -> None:
    """Draws the differences of each setup from the one chosen, at first the best; percent, greyed where by chance."""
    if points.height < 2:
        return
    names = dict(points.select("setup_id", "setup_shown").iter_rows())
    st.markdown("**Differences**, in percent")
    chosen = _state.choose("from", list(names), "with", text=names.__getitem__)
    frame, faint, whole = table(points, chosen, intervals(points["trial_id"].to_list()))
    _frame.table(frame, key="differences", select=False, faint=faint)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Grey: not significant, the 95 % intervals of both figures do not tell them apart (or were not "
                   "kept: few requests). A cost differs as its throughput does.")
        st.space("stretch")
        _frame.download(whole, "differences")


def intervals(trial_ids: list[str]) -> dict[str, Intervals]:
    """95 % intervals by trial and metric, as far as they were kept."""
    return {t: {m: (low, high) for m, (low, high) in json.loads(text or "{}").items()}
            for t, text in _data.intervals(trial_ids).iter_rows()}


def interval(row: dict[str, Any], metric: str, known: dict[str, Intervals]) -> Interval:
    """Of a figure of a row; a cost's is its throughput's turned about."""
    mine = known.get(row["trial_id"], {})
    if metric != COST:
        return mine.get(metric, (None, None))
    low, high = mine.get(THROUGHPUT, (None, None))
    scale = (row[COST] or 0.0) * (row[THROUGHPUT] or 0.0)
    return (scale / high if high else None), (scale / low if low else None)


def table(points: pl.DataFrame, setup_id: str, known: dict[str, Intervals],
          ) -> tuple[pl.DataFrame, dict[str, list[bool]], pl.DataFrame]:
    """The differences from a setup, which of them are greyed, and all of it with figures and intervals."""
    base = points.row(by_predicate=pl.col("setup_id") == setup_id, named=True)
    shown, whole = [], []
    faint: dict[str, list[bool]] = {_style.title(m): [] for m in METRICS}
    for row in points.to_dicts():
        cells: dict[str, Any] = {"Setup": row["setup_shown"], "Load": row["load"]}
        for metric in METRICS:
            one, other = row[metric], base[metric]
            off = 100 * (one / other - 1) if one is not None and other else None
            of_one, of_other = interval(row, metric, known), interval(base, metric, known)
            sure = None if off is None or row is base else differs(one, of_one, other, of_other)
            cells[_style.title(metric)] = off
            faint[_style.title(metric)].append(sure is not True)
            whole.append({"setup": row["setup_shown"], "load": row["load"], "metric": metric, "value": one,
                          "low": of_one[0], "high": of_one[1], "from": base["setup_shown"], "from_value": other,
                          "percent": off, "significant": sure, "trial_id": row["trial_id"]})
        shown.append(cells)
    return (pl.DataFrame(shown, infer_schema_length=None), faint,
            pl.DataFrame(whole, infer_schema_length=None, schema_overrides={"low": pl.Float64, "high": pl.Float64,
                                                                            "significant": pl.Boolean}))
