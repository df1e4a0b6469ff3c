"""Two instruments on one real server at low load: there they must see the same.

A tool that takes the server's own processor time away slows down what it measures. llama-server's counters say how long
a token took it while each tool was measuring, so that this can be told from a difference between the instruments.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench._peers_run import Ready, ToolFailed, run
from bench._peers_table import aligned
from bench._peers_tools import Ask, Figures
from engines import launch
from engines._checkpoints import resolve_model
from engines._command import run_logged
from engines._hardware import detect
from engines.llama_cpp import ADAPTER
from models.errors import EngineError
from models.paths import cache
from models.progress import Progress
from models.specs import Batching, EngineSpec, Setup

COMPARED = {"tpot_ms_mean": "TPOT mean ms", "output_tokens_per_second": "tok/s"}
_FROM_GGUF = """
import sys
from pathlib import Path
from transformers import AutoTokenizer
gguf = Path(sys.argv[1])
AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(sys.argv[2])
"""


@dataclass(frozen=True)
class Agreement:
    """One figure of two tools: medians over the rounds, and how far the peer's values lie apart in per cent. The
    engine's are its own milliseconds a token while dyno and the peer measured, None where it does not tell."""

    streams: int
    figure: str
    peer: str
    dyno_value: float | None = None
    peer_value: float | None = None
    spread_percent: float | None = None
    engine_ms_dyno: float | None = None
    engine_ms_peer: float | None = None
    reason: str = ""
    note: str = ""

    @property
    def difference_percent(self) -> float | None:
        """dyno's less the peer's, of the peer's."""
        return 100 * (self.dyno_value / self.peer_value - 1) if self.dyno_value and self.peer_value else None

    @property
    def level_difference_percent(self) -> float | None:
        """The same as if the engine had been as fast for both; of throughput, as if decoding were all it does."""
        if not (self.dyno_value and self.peer_value and self.engine_ms_dyno and self.engine_ms_peer):
            return None
        slower = self.engine_ms_dyno / self.engine_ms_peer
        ratio = self.dyno_value / self.peer_value
        return 100 * (ratio / slower - 1 if self.figure == "tpot_ms_mean" else ratio * slower - 1)

    def flat(self) -> dict[str, object]:
        """One flat object for --json."""
        return {**dataclasses.asdict(self), "difference_percent": self.difference_percent,
                "level_difference_percent": self.level_difference_percent}


@dataclass(frozen=True)
class Seen:
    """One run: what the tool reported, and the engine's own milliseconds a token meanwhile."""

    figures: Figures
    engine_ms: float | None


def compare(options: argparse.Namespace, tools: dict[str, Ready | str], progress: Progress) -> list[Agreement]:
    """Every figure of dyno beside every peer's, at every number of streams."""
    rows: list[Agreement] = []
    with tempfile.TemporaryDirectory(prefix="dyno-tokenizer-") as folder, _server(options, progress) as (url, gguf):
        tokenizer = _tokenizer(options.tokenizer or gguf, tools, Path(folder))
        for streams in options.streams:
            ask = Ask(url, options.model, tokenizer, streams, options.requests, options.input_tokens,
                      options.output_tokens, options.seed, Path())
            seen, reasons = _in_turn(ask, options.rounds, options.timeout, tools, progress)
            rows += [_row(streams, figure, peer, seen, reasons)
                     for peer in tools if peer != "dyno" for figure in COMPARED]
    return rows


def _in_turn(ask: Ask, rounds: int, timeout_s: float, tools: dict[str, Ready | str],
             progress: Progress) -> tuple[dict[str, list[Seen]], dict[str, str]]:
    """Round by round, so that a drift of the server meets all alike, and with other prompts each time, so that none is
    answered from a cache. Returns each tool's figures, and why a tool has none."""
    seen: dict[str, list[Seen]] = {name: [] for name in tools}
    reasons = {name: one for name, one in tools.items() if isinstance(one, str)}
    for turn in range(rounds):
        for name, one in tools.items():
            if isinstance(one, str) or name in reasons:
                continue
            progress(f"{name} {one.version}, {ask.streams} streams, round {turn + 1} of {rounds}")
            before = _decoding(ask.url)
            try:
                figures = run(one, dataclasses.replace(ask, seed=ask.seed + turn), timeout_s).figures
                seen[name].append(Seen(figures, _engine_ms(before, _decoding(ask.url), ask)))
            except ToolFailed as error:
                reasons[name] = str(error)
                progress(f"{name}: {error}")
    return seen, reasons


