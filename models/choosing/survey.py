"""The survey's feature table, cell by cell, beside what the engines were seen to do."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, Literal

import yaml

from models.choosing.evidence import Evidence, Observed
from models.identity import Record

Verdict = Literal["agrees", "disagrees", "not observed"]
HOLDS = {"structured_output": 0.9, "tool_calls": 0.9, "openai_api": 0.9, "prefix_caching": 0.05,
         "continuous_batching": 1.5}
"""From which share (of answers, requests, tokens) a feature is taken as there; of batching, the gain in throughput."""
NAMES = {"vllm": "vLLM", "sglang": "SGLang", "tgi": "TGI", "llama_cpp": "llama.cpp"}


class Cell(Record):
    """A claim about an engine, and what was observed (of any of its servers). trial_ids show it."""

    feature: str
    engine: str
    claim: str
    observed: str = ""
    verdict: Verdict = "not observed"
    trial_ids: tuple[str, ...] = ()


@cache
def said() -> dict[str, Any]:
    """The data file: `source`, `steps`, `features`."""
    loaded: dict[str, Any] = yaml.safe_load(resources.files("models").joinpath("data/survey.yaml").read_text())
    return loaded


def table(evidence: Evidence) -> tuple[Cell, ...]:
    """Every cell, feature by feature."""
    return tuple(_cell(feature, engine, about, evidence)
                 for feature, row in said()["features"].items() for engine, about in row.items())


def seen(engine: str, feature: str, evidence: Evidence) -> Observed | None:
    """The best that a server of an engine was seen to do."""
    return max((o for o in evidence.observed if o.engine == engine and o.feature == feature),
               key=lambda o: o.share or 0.0, default=None)


def holds(one: Observed) -> bool:
    """Whether what was seen is the feature at work."""
    return (one.share or 0.0) >= HOLDS[one.feature]


def text(one: Observed) -> str:
    """`structured output: 98 % of the answers that were valid (24 trials, vllm)`."""
    share = one.share or 0.0
    amount = f"{share:.1f}" if one.feature == "continuous_batching" else f"{share:.0%} of the"
    return f"{one.feature.replace('_', ' ')}: {amount} {one.about} ({one.trials} trials, {one.server})"


def _cell(feature: str, engine: str, about: dict[str, Any], evidence: Evidence) -> Cell:
    parts, ids, agrees = [], [], []
    for name, wanted in [*((n, True) for n in about.get("claims", ())), *((n, False) for n in about.get("denies", ()))]:
        if one := seen(engine, name, evidence):
            parts.append(text(one))
            ids.append(one.trial_id)
            agrees.append(holds(one) == wanted)
    parts += _more(feature, engine, evidence)
    verdict: Verdict = "not observed" if not agrees else "agrees" if all(agrees) else "disagrees"
    return Cell(feature=feature, engine=engine, claim=about["claim"], observed="; ".join(parts), verdict=verdict,
                trial_ids=tuple(ids))


def _more(feature: str, engine: str, evidence: Evidence) -> list[str]:
    """What was measured, where the claim is no yes or no."""
    stacks = [c.stack for c in evidence.curves if c.stack.engine == engine]
    machines = {evidence.machine(s.hardware_id).label for s in stacks}
    known = {c.name for c in evidence.capabilities if c.engine == engine and c.kind == "quantization" and c.supported}
    found = {"model compatibility": ("models measured", {s.model for s in stacks}),
             "quantisation": ("measured", {s.quantization for s in stacks}),
             "deployment": ("measured on", machines)}.get(feature)
    said_ = [f"{len(known)} formats by its adapter"] if feature == "quantisation" and known else []
    if found is None or not found[1]:
        return said_
    names = sorted(found[1])
    return [f"{found[0]}: {', '.join(names[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''}", *said_]
