"""How wrong the memory formulas are: against one's own engines, and against start-up logs of vLLM given as a CSV."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from models import catalogue
from models.accuracy import ErrorFigure, figure
from models.errors import UserError
from models.memory import rough_kv_bytes
from models.planning import memory
from models.planning.kv import sequence_bytes
from models.planning.overhead_fit import Logged, left_out
from models.planning.overheads import GIB, Overheads
from models.planning.weights import weight_bytes
from models.specs import Architecture
from warehouse.launches import Launch, launches

VLLM_LOGS = "0.19.0"
_NEEDED = ("model", "tp", "max_model_len", "kv_cache_dtype", "gpu_memory_utilization", "init_total_memory_gib",
           "weights_memory_gib", "activation_memory_gib", "non_torch_forward_gib", "kv_cache_memory_gib",
           "kv_cache_tokens", "max_concurrency")
_IN_NAME = ((r"w4a16", "W4A16-INT4"), (r"w8a8", "W8A8-INT8"), (r"fp8", "FP8"), (r"awq", "AWQ-INT4"),
            (r"gptq", "GPTQ-INT4"))


def read_logs(path: Path) -> tuple[list[Logged], list[str]]:
    """Runs of a CSV with columns `_NEEDED` (GiB of one GPU), and the models whose shape is not known, left out.

    Raises UserError when it cannot be read, lacks a column, or tells of no model known here.
    """
    try:
        table = pl.read_csv(path, infer_schema_length=None)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"--vllm-logs {path}: cannot be read: {str(error).splitlines()[0]}") from error
    if missing := [c for c in _NEEDED if c not in table.columns]:
        raise UserError(f"--vllm-logs {path}: it has no column {missing[0]}; needed are {', '.join(_NEEDED)}")
    found, unknown = [], []
    for row in table.iter_rows(named=True):
        if (shape := catalogue.shape(row["model"])) is None:
            unknown.append(str(row["model"]))
        else:
            found.append(_logged(row, shape))
    if len(found) < 2:
        raise UserError(f"--vllm-logs {path}: fewer than two rows of models whose shape is known here")
    return found, unknown


def _logged(row: dict[str, Any], shape: Architecture) -> Logged:
    name = str(row["model"])
    stored = next((q for pattern, q in _IN_NAME if re.search(pattern, name.lower())), "BF16")
    return Logged(
        model=name, architecture=shape, quantization=stored, kv_type=_kv_type(str(row["kv_cache_dtype"])),
        gpus=row["tp"], context_tokens=row["max_model_len"], utilisation=row["gpu_memory_utilization"],
        memory_bytes=row["init_total_memory_gib"] * GIB, weights_bytes=row["weights_memory_gib"] * GIB,
        activation_bytes=row["activation_memory_gib"] * GIB, non_torch_bytes=row["non_torch_forward_gib"] * GIB,
        kv_bytes=row["kv_cache_memory_gib"] * GIB, kv_tokens=row["kv_cache_tokens"],
        max_concurrency=row["max_concurrency"])


def _kv_type(name: str) -> str:
    return "f16" if name == "auto" else name


def question(run: Logged, weights_bytes: float | None, overheads: Overheads) -> memory.Question:
    """What level 2 is asked about a run; weights of all its GPUs together, None: by the formula."""
    return memory.Question(
        architecture=run.architecture, engine="vllm", engine_version=VLLM_LOGS, quantization=run.quantization,
        kv_type=run.kv_type, context_tokens=run.context_tokens, gpus=run.gpus, memory_bytes=run.memory_bytes,
        utilisation=run.utilisation, weights_bytes=weights_bytes, overheads=overheads)


def of_logs(path: Path) -> list[ErrorFigure]:
    """Errors of the largest concurrency, of the cache's bytes and of the weights, on every run of the CSV."""
    runs, _ = read_logs(path)
    return figures_of(runs, f"{len(runs)} starts of vLLM ({path.name})")


