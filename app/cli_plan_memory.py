"""`dyno plan memory`: does it fit, and where the memory goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def options(command: Callable[..., None]) -> Callable[..., None]:
    """What is asked about, the same for memory and concurrency."""
    for option in reversed((
            click.argument("model"),
            click.option("--hardware", help="An accelerator's name (h100, l4, mi300x…); this machine if left out."),
            click.option("--engine", default="vllm", show_default=True,
                         type=click.Choice(["vllm", "sglang", "tgi", "llama_cpp"])),
            click.option("--engine-version", help="Its defaults and overheads change with it; the newest known."),
            click.option("--quantization", help="Of the weights: BF16, FP8, AWQ-INT4, Q4_K_M…; as it is stored."),
            click.option("--kv-type", default="f16", show_default=True, help="Of the cache: f16, fp8, q8_0…"),
            click.option("--context", type=click.IntRange(min=1),
                         help="Tokens of one request, prompt and answer; 8192 or what the model was made for."),
            click.option("--concurrency", type=click.IntRange(min=1), default=1, show_default=True),
            click.option("--tensor-parallel", type=click.IntRange(min=1), default=1, show_default=True,
                         help="GPUs that share the model."),
            click.option("--memory-fraction", type=click.FloatRange(min=0, max=1, min_open=True),
                         help="Share of the memory that the engine may take; its own default."),
            click.option("--batched-tokens", type=click.IntRange(min=1), help="Tokens of one step; its own default."),
            click.option("--json", "as_json", is_flag=True, help="Print JSON (a list of objects), no table."))):
        command = option(command)
    return command


def asked(given: dict[str, Any]) -> Any:
    """The options as flows.plan_memory's question."""
    from flows.plan_memory import Asked

    names = {"context": "context_tokens", "memory_fraction": "utilisation"}
    return Asked.model_validate({names.get(k, k): v for k, v in given.items() if k != "as_json"})


@click.command()
@options
def memory(**given: Any) -> None:
    """Plan the memory of MODEL: weights, KV cache and the engine's own share, and whether they fit.

    MODEL is a Hugging Face repository (its config is read, no weights), a folder, config.json or GGUF file on this
    disk, or a synthetic model's name. Popular models are known without a network.

    \b
    rough         the survey's formulas, exactly as stated
    architecture  real bits a weight, layers, heads and windows, the engine's overheads
    calibrated    the same with what this engine told of this model on your own machines
    measured      what it told on this very hardware

    \b
    Accelerators of your own: hardware.yaml in DYNO_HOME, in the form
      accelerators:
        - {name: mine, match: [My GPU], mib: 24576, tb_s: 1.0, watt: 300,
           tflops: {bf16: 100, fp8: 200}, link_gb_s: 32, links: 2, source: its data sheet}

    \b
    Examples:
      dyno plan memory meta-llama/Llama-3.3-70B-Instruct --hardware h100 --tensor-parallel 2 --quantization FP8
      dyno plan memory Qwen/Qwen3-235B-A22B --hardware h200 --tensor-parallel 8 --context 32768 --concurrency 64
      dyno plan memory ./model-Q4_K_M.gguf --engine llama_cpp --kv-type q8_0 --context 16384
    """
    from app._render import emit, field
    from flows import plan_memory
    from models.paths import warehouse

    found = plan_memory.answer(warehouse(), asked(given))
    emit(plan_memory.memory_rows(found), [
        ("memory", lambda r: f"{r['quantity']} ({r['unit']})"),
        *(field(level) for level in ("rough", "architecture", "calibrated", "measured"))], given["as_json"])
    tell(found, given["as_json"])


def tell(found: Any, as_json: bool) -> None:
    """The sentences below a table; beside JSON they go to standard error."""
    from flows.plan_memory import sentences

    for line in sentences(found):
        click.echo(line, err=as_json)
    for line in found.notes:
        click.echo(f"  {line}", err=as_json)
