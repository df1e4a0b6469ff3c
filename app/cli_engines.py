"""`dyno engines`: what each engine can do, which versions are here, and why something is missing."""

from __future__ import annotations

import sys

import click


@click.command()
@click.argument("name", required=False)
@click.option("--check", is_flag=True, help="Hold the engine NAME (all without one) to the adapters' contract; no "
              "engine is started.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON (a list of objects) instead of a table.")
def engines(name: str | None, check: bool, as_json: bool) -> None:
    """List the engines: versions, runtimes, hardware, quantisations, KV types and features; one in detail with NAME.

    NAME is an engine (llama_cpp, vllm) or one of its servers (llama-server). Nothing is started, installed or asked.

    \b
    Examples:
      dyno engines
      dyno engines vllm
      dyno engines llama-server --json
      dyno engines --check sglang
    """
    from app import _engines
    from flows import capabilities

    if not check:
        _engines.show(capabilities.of(name), name is not None, as_json)
        return
    abouts = capabilities.of(name)
    found = [(engine, result) for engine in dict.fromkeys(about.engine for about in abouts)
             for result in capabilities.check(engine)]
    _engines.checked(found, as_json)
    if not all(result.good for _, result in found):
        sys.exit(1)