def figures_of(runs: Sequence[Logged], source: str) -> list[ErrorFigure]:
    """The same of runs that were read. Raises ValueError with fewer than two architectures."""
    truth = [r.max_concurrency for r in runs]

    def asked(weights: Callable[[Logged], float | None], beside: Sequence[Overheads]) -> list[float]:
        return [memory.plan(question(r, weights(r), o)).max_concurrency for r, o in zip(runs, beside, strict=True)]

    own = [r.overheads for r in runs]
    rough = [memory.rough(question(r, None, o))["max_concurrency"] for r, o in zip(runs, own, strict=True)]
    kv = [r.kv_bytes / r.kv_tokens for r in runs]
    return [
        figure("max_concurrency", "rough", "(memory − weights) ÷ (L × D × 8)", source, rough, truth),
        figure("max_concurrency", "architecture", "pool ÷ blocks; weights and overheads from the run's own log", source,
               asked(lambda r: r.weights_bytes * r.gpus, own), truth),
        figure("max_concurrency", "architecture", "pool ÷ blocks; weights computed, overheads from the run's own log",
               source, asked(lambda r: None, own), truth),
        figure("max_concurrency", "architecture", "pool ÷ blocks; weights computed, overheads fitted on other models",
               source, asked(lambda r: None, left_out(runs)), truth),
        figure("kv_memory", "rough", "L × D × 8", source, [8.0 * r.architecture.hidden_size for r in runs], kv),
        figure("kv_memory", "architecture", "bytes a token by layer, head and type", source,
               [_per_token(r) for r in runs], kv),
        figure("weights_memory", "architecture", "real bits a weight ÷ GPUs", source,
               [weight_bytes(r.architecture, r.quantization) / r.gpus for r in runs], [r.weights_bytes for r in runs])]


def _per_token(run: Logged) -> float:
    """As vLLM counts tokens: where layers of both kinds share blocks, all of a block's layers for each."""
    paging = question(run, None, run.overheads).paging
    one = 4096 * paging.block_tokens  # many, for the one block more of a window not to count
    return sequence_bytes(run.architecture, one, run.kv_type, run.gpus, paging._replace(ahead_tokens=one)) / one


def figures(home: Path) -> list[ErrorFigure]:
    """Against what one's own engines said when they started: KV bytes (llama.cpp), tokens of the pool (vLLM), weights.

    Raises UserError when nothing that tells them was measured.
    """
    runs = launches(home)
    source = "own launches (what the engines said)"
    found = [*_kv_figures(runs, source), *_weight_figures(runs, source), *_pool_figures(runs, source)]
    if not found:
        raise UserError("no launch that told its memory is in the warehouse yet: `dyno evaluate` measures one")
    return found


def _kv_figures(runs: Sequence[Launch], source: str) -> list[ErrorFigure]:
    told = [(r, float(r.kv_bytes)) for r in runs if r.kv_bytes]
    if not told:
        return []
    truth = [size for _, size in told]
    rough = [rough_kv_bytes(1, r.kv_tokens, r.architecture.hidden_size) for r, _ in told]
    return [figure("kv_memory", "rough", "c × L × D × 8", source, rough, truth),
            figure("kv_memory", "architecture", "bytes a token by layer, head and type", source,
                   [r.predicted_kv_bytes for r, _ in told], truth)]


def _weight_figures(runs: Sequence[Launch], source: str) -> list[ErrorFigure]:
    told = [(r, float(r.weights_bytes)) for r in runs if r.weights_bytes]
    if not told:
        return []
    truth = [size for _, size in told]
    return [figure("weights_memory", "rough", "16 bits a weight", source,
                   [2.0 * r.architecture.parameters for r, _ in told], truth),
            figure("weights_memory", "architecture", "real bits a weight", source,
                   [memory.plan(r.question).weights_bytes * r.gpus for r, _ in told], truth)]


def _pool_figures(runs: Sequence[Launch], source: str) -> list[ErrorFigure]:
    """vLLM's pool, as requests of the longest context that it holds at once."""
    pools = [r for r in runs if r.engine == "vllm"]
    if not pools:
        return []
    truth = [r.kv_tokens / r.context_tokens for r in pools]
    return [figure("max_concurrency", "rough", "(memory − weights) ÷ (L × D × 8)", source,
                   [memory.rough(r.question)["max_concurrency"] for r in pools], truth),
            figure("max_concurrency", "architecture", "pool ÷ blocks", source,
                   [memory.plan(r.question).max_concurrency for r in pools], truth)]
