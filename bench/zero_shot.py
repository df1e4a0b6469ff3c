"""Zero-shot prediction's error on public measurements, AIConfigurator's beside it: python -m bench.zero_shot [--peer]

Leaves every configuration (20 folds), stack (20 folds), model and GPU out in turn, learns anew from the rest and
predicts what was left out: some ten minutes on one core. With --peer, AIConfigurator's own estimator, installed into an
environment of its own (some 600 MB), is asked for a sample of the same rows (ten seconds each), and both stand side by
side on the rows that it answered. It is left nothing out: its tables of kernels were measured on these GPUs, with
one version of each engine.

    python -m bench.zero_shot --ways configuration,model --json
    python -m bench.zero_shot --peer --sample 100 --peer-seconds 1500
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench._peers_table import aligned
from engines._packages import Package, environment
from flows import accuracy_zero_shot as accuracy
from flows.public_stacks import pairs
from models.accuracy import ErrorFigure, figure
from models.errors import DynoError, UserError
from models.planning.leaving_out import leave_out
from models.planning.zero_shot import Measured, Prediction

PEER = Package("aiconfigurator", "0.12.0", shelf="tools")
PEER_NAMES = {"meta-llama/Llama-3.1-70B": "meta-llama/Meta-Llama-3.1-70B",
              "meta-llama/Llama-3.1-8B-Instruct": "meta-llama/Meta-Llama-3.1-8B",
              "nvidia/Llama-3.1-8B-Instruct-FP8": "meta-llama/Meta-Llama-3.1-8B",
              "nvidia/Qwen3-32B-NVFP4": "Qwen/Qwen3-32B", "nvidia/DeepSeek-R1-NVFP4": "deepseek-ai/DeepSeek-R1",
              "zhipuai/GLM-5": "zai-org/GLM-5"}
"""Names under which it carries the configs; it would look for others on a network."""
MARKS = {"a configuration": 0.06, "a model": 0.20, "a GPU": 0.14}


def told(step: str, done: float | None = None, detail: str = "") -> None:
    print(f"{step} {'' if done is None else f'{done:.0%}'} {detail}", file=sys.stderr, flush=True)


def question(row: dict[str, Any], one: Measured) -> dict[str, Any]:
    """A row in the peer's words; its batch is an attention group's."""
    s, stack = one.setting, one.setting.stack
    sparse = stack.architecture.experts is not None
    experts = stack.chips if s.expert_parallel else 1
    return {"model_path": PEER_NAMES.get(row["model"], row["model"]), "system_name": row["system"],
            "backend_name": row["backend"], "isl": row["input_tokens"], "osl": row["output_tokens"],
            "batch_size": max(1, round(s.concurrency / stack.attention_groups)),
            "tp_size": stack.chips // stack.attention_groups, "attention_dp_size": stack.attention_groups,
            "moe_tp_size": stack.chips // experts if sparse else None, "moe_ep_size": experts if sparse else None,
            "gemm_quant_mode": row["gemm_quant_mode"], "moe_quant_mode": row["moe_quant_mode"] if sparse else None}


def asked(questions: Sequence[dict[str, Any]], limit_s: float) -> list[dict[str, Any]]:
    """The peer's answers, as many as it gave within the limit, which is said. Raises BuildFailed."""
    python = environment(PEER, told)
    script = Path(__file__).with_name("_zero_shot_peer.py")
    told("AIConfigurator", None, f"{len(questions)} rows")
    text = "".join(json.dumps(one) + "\n" for one in questions)
    try:
        ran = subprocess.run([str(python), "-I", str(script)], input=text, capture_output=True, text=True,
                             timeout=limit_s)
        out, said = ran.stdout, ran.stderr
    except subprocess.TimeoutExpired as late:
        out, said = (part.decode() if isinstance(part, bytes) else part or "" for part in (late.stdout, late.stderr))
        told("AIConfigurator", None, f"stopped after {limit_s:.0f} s")
    answers = [json.loads(line) for line in out.splitlines()]
    if not answers:
        raise UserError(f"AIConfigurator gave no answer; its last words: {said[-500:]}")
    return answers


def beside(ours: dict[str, Sequence[Prediction]], sample: Sequence[int], limit_s: float) -> list[ErrorFigure]:
    """Ours and theirs on the rows of the sample that the peer answered."""
    every = pairs()
    sample = sorted(sample, key=lambda place: (every[place][0]["system"], every[place][0]["backend"]))  # it loads once
    answers = asked([question(*every[place]) for place in sample], limit_s)
    both = [(place, one) for place, one in zip(sample, answers, strict=False) if "tpot_ms" in one]
    for place, one in zip(sample, answers, strict=False):
        if "reason" in one:
            told(f"AIConfigurator has no answer for {every[place][1].setting.labels['stack']}: {one['reason']}")
    truth = [every[place][1].tpot_ms for place, _ in both]
    source = f"{len(both)} of {len(sample)} sampled public rows"
    return [figure("tpot", "peer", "AIConfigurator 0.12.0", source, [one["tpot_ms"] for _, one in both], truth),
            *(figure("tpot", "zero-shot", "ours", f"the same rows, leaving {way} out",
                     [found[place].value for place, _ in both], truth,
                     [(found[place].low, found[place].high) for place, _ in both]) for way, found in ours.items())]


def table(figures: Sequence[ErrorFigure]) -> str:
    def line(one: ErrorFigure) -> list[str]:
        way = next((w for w in MARKS if one.source.endswith(f"leaving {w} out") and "exp(" in one.form), None)
        mark = "" if way is None else f"≤ {MARKS[way]:.0%} {'met' if one.median_ape <= MARKS[way] else 'MISSED'}"
        held = "" if one.interval_coverage is None else f"{one.interval_coverage:.1%}"
        shares = (f"{one.median_ape:.1%}", mark, f"{one.mape:.1%}", held)
        return [f"{one.level}: {one.form}", one.source, *shares, str(one.points)]
    heads = ["level: form", "rows", "median error", "mark", "mean error", "90% interval holds", "points"]
    return aligned(heads, [line(one) for one in figures], [""] * len(figures))


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.zero_shot", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", default="configuration,stack,model,GPU", help="what is left out [default: all]")
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--sample", type=int, default=60, help="rows that the peer is asked for [default: 60]")
    parser.add_argument("--peer-seconds", type=float, default=900.0, help="until the peer is stopped [default: 900]")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    ways = [f"a {name}" for name in options.ways.split(",")]
    if unknown := set(ways) - set(accuracy.WAYS):
        raise UserError(f"--ways: no {', '.join(sorted(unknown))}; there are {', '.join(w[2:] for w in accuracy.WAYS)}")
    rows = [one for _, one in pairs()]
    figures, ours = [accuracy.roofline(rows)], dict[str, Sequence[Prediction]]()
    for way in ways:
        left = accuracy.groups(rows, accuracy.WAYS[way])
        ours[way] = leave_out(rows, left, progress=told)
        figures += [accuracy.physics(rows, left, way), accuracy.zero_shot(rows, ours[way], way)]
    if options.peer:
        sample = np.random.default_rng(1).permutation(len(rows))[:options.sample]
        figures += beside(ours, [int(place) for place in sample], options.peer_seconds)
    print(json.dumps([one.model_dump() for one in figures], indent=1) if options.json else table(figures))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except DynoError as error:
        sys.exit(f"bench.zero_shot: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
