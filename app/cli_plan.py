"""`dyno plan …`: the formulas at three levels, side by side, with what was measured beside them where there is."""

from __future__ import annotations

import click

from app.cli_plan_capacity import capacity
from app.cli_plan_concurrency import concurrency
from app.cli_plan_cost import cost
from app.cli_plan_latency import latency
from app.cli_plan_memory import memory
from app.cli_plan_simulate import simulate


@click.group()
def plan() -> None:
    """Plan memory, concurrency, capacity and cost: three levels of formulas side by side, each with its error.

    \b
    rough         the survey's formulas, exactly as stated
    architecture  what the model's shape, the engine's overheads and the hardware's spec sheet say
    calibrated    fitted on your own measurements of this setup

    \b
    Examples:
      dyno plan memory meta-llama/Llama-3.1-8B --hardware h100 --context 8192 --concurrency 32
      dyno plan latency Qwen/Qwen3-8B --hardware l40s
      dyno plan capacity --rate 20 --slo "ttft_ms_p95<=500 tpot_ms_p95<=40"
    """


for _command in (memory, concurrency, capacity, cost, latency, simulate):
    plan.add_command(_command)
