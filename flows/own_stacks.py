"""One's own measurements on GPUs as settings of the planning models, beside the public ones (flows.public_stacks)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flows.public_stacks import WEIGHT_BYTES, chip_of
from models.hardware import Accelerator, accelerators, lookup
from models.planning.roofline import Stack
from models.planning.terms import Setting
from models.planning.weights import weight_bytes
from models.planning.zero_shot import Measured
from models.specs import Architecture
from warehouse import published, reader

_KINDS = {"F16": "bf16", "FP8": "fp8", "W8A8-FP8": "fp8", "MODELOPT-FP8": "fp8", "MXFP8": "fp8", "NVFP4": "fp4",
          "W4A16-INT4": "int4", "GPTQ-INT4": "int4", "AWQ-INT4": "int4", "AUTOROUND-INT4": "int4"}
"""How the public rows call them; others keep their name."""
ENGINES = ("vllm", "sglang", "trtllm")
"""Whose time follows the roofline's terms; llama.cpp's with CUDA does not (a token of many sequences took four times
what was foreseen), so that its rows are not learned from."""
_COMPUTED = {"fp8": "fp8", "fp4": "fp4", "w8a8-int8": "int8"}
_ROWS = """
    select m.*, s.* exclude (name, parameters), s.parameters
    from measurements m join (select distinct on (name) * from models where layers is not null) s on s.name = m.model
    where m.accelerator is not null and m.engine in {engines} and m.concurrency is not null and not m.fatal
      and m.tpot_ms_mean > 0 and m.input_tokens_mean > 0 and m.output_tokens_mean > 1"""


def setting(shape: Architecture, sheet: Accelerator, engine: str, quantization: str, *, version: str | None = None,
            gpus: int = 1, concurrency: float, input_tokens: float, output_tokens: float) -> Setting:
    """A closed loop of a stack.

    Raises UserError for an unknown quantisation.
    """
    precision = _KINDS.get(quantization.upper(), quantization.lower())
    chip = chip_of(sheet, _COMPUTED.get(precision, "bf16"))
    each = WEIGHT_BYTES.get(precision) or weight_bytes(shape, quantization) / shape.parameters
    stack = Stack(architecture=shape, chip=chip, chips=gpus, weight_bytes=each)
    return Setting(stack=stack, engine=engine, version=version, precision=precision, concurrency=concurrency,
                   input_tokens=input_tokens, output_tokens=output_tokens)


def measured(home: Path) -> list[Measured]:
    """Closed loops of the warehouse on GPUs whose spec sheet is known. Raises WarehouseError when it cannot be read."""
    if not published.stamp(home):
        return []
    rows = reader.query(home, _ROWS.format(engines=ENGINES)).iter_rows(named=True)
    return [one for row in rows if (one := _row(row))]


def _row(row: dict[str, Any]) -> Measured | None:
    sheet = lookup(row["accelerator"], accelerators())
    if sheet is None:
        return None
    try:
        shape = Architecture.model_validate({k: v for k, v in row.items() if k in Architecture.model_fields})
    except ValidationError:  # stored without all of its shape
        return None
    asked = setting(shape, sheet, row["engine"], row["quantization"], version=row["engine_version"],
                    gpus=row["tensor_parallel"] or 1, concurrency=row["concurrency"],
                    input_tokens=row["input_tokens_mean"], output_tokens=row["output_tokens_mean"])
    return Measured(setting=asked, tpot_ms=row["tpot_ms_mean"], ttft_ms=row["ttft_ms_mean"])
