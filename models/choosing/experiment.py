"""The experiment file that would settle a question, ready for `dyno evaluate`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import yaml

from models.choosing.answer import Answer
from models.choosing.eligible import allows, lacks
from models.choosing.evidence import Evidence
from models.choosing.question import KINDS, Question
from models.choosing.traffic import Traffic
from models.slo import requests_needed

_SCALED = re.compile(r"(?P<name>.+) ×(?P<input>[\d.]+)(?:/(?P<output>[\d.]+))?")
_ENGINES: dict[str, tuple[dict[str, Any], ...]] = {
    "cpu": ({"engine": "llama_cpp", "variant": "llama-server", "quantizations": ["F16", "Q8_0", "Q4_K_M"]},
            {"engine": "vllm", "quantizations": ["BF16"]}),
    "metal": ({"engine": "llama_cpp", "variant": "llama-server", "quantizations": ["F16", "Q8_0", "Q4_K_M"]},),
    "cuda": ({"engine": "vllm", "quantizations": ["BF16", "FP8"]},
             {"engine": "sglang", "quantizations": ["BF16", "FP8"]},
             {"engine": "llama_cpp", "variant": "llama-server", "quantizations": ["Q8_0", "Q4_K_M"]}),
    "rocm": ({"engine": "vllm", "quantizations": ["BF16", "FP8"]}, {"engine": "sglang", "quantizations": ["BF16"]})}
"""What is worth trying first on each kind of hardware."""
_RUNTIME = {"container": "docker", "kubernetes": "kubernetes"}
LEAST_REQUESTS = 40
MOST_USERS = 256


def settling(answer: Answer, model: str, asked: Traffic, evidence: Evidence) -> str:
    """YAML with comments: the engines that hardware and needs allow, at several loads. What was measured and misses the
    limits is left out, unless that is everything."""
    question = answer.question
    kind = _kind(question, evidence)
    allowed = [e for e in _ENGINES[kind] if not _missing(e, question, evidence)] or [_ENGINES[kind][0]]
    engines = [_entry(e, question) for e in _untried(allowed, answer, evidence) or allowed]
    fits = {"name": _slug(model), "description": f"which stack for {model}?", "models": [model],
            "engines": engines,
            "batching": [{"max_sequences": n} for n in ((4, 16) if kind in ("cpu", "metal") else (32, 128))],
            "workloads": [_workload(asked)],
            "load": {"concurrency": _users(question, kind), "requests": max(LEAST_REQUESTS,
                                                                           2 * requests_needed(question.bounds))},
            "limits": question.limits}
    where = ", ".join(question.hardware) or "the hardware that you mean"
    return (f"# What would settle it. Run it on {where}: dyno evaluate settle.yaml --price USD_PER_HOUR\n"
            "# (--dry-run first lists what cannot be measured, and why)\n"
            + yaml.safe_dump(fits, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None))


def _kind(question: Question, evidence: Evidence) -> str:
    """Of the hardware allowed: as it is named, else of the machine that it names; of none, of what there is here."""
    for word in question.hardware:
        named = KINDS.get(word.lower())
        if named:
            return "cuda" if named == "gpu" else named
        machine = next((m for m in evidence.machines if allows(word, m)), None)
        if machine:
            return machine.kind if machine.kind in _ENGINES else "cpu"
        return "rocm" if word.lower().startswith("mi") else "cuda"
    kinds = [m.kind for m in evidence.machines if m.kind in _ENGINES]
    return kinds[0] if kinds else "cpu"


def _untried(engines: Sequence[dict[str, Any]], answer: Answer, evidence: Evidence) -> list[dict[str, Any]]:
    """Engines with the formats that were not measured yet to miss the limits."""
    missed = {e.setup_id for e in answer.excluded if e.kind == "limit"}
    seen = {(c.stack.server, c.stack.quantization) for c in evidence.curves if c.stack.setup_id in missed}
    found = []
    for one in engines:
        server = one.get("variant") or one["engine"]
        if formats := [q for q in one["quantizations"] if (server, q) not in seen]:
            found.append({**one, "quantizations": formats})
    return found


def _entry(engine: dict[str, Any], question: Question) -> dict[str, Any]:
    runtime = _RUNTIME.get(question.environment or "")
    return {**engine, **({"runtime": runtime} if runtime else {})}


def _missing(engine: dict[str, Any], question: Question, evidence: Evidence) -> bool:
    """Whether a needed feature is known to be missing."""
    server = engine.get("variant") or engine["engine"]
    return any(evidence.can(server) and lacks(server, need, evidence) for need in question.needs)


def _workload(asked: Traffic) -> str | dict[str, Any]:
    """As an experiment names it: a standard one, with its scale; or lengths of one's own."""
    label = asked.label or "asked"
    if found := _SCALED.fullmatch(label):
        inputs = float(found["input"])
        return {"name": found["name"], "scale": {"input": inputs, "output": float(found["output"] or inputs)}}
    if asked.input_tokens and asked.output_tokens and not re.fullmatch(r"[\w-]+", label):
        return {"name": "asked", "input_tokens": {"mean": asked.input_tokens},
                "output_tokens": {"mean": asked.output_tokens}}
    return label


def _users(question: Question, kind: str) -> list[int]:
    """From one upwards; with the users asked for, or the most that one instance may see of them."""
    levels = [1, 2, 4, 8] if kind in ("cpu", "metal") else [1, 8, 32, 128]
    if question.concurrency:
        levels.append(min(MOST_USERS, math.ceil(question.concurrency)))
    return sorted(set(levels))


def _slug(model: str) -> str:
    return "settle-" + (re.sub(r"[^A-Za-z0-9._-]+", "-", model.rpartition("/")[2]).strip("-") or "question")
