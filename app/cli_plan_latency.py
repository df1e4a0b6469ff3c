"""`dyno plan latency`: what a stack that nobody measured would do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from flows.plan_latency import Answered

_SAID = {"stack": "combination", "chip": "GPU", "input_tokens": "input length", "output_tokens": "output length"}
POSITIVE = click.FloatRange(min=1)


def _levels(_: click.Context, __: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        found = tuple(dict.fromkeys(int(word) for word in text.split(",")))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise click.BadParameter(f"{text!r}: whole numbers from 1 on, with commas: 1,8,32")
    return found


@click.command()
@click.argument("model")
@click.option("--hardware", help="A GPU's name (h100, l40s, b200…); this machine's if left out.")
@click.option("--engine", type=click.Choice(["vllm", "sglang", "trtllm"]), default="vllm", show_default=True)
@click.option("--quantization", help="Of the weights: BF16, FP8, AWQ-INT4, NVFP4…; as it is stored.")
@click.option("--tensor-parallel", type=click.IntRange(min=1), default=1, show_default=True,
              help="GPUs that share the model.")
@click.option("--concurrency", default="1,8,32,64", show_default=True, callback=_levels, help="Requests at once.")
@click.option("--input-tokens", type=POSITIVE, default=1000.0, show_default=True, help="Of a request, mean.")
@click.option("--output-tokens", type=click.FloatRange(min=2), default=200.0, show_default=True, help="Likewise.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON (a list of objects) instead of a table.")
def latency(as_json: bool, **given: Any) -> None:
    """Predict TPOT, TTFT and throughput of MODEL on GPUs that nobody measured it on.

    Learned from your own measurements on GPUs and from public ones (extra `planning`): a roofline whose terms have
    learned factors, and what stacks that are alike have in common. The interval holds nine of ten such cases; it is
    wide where little is alike. `dyno accuracy` says how wrong this was, leaving models and GPUs out. Where this very
    stack was measured, that stands beside it. MODEL is as in `dyno plan memory`.

    \b
    Examples:
      dyno plan latency Qwen/Qwen3-8B --hardware l40s
      dyno plan latency meta-llama/Llama-3.3-70B-Instruct --hardware h200 --tensor-parallel 2 --quantization FP8
      dyno plan latency ./my-model --engine sglang --hardware h100 --concurrency 1,16,128 --input-tokens 4000 --json
    """
    from app._progress import display
    from flows import plan_latency
    from models.paths import warehouse

    with display() as progress:
        found = plan_latency.answer(warehouse(), plan_latency.Asked.model_validate(given), progress)
    _show(found, as_json)


def _show(found: Answered, as_json: bool) -> None:
    from app._render import dump, emit, number

    rows = [one.model_dump() for one in found.levels]
    if as_json:
        dump(rows)
        return
    click.echo(found.label)
    known = any(r["tpot_ms_measured"] for r in rows)
    emit(rows, (
        ("at once", lambda r: str(r["concurrency"])),
        ("TPOT ms", lambda r: number(r["tpot_ms"])),
        ("90 %", lambda r: f"{number(r['tpot_ms_low'])}–{number(r['tpot_ms_high'])}"),
        ("at least", lambda r: number(r["tpot_ms_bound"])),
        *((("measured", lambda r: number(r["tpot_ms_measured"])),) if known else ()),
        ("TTFT ms", lambda r: number(r["ttft_ms"])),
        ("90 % ", lambda r: f"{number(r['ttft_ms_low'])}–{number(r['ttft_ms_high'])}"),
        *((("measured ", lambda r: number(r["ttft_ms_measured"])),) if known else ()),
        ("tok/s", lambda r: number(r["output_tokens_per_second"])),
        ("new", lambda r: ", ".join(_SAID.get(name, name) for name in r["new"]) or "—"),
    ), as_json=False)
    click.echo(f"Learned from {found.own} measurements of your own on GPUs and {found.public} public ones; `new` is"
               " what none of them has. Means of a request; tok/s of the whole deployment.")
