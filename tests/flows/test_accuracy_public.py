"""The marks of calibrated curves on public measurements: three points fitted, the rest predicted, own model unseen."""

from __future__ import annotations

import pytest

from flows import accuracy_public, accuracy_transfer
from models.accuracy import ErrorFigure
from models.planning import curves
from models.planning.priors import CurveQuantity


def test_curves_are_counted_once_and_only_where_their_configuration_is_told() -> None:
    everything = accuracy_public.public_curves()
    known = accuracy_public.distinct(everything)
    assert len(everything) == 467
    assert 380 < len(known) < 414
    assert all(one.told and len(one.points) >= 5 for one in known)
    assert accuracy_public.family("nvidia/DeepSeek-R1-NVFP4") == accuracy_public.family("deepseek-ai/DeepSeek-V3")


@pytest.mark.parametrize(("quantity", "mape", "median"), [
    ("tpot", 0.035, 0.02), ("throughput", 0.035, 0.02), ("ttft", 0.12, 0.06)])
def test_public_curves_from_three_points(quantity: CurveQuantity, mape: float, median: float) -> None:
    known = accuracy_public.distinct(accuracy_public.public_curves())
    unseen = accuracy_public.without_own_model(known, quantity)
    ours = accuracy_public.over(known, quantity, unseen, curves.FORM, "public")
    assert ours.mape < mape
    assert ours.median_ape < median
    assert 0.85 < (ours.interval_coverage or 0) < 0.95
    best = min(accuracy_public.over(known, quantity, unseen, form, "public").mape
               for form in ("a + b·c", "a + b·c^k"))
    assert ours.mape < 1.005 * best


def test_lengths_between_calibrated_ones() -> None:
    found: list[ErrorFigure] = accuracy_transfer.figures(["tpot"])
    between, outside = found
    assert between.mape < 0.12
    assert between.mape < outside.mape
    assert 0.8 < (between.interval_coverage or 0) < 0.97
