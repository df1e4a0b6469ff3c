"""Public rows: what is read, how curves are keyed, and what is said where they are not installed."""

from __future__ import annotations

import importlib.util

import polars as pl
import pytest

from models.errors import UserError
from warehouse import public


def test_rows_are_whole_and_distinct() -> None:
    rows = public.rows()
    assert rows.height > 4000
    assert rows.select(pl.all_horizontal(pl.col("concurrency", "ttft_ms", "tpot_ms", "gpus") > 0).all()).item()
    assert not rows.is_duplicated().any()
    assert set(rows["mode"].unique()) == {"agg", "disagg"}
    assert rows["setup_id"].n_unique() < rows["curve_id"].n_unique()


def test_throughput_is_little_s_law_by_hand() -> None:
    row = public.rows().filter(pl.col("model") == "MiniMaxAI/MiniMax-M2.5", pl.col("concurrency") == 128,
                               pl.col("ttft_ms").round(3) == 972.311).row(0, named=True)
    assert (row["tpot_ms"], row["output_tokens"], row["gpus"]) == (pytest.approx(33.4429, abs=1e-4), 1024, 4)
    # 128 requests of 1024 tokens, each 0.9723 s + 1023 × 33.4429 ms = 35.1844 s: 3725.3 tokens a second.
    assert row["output_tokens_per_second"] == pytest.approx(3725.3, abs=0.1)


def test_disaggregated_gpus_are_those_of_both_sides() -> None:
    row = public.rows().filter(pl.col("model") == "moonshotai/Kimi-K2.5", pl.col("mode") == "disagg",
                               pl.col("ttft_ms").round(3) == 195.513).row(0, named=True)
    assert row["gpus"] == 1 * 1 * 4 + 4 * 8 * 1


def test_a_missing_package_is_said_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'llm-dyno\[planning\]'"):
        public.path()
