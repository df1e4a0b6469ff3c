"""The load generators that are compared: how each is asked for the same load, and where its own report says what.

Every one streams from /v1/completions, keeps as many requests under way as there are streams, forces the output's
length and counts tokens as the server's usage tells. What is not compared is switched off (GPU telemetry, scraping the
server, a dashboard, a token count of its own), which makes a tool cheaper, never dearer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from engines._packages import Package
from engines._vllm_install import package as vllm_package


@dataclass(frozen=True)
class Ask:
    """One load; `out` is an empty folder for the tool's files."""

    url: str
    model: str
    tokenizer: Path
    streams: int
    requests: int
    input_tokens: int
    output_tokens: int
    seed: int
    out: Path


class Figures(NamedTuple):
    """What a tool says it saw. TPOT is (last token - first token) / (tokens - 1), the mean over requests. `note` tells
    what a reader must know about these figures."""

    requests_ok: int
    ttft_ms_p50: float
    ttft_ms_p99: float
    tpot_ms_mean: float
    output_tokens_per_second: float
    note: str = ""


@dataclass(frozen=True)
class Tool:
    """A load generator; `package` is None for dyno itself. `read` raises KeyError or OSError when it left no report."""

    name: str
    package: Package | None
    command: Callable[[Path, Ask], list[str]]
    read: Callable[[Ask], Figures]
    environment: dict[str, str] = field(default_factory=dict)


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def _dyno(python: Path, ask: Ask) -> list[str]:
    return [str(python.with_name("dyno")), "load", "--url", ask.url, "--model", ask.model,
            "--input-tokens", str(ask.input_tokens), "--output-tokens", str(ask.output_tokens),
            "--concurrency", str(ask.streams), "--requests", str(ask.requests), "--seed", str(ask.seed),
            "--json", "--out", str(ask.out / "dyno")]


def _dyno_figures(ask: Ask) -> Figures:
    said = _json(ask.out / "dyno/summary.json")
    return Figures(said["requests_ok"], said["ttft_ms_p50"], said["ttft_ms_p99"], said["tpot_ms_mean"],
                   said["output_tokens_per_second"])


def _vllm(python: Path, ask: Ask) -> list[str]:
    return [str(python), str(python.with_name("vllm")), "bench", "serve", "--backend", "openai",
            "--base-url", ask.url, "--endpoint", "/v1/completions", "--model", ask.model,
            "--tokenizer", str(ask.tokenizer), "--dataset-name", "random", "--random-input-len", str(ask.input_tokens),
            "--random-output-len", str(ask.output_tokens), "--num-prompts", str(ask.requests),
            "--max-concurrency", str(ask.streams), "--ignore-eos", "--temperature", "0", "--seed", str(ask.seed),
            "--percentile-metrics", "ttft,tpot,e2el", "--metric-percentiles", "50,99", "--disable-tqdm",
            "--save-result", "--result-dir", str(ask.out), "--result-filename", "vllm.json"]


def _vllm_figures(ask: Ask) -> Figures:
    """vLLM's bench reads usage only where it comes in an event of its own. From a server that sends it along with the
    last choice (llama-server), it encodes the text again and counts that: then its own mean times are divided by the
    length that every answer was forced to have."""
    said = _json(ask.out / "vllm.json")
    completed, counted = said["completed"], said["total_output_tokens"]
    tokens = completed * ask.output_tokens
    tpot_ms, rate, note = said["mean_tpot_ms"], said["output_throughput"], ""
    if counted != tokens and completed:
        tpot_ms = (said["mean_e2el_ms"] - said["mean_ttft_ms"]) / (ask.output_tokens - 1)
        rate = tokens / said["duration"]
        note = (f"it counted {counted} tokens where {tokens} were sent and said TPOT {said['mean_tpot_ms']:.3f} ms, "
                f"{said['output_throughput']:.1f} tok/s; here its times are divided by the tokens sent")
    return Figures(completed, said["p50_ttft_ms"], said["p99_ttft_ms"], tpot_ms, rate, note)


