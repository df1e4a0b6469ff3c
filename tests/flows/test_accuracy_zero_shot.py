"""The public measurements read as settings, and the errors of zero-shot prediction on a part of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from flows import accuracy_zero_shot as accuracy
from flows import public_stacks
from models.planning import leaving_out
from models.planning.roofline import tpot_bound_ms
from models.planning.zero_shot import Measured

pytest.importorskip("aiconfigurator_core")


def row(**parallel: int | None) -> dict[str, int | None]:
    return {"tensor_parallel": 1, "attention_dp": None, "moe_tp": None, "moe_ep": None} | parallel


@pytest.mark.parametrize(("gpus", "parallel"), [
    (8, {"tensor_parallel": 8, "moe_tp": 8, "moe_ep": 1}),
    (8, {"tensor_parallel": 8, "moe_tp": 1, "moe_ep": 8}),
    (8, {"tensor_parallel": 64, "moe_tp": 8, "moe_ep": 8}),      # ids say tp8_ep8
    (8, {"attention_dp": 64, "moe_tp": 8, "moe_ep": 8}),         # the same, with attention groups
    (2, {"attention_dp": 4, "moe_tp": 2, "moe_ep": 2}),          # tp2_ep2
    (4, {"tensor_parallel": 4, "attention_dp": 4, "moe_tp": 1, "moe_ep": 16}),
    (4, {"attention_dp": 4, "moe_tp": 1, "moe_ep": 4}),
    (2, {"tensor_parallel": 2, "attention_dp": 0, "moe_tp": 0, "moe_ep": 0}),
])
def test_gpus_are_counted_once(gpus: int, parallel: dict[str, int | None]) -> None:
    assert public_stacks.width(row(**parallel)) == gpus


@pytest.fixture(scope="module")
def rows() -> Sequence[Measured]:
    return public_stacks.measured()


def test_public_rows_become_settings(rows: Sequence[Measured]) -> None:
    assert len(rows) > 2500
    assert len({one.setting.model for one in rows}) == 10  # 15 names, five of them of a shape that another has
    assert {one.setting.stack.chip.name for one in rows} == {"h100_sxm", "h200_sxm", "b200_sxm", "b300_sxm", "gb200"}
    assert {one.setting.engine for one in rows} == {"vllm", "sglang", "trtllm"}
    below = [tpot_bound_ms(s.stack, s.batch, s.input_tokens, s.output_tokens) <= one.tpot_ms
             for one in rows for s in (one.setting,)]
    assert np.mean(below) > 0.99  # and the rest ran fewer sequences at once than they were asked for


def test_the_bare_roofline_is_told_with_its_error(rows: Sequence[Measured]) -> None:
    found = accuracy.roofline(rows)
    assert (found.level, found.quantity, found.interval_coverage) == ("architecture", "tpot", None)
    assert 0.15 < found.median_ape < 0.22


def test_zero_shot_on_some_of_the_rows(rows: Sequence[Measured]) -> None:
    """A fifth of the configurations, three folds, scales of few rows; the whole study: `python -m bench.zero_shot`."""
    fifth = [one for one, fold in zip(rows, leaving_out.by_folds(rows, "curve", 5), strict=True) if fold == "fold 1"]
    left = accuracy.groups(fifth, "curve", folds=3)
    found = accuracy.zero_shot(fifth, leaving_out.leave_out(fifth, left, most_rows=150), "a configuration")
    alone = accuracy.physics(fifth, left, "a configuration")
    assert found.points == len(fifth) > 400
    assert found.median_ape < 0.11 < alone.median_ape
    assert found.interval_coverage is not None
    assert 0.82 < found.interval_coverage < 0.97
