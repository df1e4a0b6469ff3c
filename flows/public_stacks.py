"""The public serving measurements as settings of the planning models: aggregated serving, one row a measurement."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from models import catalogue
from models.architectures import from_config
from models.errors import UserError
from models.hardware import Accelerator, accelerator
from models.planning.roofline import Chip, Stack
from models.planning.terms import Setting
from models.planning.zero_shot import Measured
from models.specs import Architecture
from warehouse import public

MOST_GPUS = 8
"""Of a server of these systems; rows with more are disaggregated deployments of GB200 racks, filed as aggregated ones
(their concurrency reaches 8 192, and their `tensor parallel` 72)."""

WEIGHT_BYTES = {"bf16": 2.0, "fp8": 1.0, "fp4": 4.5 / 8, "int4": 4.5 / 8}
"""Of one weight with its scales: NVFP4 has 8 bits for 16 weights, int4 (compressed-tensors) 16 bits for 32."""
_COMPUTE = {"bf16": "bf16", "fp8": "fp8", "fp4": "fp4", "int4": "bf16"}


def measured() -> tuple[Measured, ...]:
    """Every aggregated row that can be understood, repeats of one run under two names left out.

    Raises UserError when aiconfigurator-core is not installed.
    """
    return tuple(one for _, one in pairs())


@lru_cache(maxsize=1)
def pairs() -> tuple[tuple[dict[str, Any], Measured], ...]:
    """The same, each with its row as the file has it (warehouse.public.rows)."""
    found: dict[tuple[object, ...], tuple[dict[str, Any], Measured]] = {}
    for row in public.rows().filter(mode="agg").iter_rows(named=True):
        chips = width(row)
        if chips <= MOST_GPUS:
            one = Measured(setting=_setting(row, chips), tpot_ms=row["tpot_ms"], ttft_ms=row["ttft_ms"])
            key = (one.setting.labels["curve"], one.setting.concurrency, one.tpot_ms, one.ttft_ms)
            found.setdefault(key, (row, one))
    return tuple(found.values())


def width(row: dict[str, Any]) -> int:
    """GPUs of an aggregated row.

    Where experts are split both ways, or attention groups and expert parallelism go together, the file states the
    product of two numbers that count the same GPUs (`tp8_ep8` in its ids is tensor parallel 64 there): as many as each.
    """
    tp, groups, moe_tp, moe_ep = (max(1, row[name] or 1) for name in
                                  ("tensor_parallel", "attention_dp", "moe_tp", "moe_ep"))
    if moe_tp == moe_ep > 1:
        return int(moe_tp)
    if groups == tp > 1 and moe_ep == tp * groups:
        return int(tp)
    return int(max(tp * groups, moe_tp * moe_ep))


def chip_of(found: Accelerator, compute: str) -> Chip:
    """Its peaks for matrices multiplied in that format; 16 bits where it has no such units."""
    rate = getattr(found, f"{compute}_flops_per_s") or found.bf16_flops_per_s
    return Chip(name=found.name, memory_bandwidth_bytes_per_s=found.memory_bandwidth_bytes_per_s, flops_per_s=rate,
                attention_flops_per_s=found.bf16_flops_per_s, memory_bytes=found.memory_bytes,
                link_bytes_per_s=found.link_bytes_per_s)


@lru_cache(maxsize=64)
def shape_of(model: str) -> Architecture:
    """The shape of a public row's model. Raises UserError where it is not in the catalogue."""
    if (config := catalogue.config(model)) is None:
        raise UserError(f"public measurements: the shape of {model} is not known")
    return from_config(config)


def _setting(row: dict[str, Any], chips: int) -> Setting:
    precision = row["precision"] or "bf16"
    shape = shape_of(row["model"])
    kept = shape.experts and precision in ("fp4", "int4")  # these checkpoints leave attention at 16 bits
    stack = Stack(
        architecture=shape, chip=chip_of(accelerator(row["system"]), _COMPUTE[precision]), chips=chips,
        attention_groups=chips if (row["attention_dp"] or 1) > 1 else 1, weight_bytes=WEIGHT_BYTES[precision],
        attention_weight_bytes=2.0 if kept else None)
    return Setting(
        stack=stack, engine=row["backend"], version=row["backend_version"], precision=precision,
        expert_parallel=(row["moe_ep"] or 1) > 1, concurrency=row["concurrency"], input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"])