def _aiperf(python: Path, ask: Ask) -> list[str]:
    return [str(python), str(python.with_name("aiperf")), "profile", "--url", ask.url, "--model", ask.model,
            "--tokenizer", str(ask.tokenizer), "--endpoint-type", "completions", "--streaming",
            "--concurrency", str(ask.streams), "--request-count", str(ask.requests),
            "--num-prompts", str(ask.requests), "--isl", str(ask.input_tokens), "--isl-stddev", "0",
            "--osl", str(ask.output_tokens), "--osl-stddev", "0", "--extra-inputs", "ignore_eos:true",
            "--extra-inputs", "temperature:0", "--random-seed", str(ask.seed), "--use-server-token-count",
            "--use-legacy-max-tokens", "--no-gpu-telemetry", "--no-server-metrics", "--ui", "none",
            "--export-level", "summary", "--output-artifact-dir", str(ask.out / "aiperf")]


def _aiperf_figures(ask: Ask) -> Figures:
    said = _json(ask.out / "aiperf/profile_export_aiperf.json")
    ttft = said["time_to_first_token"]
    return Figures(round(ttft["count"]), ttft["p50"], ttft["p99"], said["inter_token_latency"]["avg"],
                   said["output_token_throughput"]["avg"])


def _guidellm(python: Path, ask: Ask) -> list[str]:
    backend = {"kind": "openai_http", "target": ask.url, "model": ask.model, "request_format": "/v1/completions",
               "extras": {"body": {"temperature": 0}}}
    data = {"kind": "synthetic_text", "prompt_tokens": ask.input_tokens, "output_tokens": ask.output_tokens}
    return [str(python), str(python.with_name("guidellm")), "run", "--backend", json.dumps(backend),
            "--profile", f"kind=concurrent,streams={ask.streams}",
            "--constraint", f"kind=max_requests,count={ask.requests}",
            "--tokenizer", json.dumps({"kind": "huggingface_auto", "model": str(ask.tokenizer)}),
            "--data", json.dumps(data), "--seed", f"kind=static,value={ask.seed}",
            "--output", json.dumps({"kind": "json", "path": str(ask.out / "guidellm.json")}), "--disable-console"]


def _guidellm_figures(ask: Ask) -> Figures:
    """GuideLLM's `time_per_output_token_ms` counts the first token in; its inter-token latency is the field's TPOT."""
    metrics = _json(ask.out / "guidellm.json")["benchmarks"][0]["metrics"]
    ttft = metrics["time_to_first_token_ms"]["successful"]
    return Figures(metrics["request_totals"]["successful"], ttft["percentiles"]["p50"], ttft["percentiles"]["p99"],
                   metrics["inter_token_latency_ms"]["successful"]["mean"],
                   metrics["output_tokens_per_second"]["successful"]["mean"])


_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
_PRIVATE = {"DO_NOT_TRACK": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_DO_NOT_TRACK": "1"}
TOOLS = {tool.name: tool for tool in (
    Tool("dyno", None, _dyno, _dyno_figures),
    # The environment that the engine vLLM has on a CPU.
    Tool("vllm", vllm_package("cpu"), _vllm, _vllm_figures, _OFFLINE | _PRIVATE),
    # Told to stay offline, AIPerf takes a tokenizer's folder for the name of a repository.
    Tool("aiperf", Package("aiperf", "0.13.*", shelf="peers"), _aiperf, _aiperf_figures,
         _PRIVATE | dict.fromkeys(_OFFLINE, "")),
    # This torch has a build for CPUs, which is taken where pip is configured for it: 1.5 GB instead of 6.
    Tool("guidellm", Package("guidellm", "0.8.1", ("torch==2.13.0",), shelf="peers"), _guidellm, _guidellm_figures,
         _OFFLINE | _PRIVATE),
)}
