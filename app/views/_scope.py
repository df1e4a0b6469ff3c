"""What is compared with what: one model, one workload, one machine; the rest are setups."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
import streamlit as st

from app.views import _data, _state
from models import slo

TTFT_DEFAULT_MS, TPOT_DEFAULT_MS = 500.0, 50.0
LATENCY_LIMITS = ("ttft_ms_p95", "tpot_ms_p95")


@dataclass(frozen=True)
class Scope:
    """The measurements that can be compared, and the limits they are held to."""

    rows: pl.DataFrame
    model: str
    workload: str
    hardware: str
    limits: tuple[slo.Limit, ...]

    @property
    def limit_ms(self) -> dict[str, float]:
        """The limits by column of `measurements`."""
        columns = {"ttft_ms_p95": "ttft_from_schedule_ms_p95", "tpot_ms_p95": "tpot_ms_p95"}
        return {columns[limit.metric]: limit.at_most for limit in self.limits}


def current(limits: bool = True) -> Scope | None:
    """Asks for model, workload, hardware and limits in the side bar; None where nothing was measured."""
    scopes = _data.scopes()
    if scopes.is_empty():
        return None
    with st.sidebar:
        scopes, model = _narrow(scopes, "Model", "model")
        scopes, hardware = _narrow(scopes, "Hardware", "hardware")
        scopes, workload = _narrow(scopes, "Workload", "workload", "Another scale of a workload is another workload.")
        rows = _data.measured(model, hardware).filter(pl.col("workload") == workload)
        bounds = _limits() if limits else ()
        engines = sorted(rows["engine_shown"].unique())
        formats = sorted(rows["quantization"].unique())
        if len(engines) > 1 or len(formats) > 1:
            with st.expander("Show only", expanded=any(_state.wanted(k) for k in ("engine_shown", "quantization"))):
                rows = _only(_only(rows, "engine_shown", "Engines", engines), "quantization", "Quantisations", formats)
    return Scope(rows, model, workload, hardware, bounds)


def _narrow(rows: pl.DataFrame, label: str, column: str, note: str | None = None) -> tuple[pl.DataFrame, str]:
    """Most measured first: what a visitor came for is rarely alphabetical."""
    counted = rows.group_by(column).agg(pl.col("trials").sum()).sort("trials", column, descending=[True, False])
    value = _state.choose(label, counted[column].to_list(), column, note=note)
    return rows.filter(pl.col(column) == value), value


def _limits() -> tuple[slo.Limit, ...]:
    st.caption("Limits on the 95th percentile")
    left, right = st.columns(2)
    with left:
        ttft = _state.amount("TTFT ms", "ttft", TTFT_DEFAULT_MS, 50.0, "Time to first token, from the instant a "
                             "request was meant to be sent: a queue in front of the engine counts.")
    with right:
        tpot = _state.amount("TPOT ms", "tpot", TPOT_DEFAULT_MS, 5.0, "Mean time per output token after the first.")
    return tuple(slo.Limit(metric=m, at_most=v) for m, v in zip(LATENCY_LIMITS, (ttft, tpot), strict=True))


def _only(rows: pl.DataFrame, column: str, label: str, options: list[str]) -> pl.DataFrame:
    chosen = _state.several(label, options, column)
    return rows.filter(pl.col(column).is_in(chosen)) if chosen else rows
