"""The levels of formula against measurement: each measured load level predicted by each, none fitted on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from app._stack import reads
from models.planning import capacity, curves, memory
from models.planning.calibration import QUANTITIES
from models.planning.capacity import Bandwidth, Impossible, LoadPoint
from models.planning.cpu import bandwidth_bound_tokens_per_second
from models.planning.overheads import GIB
from models.planning.points import CurvePoint, Slots, merged, point
from models.slo import Limit
from models.specs import Architecture
from models.throughput import rough_output_tokens_per_second
from warehouse.launches import Launch

LEVELS = ("rough", "architecture", "calibrated", "measured")
SHOWN = {"throughput": "Output tok/s", "tpot": "TPOT mean ms", "ttft": "TTFT mean ms"}
PREDICTED = {"setup": pl.String, "engine": pl.String, "concurrency": pl.Float64, "quantity": pl.String,
             "level": pl.String, "predicted": pl.Float64, "low": pl.Float64, "high": pl.Float64,
             "measured": pl.Float64, "trial_id": pl.String}


def predictions(rows: pl.DataFrame, shape: Architecture | None) -> pl.DataFrame:
    """One row a level of formula and measured point of closed loops: throughput, TPOT and TTFT (means).

    rough: Little's law with the response time measured. architecture: what memory bandwidth allows, a bound.
    calibrated: the curve over the setup's other points; the least and the most measured are not predicted.
    """
    found = []
    for (setup, engine), part in rows.filter(~pl.col("fatal")).group_by("setup_shown", "engine_shown",
                                                                       maintain_order=True):
        known = {p.concurrency: (p, row) for row in part.sort("started_at").to_dicts()
                 if (p := capacity.load_point(row, ()))}
        shared = {"setup": setup, "engine": engine}
        limit = reads(part.to_dicts(), shape)
        for at, row in known.values():
            found += [shared | one for one in _rough(at, row["trial_id"], limit)]
        slots = Slots.of(part.row(0, named=True))
        found += [shared | one for one in _left_out(known, slots)]
    return pl.DataFrame(found, schema=PREDICTED)


def _rough(at: LoadPoint, trial_id: str, limit: Bandwidth | None) -> list[dict[str, Any]]:
    shared = {"concurrency": at.concurrency, "trial_id": trial_id}
    little = rough_output_tokens_per_second(at.concurrency, at.output_tokens, at.e2e_ms / 1e3)
    found = [shared | {"quantity": "throughput", "level": "rough", "predicted": little,
                       "measured": at.output_tokens_per_second}]
    if limit:
        most = bandwidth_bound_tokens_per_second(at.concurrency, limit.weight_bytes, limit.kv_bytes_per_sequence,
                                                 limit.bytes_per_s)
        found += [shared | {"quantity": "throughput", "level": "architecture", "predicted": most,
                            "measured": at.output_tokens_per_second},
                  shared | {"quantity": "tpot", "level": "architecture", "predicted": 1e3 * at.concurrency / most,
                            "measured": at.tpot_ms}]
    return found


def _left_out(known: dict[float, tuple[LoadPoint, dict[str, Any]]], slots: Slots) -> list[dict[str, Any]]:
    points = merged([point(p.concurrency, p.ttft_ms, p.tpot_ms, p.output_tokens, p.output_tokens_per_second)
                     for p, _ in known.values()])
    found = []
    for i in range(1, len(points) - 1):
        others: tuple[CurvePoint, ...] = points[:i] + points[i + 1:]
        for quantity in QUANTITIES:
            there = curves.fit_only(others, quantity, slots=slots).predict(points[i].concurrency)
            found.append({"concurrency": points[i].concurrency, "quantity": quantity, "level": "calibrated",
                          "predicted": there.value, "low": there.low, "high": there.high,
                          "measured": curves.measured(points[i], quantity),
                          "trial_id": known[points[i].concurrency][1]["trial_id"]})
    return found


def errors(found: pl.DataFrame) -> pl.DataFrame:
    """Mean and median absolute percentage error by quantity and level, and how many lie in the 90 % interval."""
    off = (pl.col("predicted") / pl.col("measured") - 1).abs()
    inside = (pl.col("measured") >= pl.col("low")) & (pl.col("measured") <= pl.col("high"))
    return found.group_by("quantity", "level").agg(
        off.mean().alias("mean"), off.median().alias("median"), inside.mean().alias("inside"), pl.len().alias("points"),
    ).sort(pl.col("quantity").replace_strict({q: i for i, q in enumerate(SHOWN)}, return_dtype=pl.Int64),
           pl.col("level").replace_strict({v: i for i, v in enumerate(LEVELS)}, return_dtype=pl.Int64))


def served(rows: pl.DataFrame, limits: tuple[Limit, ...], shape: Architecture | None,
           ) -> tuple[pl.DataFrame, list[str]]:
    """What one instance of each setup serves within limits by level, and in words what serves nothing."""
    found, refused = [], []
    for (setup, engine), part in rows.group_by("setup_shown", "engine_shown", maintain_order=True):
        each = part.to_dicts()
        points = [p for row in each if (p := capacity.load_point(row, limits))]
        if not points:
            continue
        levels = capacity.levels(points, limits, reads(each, shape), Slots.of(each[0]))
        if isinstance(levels, Impossible):
            refused.append(f"{setup}: {levels.reason}")
            continue
        found += [{"setup": setup, "engine": engine} | one.model_dump() for one in levels]
    schema = {"setup": pl.String, "engine": pl.String, "level": pl.String, "requests_per_second": pl.Float64,
              "concurrency": pl.Float64, "low": pl.Float64, "high": pl.Float64, "error": pl.Float64, "how": pl.String}
    return pl.DataFrame(found, schema=schema), refused


def of_memory(launches: Sequence[Launch]) -> pl.DataFrame:
    """Weights, cache a token and the largest concurrency by level beside what engines told, a row each."""
    rows = []
    for one in launches:
        question = one.question
        rough, plan, gpus = memory.rough(question), memory.plan(question), one.gpus
        name = f"{one.engine} {one.quantization}, {one.sequences} sequences of {one.context_tokens} tokens"
        told = one.kv_bytes / one.kv_tokens / 1024 if one.kv_bytes else None
        cells = [("weights, GiB", rough["weights_bytes"] / GIB, gpus * plan.weights_bytes / GIB,
                  one.weights_bytes / GIB if one.weights_bytes else None),
                 ("KV cache a token, KiB", rough["kv_bytes_per_token"] / 1024, gpus * plan.kv_bytes_per_token / 1024,
                  told),
                 ("beside them, GiB", None, gpus * plan.overheads.total_bytes / GIB,
                  one.overhead_bytes / GIB if one.overhead_bytes else None)]
        if one.engine != "llama_cpp":  # its cache is as large as it is told, not as there is room for
            cells.append(("requests of the context at once", rough["max_concurrency"], plan.max_concurrency,
                          one.kv_tokens / one.context_tokens))
        rows += [{"setup": name, "quantity": q, "rough": a, "architecture": b, "measured": c,
                  "rough_off": _off(a, c), "architecture_off": _off(b, c)} for q, a, b, c in cells]
    schema = {"setup": pl.String, "quantity": pl.String, **dict.fromkeys(
        ("rough", "architecture", "measured", "rough_off", "architecture_off"), pl.Float64)}
    return pl.DataFrame(rows, schema=schema)


def _off(predicted: float | None, measured: float | None) -> float | None:
    """Percent."""
    if predicted is None or not measured or not np.isfinite(predicted):
        return None
    return 100 * (predicted / measured - 1)
