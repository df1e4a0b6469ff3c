"""Public serving measurements that come with aiconfigurator-core (Apache-2.0): read where they lie, never copied.

The package is only looked for, not imported. Its file holds the same measurement more than once (two exports of one
run), and some of its setups differ in ways that no column tells (speculative decoding, above all), so that repeats of
one configuration can disagree twofold: see `rows`.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

import polars as pl

from models.errors import UserError

PACKAGE = "aiconfigurator_core"
FILE = "systems/silicon_sample.csv"

_RENAMED = {
    "backend": "backend", "backend_version": "backend_version", "model_path": "model", "system": "system",
    "precision": "precision", "gemm_quant_mode": "gemm_quant_mode", "moe_quant_mode": "moe_quant_mode", "mode": "mode",
    "isl": "input_tokens", "osl": "output_tokens", "tp_size": "tensor_parallel", "attention_dp_size": "attention_dp",
    "moe_tp_size": "moe_tp", "moe_ep_size": "moe_ep",
    **{f"{part}_{theirs}": f"{part}_{ours}" for part in ("prefill", "decode") for theirs, ours in (
        ("num_workers", "workers"), ("tp_size", "tensor_parallel"), ("attention_dp_size", "attention_dp"),
        ("moe_tp_size", "moe_tp"), ("moe_ep_size", "moe_ep"))},
}
CONFIGURATION = tuple(_RENAMED.values())
"""The columns that tell one curve (setup and lengths) from another."""

SETUP = tuple(name for name in CONFIGURATION if name not in ("input_tokens", "output_tokens"))
"""The columns that tell one setup from another: curves of one setup differ in lengths only."""


def path() -> Path:
    """Returns the file of public rows. Raises UserError when the package is not installed, with the way out."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        if (Path(folder) / FILE).is_file():
            return Path(folder) / FILE
    raise UserError("public measurements: the package aiconfigurator-core is not installed;"
                    " pip install 'llm-dyno[planning]' brings it (Linux x86-64 only)")


@lru_cache(maxsize=1)
def rows() -> pl.DataFrame:
    """Returns the public rows, one a measurement, exact repeats and rows that tell no concurrency left out.

    Columns: curve_id (the same for rows that agree in all of CONFIGURATION) and setup_id (… in all of SETUP), both
    stable between runs; CONFIGURATION; gpus; concurrency (requests in flight, closed loop); measured_on (a date or
    null); ttft_ms and tpot_ms (means of a run); output_tokens_per_second of the whole deployment, by Little's law:
    concurrency × output tokens / (TTFT + (output tokens − 1) × TPOT).
    Raises UserError when the package is not installed.
    """
    read = pl.read_csv(path(), infer_schema_length=None)
    found = read.select(
        *(pl.col(theirs).alias(ours) for theirs, ours in _RENAMED.items()),
        _gpus().alias("gpus"),
        pl.col("silicon_data_source").str.extract(r"silicon_concurrency=(\d+)").cast(pl.Int64).alias("concurrency"),
        pl.col("silicon_data_source").str.extract(r"measured=(\d{4}-\d\d-\d\d)").str.to_date().alias("measured_on"),
        pl.col("silicon_ttft_ms").alias("ttft_ms"), pl.col("silicon_tpot_ms").alias("tpot_ms"))
    kept = (found.filter(pl.col("concurrency") > 0, pl.col("ttft_ms") > 0, pl.col("tpot_ms") > 0)
            .unique(maintain_order=True))
    tokens = pl.col("output_tokens")
    seconds = (pl.col("ttft_ms") + (tokens - 1) * pl.col("tpot_ms")) / 1e3
    return kept.select(
        _key(CONFIGURATION).alias("curve_id"), _key(SETUP).alias("setup_id"), pl.all(),
        (pl.col("concurrency") * tokens / seconds).alias("output_tokens_per_second"))


def _gpus() -> pl.Expr:
    """GPUs of the whole deployment: an attention group a data-parallel rank, experts over all of them. A size that is
    not told (null or 0) counts as 1. Disaggregated ones have prefill and decode workers."""
    def of(prefix: str) -> pl.Expr:
        attention, experts = ([pl.max_horizontal(pl.col(f"{prefix}{name}_size"), 1) for name in names]
                              for names in (("tp", "attention_dp"), ("moe_tp", "moe_ep")))
        return pl.max_horizontal(attention[0] * attention[1], experts[0] * experts[1])
    workers = [pl.col(f"{part}_num_workers").fill_null(1) * of(f"{part}_") for part in ("prefill", "decode")]
    return pl.when(pl.col("mode") == "disagg").then(workers[0] + workers[1]).otherwise(of(""))


def _key(columns: tuple[str, ...]) -> pl.Expr:
    return pl.concat_str([pl.col(name).cast(pl.String).fill_null("-") for name in columns], separator="|")