@contextlib.contextmanager
def _server(options: argparse.Namespace, progress: Progress) -> Iterator[tuple[str, Path]]:
    """The URL given; or else llama-server with a synthetic model, for as long as the `with`, and that model's GGUF."""
    if options.url:
        yield options.url, Path()
        return
    batching = Batching(max_sequences=max(options.streams),
                        context_tokens=2 * (options.input_tokens + options.output_tokens))
    setup = Setup(model=resolve_model(options.model), hardware=detect("cpu"),
                  engine=EngineSpec(engine="llama_cpp", variant="llama-server", quantization="Q4_0", batching=batching))
    prepared = launch.prepare(setup, progress)
    assert prepared is not None  # only an endpoint needs no preparation
    with launch.launch(setup, cache() / "logs" / "peer-llama-server.log", progress) as engine:
        yield engine.endpoint.url, prepared.checkpoint.path


def _row(streams: int, figure: str, peer: str, seen: dict[str, list[Seen]], reasons: dict[str, str]) -> Agreement:
    for name in ("dyno", peer):
        if name in reasons:
            return Agreement(streams, figure, peer, reason=f"{name}: {reasons[name]}")
    ours, theirs = ([getattr(s.figures, figure) for s in seen[name]] for name in ("dyno", peer))
    engine_dyno, engine_peer = (_middle([s.engine_ms for s in seen[name] if s.engine_ms]) for name in ("dyno", peer))
    notes = dict.fromkeys(f"{name}: {s.figures.note}" for name in ("dyno", peer) for s in seen[name] if s.figures.note)
    return Agreement(streams, figure, peer, _middle(ours), _middle(theirs),
                     100 * (max(theirs) - min(theirs)) / statistics.median(theirs), engine_dyno, engine_peer,
                     note="\n".join(notes))


def _middle(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def _decoding(url: str) -> tuple[float, float] | None:
    """(seconds, tokens) that llama-server says it spent decoding so far; None of a server that does not tell."""
    try:
        told = ADAPTER.gauges(httpx.get(f"{url.rstrip('/')}/metrics", timeout=10.0).text)
        return told["decode_s"], told["generated_tokens"]
    except (httpx.HTTPError, KeyError, ValueError):
        return None


def _engine_ms(before: tuple[float, float] | None, after: tuple[float, float] | None, ask: Ask) -> float | None:
    """Milliseconds a token without the first, whose time llama-server counts to the prompt."""
    if before is None or after is None or after[1] <= before[1]:
        return None
    tokens = (after[1] - before[1]) * (1 - 1 / ask.output_tokens)
    return 1e3 * (after[0] - before[0]) / tokens


def _tokenizer(given: Path, tools: dict[str, Ready | str], folder: Path) -> Path:
    """A GGUF's tokenizer is written as a folder by a peer's transformers. Raises ToolFailed when none can."""
    if given.is_dir():
        return given.absolute()
    log = cache() / "logs" / "peer-tokenizer.log"
    log.unlink(missing_ok=True)
    reason = "no peer is installed"
    for one in tools.values():
        if isinstance(one, str) or one.tool.package is None:
            continue
        try:
            run_logged(f"reading the tokenizer of {given.name}",
                       [str(one.python), "-c", _FROM_GGUF, str(given.absolute()), str(folder)], log)
            return folder
        except EngineError as error:
            reason = f"{error.reason}; log: {error.log_path}"
    raise ToolFailed(f"--tokenizer {given}: {reason}")


def table(rows: list[Agreement]) -> str:
    """A line each figure, number of streams and peer."""
    heads = ["figure", "peer", "streams", "dyno", "peer reports", "difference %", "peer spread %", "engine ms, dyno",
             "engine ms, peer", "difference less engine's %"]
    cells = [[COMPARED[r.figure], r.peer, str(r.streams), *("" if v is None else format(v, form) for v, form in (
        (r.dyno_value, ".3f"), (r.peer_value, ".3f"), (r.difference_percent, "+.2f"), (r.spread_percent, ".2f"),
        (r.engine_ms_dyno, ".3f"), (r.engine_ms_peer, ".3f"), (r.level_difference_percent, "+.2f")))]
        for r in rows]
    notes = dict.fromkeys(r.note for r in rows if r.note)
    return "\n".join([aligned(heads, cells, [r.reason for r in rows]), *notes])
