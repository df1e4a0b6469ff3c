"""`dyno load` and `dyno capacity`: the instrument at any URL, and how much load keeps the limits."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
POSITIVE = click.FloatRange(min=0, min_open=True)
SERVER = (
    click.option("--model", help="The served model's name; asked from the server when left out."),
    click.option("--api", type=click.Choice(["completions", "chat", "tgi", "llama_cpp"]),
                 help="OpenAI's two, TGI's own, llama.cpp's own [default: the workload's, else completions]."),
    click.option("--workload", help="A standard workload (chat, rag, code, agent, json, …) instead of fixed lengths."),
    click.option("--scale", type=POSITIVE, default=1.0, help="Scales its lengths, or the trace's."),
    click.option("--input-tokens", type=click.IntRange(min=1), default=128, show_default=True),
    click.option("--output-tokens", type=click.IntRange(min=1), default=64, show_default=True),
    click.option("--timeout", type=POSITIVE, default=120.0, show_default=True, help="Deadline of a request, seconds."),
    click.option("--seed", type=int, default=0, show_default=True, help="Fixes arrivals, lengths and prompts."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
)


def at_a_server(command: Command) -> Command:
    """Adds the options that say what is asked of a server."""
    for option in reversed(SERVER):
        command = option(command)
    return command


@click.command()
@click.option("--url", required=True, help="Where it serves: http://host:port")
@at_a_server
@click.option("--trace", type=click.Path(path_type=Path),
              help="Replay a trace: Mooncake-style JSONL or Azure-style CSV, at its own rate unless --rate is given.")
@click.option("--concurrency", type=click.IntRange(min=1), help="Closed loop: users, each waiting for its answer.")
@click.option("--rate", type=POSITIVE, help="Open loop: requests a second, whether or not the server keeps up.")
@click.option("--ramp-to", type=POSITIVE, help="The rate changes evenly to this one.")
@click.option("--arrivals", help="poisson, constant, gamma:CV or trace [default: poisson, or the trace's own].")
@click.option("--requests", type=click.IntRange(min=1), help="Requests measured [default: 100].")
@click.option("--duration", type=POSITIVE, help="Stop sending after so many seconds.")
@click.option("--precision", type=click.FloatRange(0, 1, min_open=True, max_open=True),
              help="Stop once throughput, TTFT and TPOT are known to ± this share (95%); --requests is the most.")
@click.option("--processes", type=click.IntRange(1, 256), default=1, show_default=True,
              help="Load generator processes: one is exact to a millisecond at 20 000 tokens a second.")
@click.option("--hosts", type=click.IntRange(min=0), default=0, help="Machines that send it together: "
              "workers of Prefect's pool `load` (dyno worker --pool load --server URL), with a DYNO_API_KEY each.")
@click.option("--out", type=click.Path(path_type=Path), help="Write requests, telemetry and summary into this folder.")
def load(as_json: bool, **options: Any) -> None:
    """Put load on any URL and time every token. Nothing is stored unless --out is given.

    Prompts have the lengths asked for by the server's own tokenizer, where it has one. A bearer key is taken from
    DYNO_API_KEY; it is never stored or logged. Whether something else kept the processors busy (host_busy) is told for
    a server on this machine whose processes can be seen: not through a proxy or a container's port, nor from afar.

    \b
    Examples:
      dyno load --url http://127.0.0.1:8080 --concurrency 8 --requests 200
      dyno load --url http://127.0.0.1:8080 --workload chat --scale 0.1 --rate 2 --duration 60 --json
      dyno load --url http://127.0.0.1:8080 --rate 1 --ramp-to 20 --duration 120 --arrivals gamma:2
      dyno load --url http://127.0.0.1:8080 --trace conversation.jsonl --scale 0.05 --out replay
      dyno load --url http://127.0.0.1:8080 --concurrency 4 --precision 0.03
      dyno load --url http://cluster:8000 --rate 400 --duration 120 --hosts 3
    """
    from app._progress import display
    from flows.load import load_url

    with display(quiet=False) as progress:
        result = load_url(options, progress)
    from app import _load  # what shows the result delays no first request

    _load.show_load(result, as_json)
    sys.exit(0 if result.point.summary.requests_ok else 1)


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--url", help="Where it serves: http://host:port (instead of an experiment FILE).")
@click.option("--slo", default="ttft_ms_p95<=500 and tpot_ms_p95<=50", show_default=True,
              help="Limits: any metric, its mean or any percentile. With FILE, its own limits unless given.")
@at_a_server
@click.option("--only", type=click.Choice(["concurrency", "rate"]), help="Search one of the two.")
@click.option("--max-seconds", type=POSITIVE, default=300.0, show_default=True,
              help="Engine seconds for each setup and workload; the bracket reached is the answer then.")
def capacity(as_json: bool, **options: Any) -> None:
    """Find the largest concurrency and the largest Poisson rate that keep an SLO.

    A few short probes, aimed by a simulation of what was seen so far and broken off as soon as they are hopeless. With
    an experiment FILE every setup of it is launched and searched; its probes are stored and never measured twice. Exits
    with 1 when a launch failed.

    \b
    Examples:
      dyno capacity --url http://127.0.0.1:8080 --slo "ttft_ms_p95<=200" --output-tokens 100
      dyno capacity --url http://127.0.0.1:8080 --workload chat --slo "ttft_ms_p99<=800 tpot_ms_mean<=40"
      dyno capacity my-experiment.yaml --json
    """
    from app import _load
    from app._progress import display
    from flows.capacity import search_url
    from flows.capacity_engines import search_file
    from models.errors import UserError

    source = click.get_current_context().get_parameter_source("slo")
    if (options["file"] is None) == (options["url"] is None):
        raise UserError("give either an experiment FILE or --url")
    with display(quiet=False) as progress:
        found = (search_url(options, progress) if options["url"] else
                 search_file(options, progress, own_limits=source == click.core.ParameterSource.DEFAULT))
    _load.show_capacity(found, as_json)
    sys.exit(1 if any(one.failed for one in found) or not any(one.capacities for one in found) else 0)
