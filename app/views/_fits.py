"""What plans are held against: shapes, launches, predictions and calibrations; cached by snapshot."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import streamlit as st

from app.views import _data, _levels
from models.specs import Architecture
from warehouse.launches import Launch
from warehouse.launches import launches as launches_read


def shape(model: str) -> Architecture | None:
    """A model's shape, where it is known."""
    return _data.evidence(model).shape(model)


def predictions(scope: tuple[str, str, str]) -> pl.DataFrame:
    """Every level's prediction of the points of a model, machine and workload."""
    return _predictions(*_data.key(), *scope)


def launches(model: str, hardware: str) -> list[Launch]:
    """What engines told of their memory with a model on a machine."""
    return [one for one in _launches(*_data.key()) if (one.model, one.hardware.name) == (
        model, hardware)]


def calibrations() -> pl.DataFrame:
    """The newest calibration of each curve, with its model and hardware."""
    return _data.query(_CALIBRATIONS)


def surprises() -> pl.DataFrame:
    """Measurements outside the interval that was predicted for them, newest first."""
    return _data.query("select * exclude (run) from surprises order by seen_at desc")


@st.cache_data(max_entries=8, show_spinner="predicting each point without it")
def _predictions(where: str, stamp: _data.Stamp, model: str, hardware: str, workload: str) -> pl.DataFrame:
    rows = _data.measured_at(where, stamp, model, hardware).filter(pl.col("workload") == workload)
    return _levels.predictions(rows, shape(model))


@st.cache_resource(max_entries=2, show_spinner=False)
def _launches(where: str, stamp: _data.Stamp) -> list[Launch]:
    return launches_read(Path(where))


_CALIBRATIONS = """
    select m.name as model, h.name as hardware, c.* exclude (run)
    from calibrations c join setups s using (setup_id) join models m using (model_id)
    join hardware h using (hardware_id)
    qualify row_number() over (partition by c.setup_id, c.workload, c.quantity order by calibrated_at desc) = 1
    order by c.setup, c.workload, c.quantity"""
