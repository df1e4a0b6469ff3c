"""`dyno choose`: which stack, on what, how many, for how much, and how sure; from measurements first."""

from __future__ import annotations

import os
from typing import Any

import click

POSITIVE = click.FloatRange(min=0, min_open=True)


@click.command()
@click.option("--model", help="As it was measured (`dyno runs` lists), or a size: 8B.")
@click.option("--workload", help="A measured one by its label, or a standard one: chat, rag, code…")
@click.option("--input-tokens", type=POSITIVE, help="Without --workload: mean tokens of a request.")
@click.option("--output-tokens", type=POSITIVE, help="Without --workload: mean tokens of an answer.")
@click.option("--rate", "request_rate", type=POSITIVE, help="Requests a second, all instances together.")
@click.option("--concurrency", type=POSITIVE, help="Or: users at once, each waiting for the answer.")
@click.option("--slo", "limits", default="ttft_ms_p95<=500 and tpot_ms_p95<=50", show_default=True,
              help="Limits to keep, on any metric.")
@click.option("--hardware", help="Allowed, separated by commas: cpu, metal, nvidia, amd, gpu, this (machine), h100…")
@click.option("--needs", help="Features, separated by commas: openai_api, structured_output, tool_calls,"
              " embedding_in_python…")
@click.option("--environment", type=click.Choice(["laptop", "container", "kubernetes"]), help="Where it is to run.")
@click.option("--kl-max", "kl_nats_max", type=click.FloatRange(min=0),
              help="Divergence from the unquantised model allowed, nats.")
@click.option("--budget", "budget_usd_per_month", type=POSITIVE, help="USD a month.")
@click.option("--price-tier", help="on-demand, reserved-1y, spot, own… (`dyno prices` lists them).")
@click.option("--down", type=click.IntRange(min=0), default=0, show_default=True,
              help="Instances that may be down while the limits are kept.")
@click.option("--headroom", type=click.FloatRange(0, 10), default=0.0, show_default=True,
              help="Share of the load that must fit on top: 0.25.")
@click.option("--guided", is_flag=True, help="The selection procedure in six steps, a survey's rules beside it.")
@click.option("--all", "everything", is_flag=True, help="Every stack that fits, and every one left out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def choose(guided: bool, everything: bool, as_json: bool, **options: Any) -> None:
    """Choose a serving stack: the cheapest that keeps the limits, with what the answer rests on.

    Measured points come first, calibrated curves between them second; where nothing measured fits, a formula's estimate
    is given as that, with the experiment that would settle it.

    \b
    Examples:
      dyno choose --model Qwen/Qwen3-8B --workload chat --rate 20 --slo "ttft_ms_p95<=500 tpot_ms_p95<=40"
      dyno choose --model 8B --input-tokens 800 --output-tokens 200 --rate 5 --hardware h100,l40s --down 1
      dyno choose --model synthetic-llama-110m --workload chat --concurrency 16 --guided
      dyno choose --model 8B --workload rag --rate 3 --needs structured_output --kl-max 0.01 --json
    """
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # to look for some reads all that is installed
    from app import _choose
    from models.paths import warehouse

    _choose.show(warehouse(), options, _choose.Shown(guided, everything, as_json), _this_machine, _standard)


def _this_machine() -> str:
    from flows.preflight import resolvers

    return resolvers().hardware("this").name


def _standard(name: str) -> tuple[float, float] | None:
    from flows.lengths import means

    return means(name)
