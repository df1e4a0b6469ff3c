"""`dyno plan latency`: what a stack that nobody measured would do, learned from all that were."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flows import own_stacks, public_stacks
from flows.catalogue import find_hardware, find_model
from models.errors import UserError
from models.identity import Record
from models.planning import zero_shot
from models.planning.roofline import tpot_bound_ms
from models.planning.terms import Setting
from models.planning.zero_shot import Measured
from models.progress import Progress, silent

NEAR = 0.1
"""Lengths this near, relatively, are those that a measurement had."""


class Asked(Record):
    """What a person asked. quantization None: as the model is stored, else BF16."""

    model: str
    hardware: str | None = None
    engine: str = "vllm"
    quantization: str | None = None
    tensor_parallel: int = 1
    concurrency: tuple[int, ...] = (1, 8, 32, 64)
    input_tokens: float = 1000.0
    output_tokens: float = 200.0


class Level(Record):
    """A load level: means of a request in ms with 90 % intervals, and output tokens a second of the deployment.

    tpot_ms_bound: the least that the data sheet allows. distance: 0 where such rows were measured, 1 where nothing says
    anything. new: what no row has. tpot_ms_measured, ttft_ms_measured: of this very stack, where the warehouse has it.
    """

    concurrency: int
    tpot_ms: float
    tpot_ms_low: float
    tpot_ms_high: float
    tpot_ms_bound: float
    tpot_ms_measured: float | None
    ttft_ms: float
    ttft_ms_low: float
    ttft_ms_high: float
    ttft_ms_measured: float | None
    output_tokens_per_second: float
    distance: float
    new: tuple[str, ...]


@dataclass(frozen=True)
class Answered:
    """own and public: rows that it was learned from."""

    label: str
    levels: list[Level]
    own: int
    public: int


def answer(home: Path, asked: Asked, progress: Progress = silent) -> Answered:
    """Learns, which takes half a minute with the public rows, and predicts.

    Raises UserError for what is not known (model, hardware, quantisation), for weights that do not fit, and where there
    is next to nothing to learn from.
    """
    settings = _settings(home, asked)
    progress("reading what was measured", 0.0)
    own, public = own_stacks.measured(home), _public()
    rows = [*own, *public]
    found = {}
    for i, quantity in enumerate(("tpot", "ttft")):
        progress(f"learning from {len(rows)} measurements", 0.1 + 0.45 * i, quantity)
        found[quantity] = zero_shot.fit(rows, quantity).predict_all(settings)  # type: ignore[arg-type]
    stack = settings[0].stack
    label = f"{asked.model} on {stack.chips} × {stack.chip.name}, {asked.engine} {settings[0].precision}"
    levels = [_level(*one, own) for one in zip(settings, found["tpot"], found["ttft"], strict=True)]
    return Answered(label, levels, len(own), len(public))


def _settings(home: Path, asked: Asked) -> list[Setting]:
    model, machine = find_model(asked.model), find_hardware(asked.hardware, home)
    if machine.accelerator is None or machine.kind != "cuda":
        raise UserError(f"hardware {machine.name}: such predictions are for NVIDIA's GPUs, whose stacks were measured:"
                        " --hardware h100, l40s …")
    if asked.tensor_parallel > 1 and machine.accelerator.link_bytes_per_s is None:
        raise UserError(f"tensor-parallel {asked.tensor_parallel}: the spec sheet of {machine.name} tells no link"
                        " between several: give one in hardware.yaml (`dyno plan memory --help` shows the form)")
    quantization = (asked.quantization or model.quantization or "BF16").upper()
    settings = [own_stacks.setting(
        model.architecture, machine.accelerator, asked.engine, quantization, gpus=asked.tensor_parallel, concurrency=c,
        input_tokens=asked.input_tokens, output_tokens=asked.output_tokens) for c in asked.concurrency]
    stack = settings[0].stack
    needs, has = stack.weight_bytes * model.architecture.parameters, stack.chips * machine.memory_bytes
    if needs > has:
        raise UserError(f"{asked.model} {quantization}: its weights take {needs / 2**30:.0f} GiB, {stack.chips} ×"
                        f" {machine.name} have {has / 2**30:.0f}: try --tensor-parallel"
                        f" {2 ** math.ceil(math.log2(needs / machine.memory_bytes))} or fewer bits (--quantization)")
    return settings


def _public() -> Sequence[Measured]:
    """No row where the extra `planning` is not installed."""
    try:
        return public_stacks.measured()
    except UserError:
        return ()


def _level(asked: Setting, tpot: zero_shot.Prediction, ttft: zero_shot.Prediction, own: Sequence[Measured]) -> Level:
    seen = next((one for one in own if _same(one.setting, asked)), None)
    bound = tpot_bound_ms(asked.stack, asked.batch, asked.input_tokens, asked.output_tokens)
    request_ms = ttft.value + tpot.value * (asked.output_tokens - 1)
    return Level(
        concurrency=round(asked.concurrency), tpot_ms=tpot.value, tpot_ms_low=tpot.low, tpot_ms_high=tpot.high,
        tpot_ms_bound=bound, tpot_ms_measured=seen.tpot_ms if seen else None, ttft_ms=ttft.value, ttft_ms_low=ttft.low,
        ttft_ms_high=ttft.high, ttft_ms_measured=seen.ttft_ms if seen else None,
        output_tokens_per_second=asked.concurrency * asked.output_tokens / request_ms * 1e3,
        distance=max(tpot.distance, ttft.distance), new=tuple(dict.fromkeys((*tpot.new, *ttft.new))))


def _same(one: Setting, asked: Setting) -> bool:
    near = all(abs(math.log(getattr(one, name) / getattr(asked, name))) <= NEAR
               for name in ("input_tokens", "output_tokens"))
    return near and one.concurrency == asked.concurrency and one.labels["stack"] == asked.labels["stack"]
