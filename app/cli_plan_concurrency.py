"""`dyno plan concurrency`: how many requests fit at once."""

from __future__ import annotations

from typing import Any

import click

from app.cli_plan_memory import asked, options, tell


@click.command()
@options
def concurrency(**given: Any) -> None:
    """Plan how many requests of MODEL fit into memory at once, at the context asked for and around it.

    More may be sent: they queue. MODEL, --hardware and the columns are those of `dyno plan memory`.

    \b
    Examples:
      dyno plan concurrency meta-llama/Llama-3.1-8B-Instruct --hardware h100 --engine-version 0.19 --context 8192
      dyno plan concurrency google/gemma-3-27b-it --hardware h100 --kv-type fp8
      dyno plan concurrency synthetic-llama-110m --engine llama_cpp --quantization Q8_0 --context 2048
    """
    from app._render import emit, field
    from flows import plan_memory
    from models.paths import warehouse

    question = asked(given)
    found = plan_memory.answer(warehouse(), question)
    emit(plan_memory.concurrency_rows(warehouse(), question, found),
         [field(name, 6) for name in ("context_tokens", "rough", "architecture", "calibrated", "measured")],
         given["as_json"], title="requests at once, by the tokens of each")
    tell(found, given["as_json"])
