"""`dyno plan simulate`: what a workload at a rate would see of an engine, hour after hour, before anybody runs it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from flows.simulate import Question
    from models.planning.profile import Profile
    from models.planning.simulation import Scheduling
    from models.planning.steps import StepTimes

POSITIVE, WHOLE = click.FloatRange(min=0, min_open=True), click.IntRange(min=1)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TIMES = ("decode_ms", "decode_ms_per_sequence", "kv_ms_per_thousand_tokens", "prefill_tokens_per_second",
          "prompt_ms", "overhead_ms")
_LIMITS = ("slots", "step_tokens", "chunk_tokens", "kv_tokens", "prefill", "kv_full")


def duration(_context: click.Context, _parameter: click.Parameter, value: str) -> float:
    """Seconds of `90s`, `30m`, `24h`, `2d`, or a number of them."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", value.strip().lower())
    if not found or not float(found[1]):
        raise click.BadParameter(f"{value!r} is no duration: write 90s, 30m, 24h or 2d")
    return float(found[1]) * _SECONDS[found[2] or "s"]


@click.command()
@click.option("--setup", help="A measured setup, by the start of its id; its step times are fitted on its points.")
@click.option("--workload", help="A standard workload (chat, rag, code, …) [default: fixed lengths].")
@click.option("--scale", type=POSITIVE, help="Scales the workload's lengths.")
@click.option("--input-scale", type=POSITIVE, help="Scales its prompts alone.")
@click.option("--output-scale", type=POSITIVE, help="Scales its answers alone.")
@click.option("--input-tokens", type=WHOLE, default=128, show_default=True)
@click.option("--output-tokens", type=WHOLE, default=64, show_default=True)
@click.option("--rate", type=POSITIVE, help="Open loop: requests a second, mean of the day.")
@click.option("--users", type=WHOLE, help="Closed loop: users, each waiting for its answer.")
@click.option("--duration", callback=duration, default="1h", show_default=True, help="Of an open loop: 90s, 30m, 24h.")
@click.option("--arrivals", default="poisson", show_default=True, help="poisson, constant or gamma:CV.")
@click.option("--profile", help="How the load goes through the day: a profile's name, or 24 numbers.")
@click.option("--decode-ms", type=POSITIVE, help="Without --setup: ms of a step, whatever is in it.")
@click.option("--decode-ms-per-sequence", type=click.FloatRange(min=0), default=0.0, help="More for each sequence.")
@click.option("--kv-ms-per-thousand-tokens", type=click.FloatRange(min=0), default=0.0,
              help="More for each thousand tokens held in the KV cache.")
@click.option("--prefill-tokens-per-second", type=POSITIVE, help="Without --setup: of prompts.")
@click.option("--prompt-ms", type=click.FloatRange(min=0), default=0.0, help="More for each prompt in a step.")
@click.option("--overhead-ms", type=click.FloatRange(min=0), default=0.0,
              help="Before the engine knows of a request.")
@click.option("--slots", type=WHOLE, help="Sequences in a batch [default: the setup's].")
@click.option("--step-tokens", type=WHOLE, help="In one step, decoding and prompts [default: the setup's].")
@click.option("--chunk-tokens", type=WHOLE, help="Of one prompt in one step.")
@click.option("--kv-tokens", type=WHOLE, help="That the KV cache holds [default: as the engine said].")
@click.option("--prefill", type=click.Choice(["mixed", "first"]),
              help="Prompts share steps with decoding, or go before it [default: as the engine does].")
@click.option("--kv-full", type=click.Choice(["waits", "preempts"]), help="What a full KV cache does.")
@click.option("--seed", type=int, default=0, show_default=True, help="Fixes arrivals and lengths.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def simulate(as_json: bool, setup: str | None, **options: Any) -> None:
    """Simulate a workload at a rate on an engine that batches continuously: TTFT, TPOT, throughput, queue, KV pressure.

    Step times come from the measured points of --setup (`dyno sql "select distinct setup_id, setup from measurements"`
    lists them), or from --decode-ms and --prefill-tokens-per-second. Where the very point was measured, it is left out
    of the fit and shown beside. A day at 10 requests a second takes some seconds.

    \b
    Examples:
      dyno plan simulate --setup 3f2a --workload chat --rate 3 --duration 24h
      dyno plan simulate --setup 3f2a --workload chat --rate 3 --duration 24h --profile consumer --slots 32
      dyno plan simulate --decode-ms 12 --decode-ms-per-sequence 0.1 --prefill-tokens-per-second 20000 \\
                         --slots 64 --rate 10 --input-tokens 500 --output-tokens 200 --duration 24h --json
    """
    from app._progress import display
    from flows import simulate as flow
    from models.errors import UserError
    from models.paths import warehouse

    explicit = options["decode_ms"] is not None or options["prefill_tokens_per_second"] is not None
    if (setup is None) == (not explicit):
        raise UserError("setup: give either --setup, or --decode-ms with --prefill-tokens-per-second")
    with display(quiet=as_json) as progress:
        question = _question(options)
        answer = (flow.of_setup(warehouse(), setup, question, progress) if setup else
                  flow.given(_times(options), _scheduling(options), question, progress))
    if as_json:
        from app._render import dump

        dump(answer.flat())
    else:
        from app import _simulate

        _simulate.show(answer.flat())


def _question(options: dict[str, Any]) -> Question:
    from flows.simulate import Question, workload
    from models.errors import UserError

    kind, _, cv = options["arrivals"].partition(":")
    try:
        burstiness = float(cv or 1)
    except ValueError:
        burstiness = 0.0
    if kind not in ("poisson", "constant", "gamma") or burstiness <= 0 or (cv and kind != "gamma"):
        raise UserError(f"arrivals: {options['arrivals']!r}: write poisson, constant or gamma:CV (gamma:2)")
    if options["users"] and options["profile"]:
        raise UserError("profile: is of an open loop: give --rate, not --users")
    limits = {name: options[name] for name in _LIMITS if options[name] is not None}
    return Question(workload(options), options["duration"], options["rate"], options["users"], kind, burstiness,
                    _profile(options["profile"]), options["seed"], limits)


def _profile(text: str | None) -> Profile | None:
    from models.planning import profile

    return profile.parse(text) if text else None


def _times(options: dict[str, Any]) -> StepTimes:
    from models.errors import UserError
    from models.planning.steps import StepTimes

    missing = [name for name in ("decode_ms", "prefill_tokens_per_second") if options[name] is None]
    if missing:
        raise UserError(f"--{missing[0].replace('_', '-')}: give it too, or a measured --setup")
    base, sequence, kv, speed, prompt, overhead = (options[name] for name in _TIMES)
    return StepTimes(base_s=base / 1e3, per_sequence_s=sequence / 1e3, per_kv_token_s=kv / 1e6,
                     per_prefill_token_s=1 / speed, per_prompt_s=prompt / 1e3, overhead_s=overhead / 1e3)


def _scheduling(options: dict[str, Any]) -> Scheduling:
    from models.planning.simulation import Scheduling

    return Scheduling(**{name: options[name] for name in _LIMITS if options[name] is not None})
