"""dyno beside vLLM's bench, AIPerf and GuideLLM on a server that tells the truth: python -m bench.peers [options]

Each tool, in an environment of its own, puts the same closed loop on a server whose first token leaves after 20 ms and
the others every 10 ms; the table shows what each reports, how far that is from the truth, and what it cost. The first
run installs the peers: some 6 GB and ten minutes. Run it on a quiet machine: the server shares it, and says how late
it was itself.

    python -m bench.peers --streams 100,500 --json
    python -m bench.peers --tools dyno,vllm --streams 500

With --agree, dyno and a peer measure one real server in turn, at low load, where both must see the same: llama-server
with a synthetic model, or what serves at a URL.

    python -m bench.peers --agree --tools dyno,vllm,aiperf
    python -m bench.peers --agree --url http://127.0.0.1:8080 --model NAME --tokenizer FOLDER_OR_GGUF
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import _peers_agree, _peers_table, _peers_tokenizer
from bench._peers_run import Ready, ToolFailed, ready, run
from bench._peers_table import Row
from bench._peers_tools import TOOLS, Ask, Figures
from bench._truth import Truth
from models.errors import DynoError, UserError

MODEL = "truth"
SYNTHETIC = "synthetic-llama-110m"
_told = ""


def told(step: str, done: float | None = None, detail: str = "") -> None:
    """Progress goes to standard error, a line for each thing that is done."""
    global _told
    if _told != (_told := f"{step} {detail}".strip()):
        print(_told, file=sys.stderr, flush=True)


def true_figures(options: argparse.Namespace, streams: int) -> Figures:
    """What a perfect client would report, with all streams busy all the time."""
    seconds = (options.ttft_ms + (options.output_tokens - 1) * options.itl_ms) / 1e3
    return Figures(options.requests, options.ttft_ms, options.ttft_ms, options.itl_ms,
                   streams * options.output_tokens / seconds)


def measured(one: Ready, ask: Ask, options: argparse.Namespace, truth: Figures) -> Row:
    """One tool against a server of its own."""
    told(f"{one.tool.name} {one.version}, {ask.streams} streams")
    try:
        with Truth(options.ttft_ms, options.itl_ms) as server:
            ran = run(one, dataclasses.replace(ask, url=server.url), options.timeout)
            stats = server.stats()
    except (ToolFailed, OSError) as error:
        told(f"{one.tool.name}: {error}")
        return Row(one.tool.name, one.version, ask.streams, truth, reason=str(error))
    return Row(one.tool.name, one.version, ask.streams, truth, ran.figures, client_cpu_seconds=ran.cpu_s,
               cpu_us_per_token=ran.cpu_s * 1e6 / max(stats["tokens"], 1),
               start_up_s=(stats["first_request_ns"] - ran.started_ns) / 1e9, wall_s=ran.wall_s,
               server_requests=stats["requests"], server_tokens=stats["tokens"],
               server_late_ms_p99=stats["late_us_p99"] / 1e3, command=ran.command)


def installed(names: list[str]) -> dict[str, Ready | str]:
    """Each tool ready to run, or why it is not."""
    found: dict[str, Ready | str] = {}
    for name in names:
        try:
            found[name] = ready(TOOLS[name], told)
        except ToolFailed as error:
            found[name] = str(error)
            told(f"{name}: {error}")
    return found


def compare(options: argparse.Namespace) -> list[Row]:
    """Runs every tool at every number of streams, one after another."""
    tools = installed(options.tools)
    rows = []
    with tempfile.TemporaryDirectory(prefix="dyno-tokenizer-") as folder:
        tokenizer = _peers_tokenizer.write(Path(folder))
        for streams in options.streams:
            truth = true_figures(options, streams)
            rows.append(Row("truth", "", streams, truth, truth))
            ask = Ask("", MODEL, tokenizer, streams, options.requests, options.input_tokens, options.output_tokens,
                      options.seed, Path())
            rows += [Row(name, "", streams, truth, reason=one) if isinstance(one, str) else
                     measured(one, ask, options, truth) for name, one in tools.items()]
    return rows


def parse(argv: list[str]) -> argparse.Namespace:
    """Raises UserError for what argparse cannot see to be wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", help=f"comma-separated [default: {','.join(TOOLS)}; with --agree: dyno,vllm]")
    parser.add_argument("--streams", help="comma-separated [default: 100,500; with --agree: 1,2]")
    parser.add_argument("--requests", type=int, help="a run [default: 2000; with --agree: 40]")
    parser.add_argument("--input-tokens", type=int, default=64)
    parser.add_argument("--output-tokens", type=int, default=100)
    parser.add_argument("--ttft-ms", type=float, default=20.0, help="the server's truth")
    parser.add_argument("--itl-ms", type=float, default=10.0, help="the server's truth")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds until a tool is given up")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--agree", action="store_true", help="two tools on one real server (--url) at low load")
    parser.add_argument("--url", help="of --agree; without it llama-server is started")
    parser.add_argument("--model", help=f"of --agree [default without --url: {SYNTHETIC}]")
    parser.add_argument("--tokenizer", type=Path, help="a Hugging Face tokenizer's folder, or the model's GGUF")
    parser.add_argument("--rounds", type=int, default=3, help="of --agree, the tools in turn; medians are compared")
    options = parser.parse_args(argv)
    low = options.agree
    options.tools = (options.tools or ("dyno,vllm" if low else ",".join(TOOLS))).split(",")
    if unknown := set(options.tools) - set(TOOLS):
        raise UserError(f"--tools {','.join(sorted(unknown))}: there are {', '.join(TOOLS)}")
    given = options.streams or ("1,2" if low else "100,500")
    if not all(part.isdigit() and int(part) for part in given.split(",")):
        raise UserError(f"--streams {given}: numbers with commas between them, such as 100,500")
    options.streams = [int(part) for part in given.split(",")]
    options.requests = options.requests or (40 if low else 2000)
    if options.url and not (options.model and options.tokenizer):
        raise UserError(f"--url {options.url}: --model and --tokenizer are needed with it")
    options.model = options.model or SYNTHETIC
    if options.tokenizer and not options.tokenizer.exists():
        raise UserError(f"--tokenizer {options.tokenizer}: there is no such folder or file")
    return options


def main(argv: list[str]) -> int:
    """Returns 1 when a tool failed."""
    options = parse(argv)
    load = os.getloadavg()[0]
    rows: list[Any]
    if options.agree:
        rows = _peers_agree.compare(options, installed(options.tools), told)
        text = _peers_agree.table(rows)
    else:
        rows = compare(options)
        text = _peers_table.table(rows)
    if options.json:
        print(json.dumps({"load_average_before": load, "rows": [row.flat() for row in rows]}, indent=1))
    else:
        print(f"{text}\nload average before: {load:.2f} on {os.cpu_count()} cores")
    return int(any(row.reason for row in rows))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, so that nothing is left behind
    try:
        sys.exit(main(sys.argv[1:]))
    except DynoError as error:
        sys.exit(f"bench.peers: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
