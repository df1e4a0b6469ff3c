"""How wrong the memory formulas are on start-up logs of vLLM: python -m bench.memory CSV [--json]

A row a run, GiB of one GPU: columns model, tp, max_model_len, kv_cache_dtype, gpu_memory_utilization,
init_total_memory_gib, weights_memory_gib, activation_memory_gib, non_torch_forward_gib, kv_cache_memory_gib,
kv_cache_tokens, max_concurrency. Marks: the rough formula several times too high, level 2 with overheads below 2 %.

    python -m bench.memory results.csv
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bench._peers_table import aligned
from flows import accuracy_memory
from models.errors import DynoError
from models.planning import memory
from models.planning.overhead_fit import fit, left_out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    try:
        runs, unknown = accuracy_memory.read_logs(asked.csv)
    except DynoError as error:
        print(error, file=sys.stderr)
        return 2
    figures = accuracy_memory.figures_of(runs, asked.csv.name)
    if asked.json:
        print(json.dumps([f.model_dump() for f in figures], indent=1))
        return 0
    heads, lines = ["model", "GPUs", "logged", "rough", "own log,%", "weights computed,%", "overheads fitted,%"], []
    for run, fitted in zip(runs, left_out(runs), strict=True):
        questions = [accuracy_memory.question(run, run.weights_bytes * run.gpus, run.overheads),
                     accuracy_memory.question(run, None, run.overheads), accuracy_memory.question(run, None, fitted)]
        truth, rough = run.max_concurrency, memory.rough(questions[1])["max_concurrency"]
        lines.append([run.model, str(run.gpus), f"{truth:.2f}", f"×{rough / truth:.1f}",
                      *(f"{100 * (memory.plan(q).max_concurrency / truth - 1):+.2f}" for q in questions)])
    print(aligned(heads, lines, [""] * len(lines)))
    print()
    print(aligned(["quantity", "level", "form", "MAPE,%", "median,%", "runs"],
                  [[f.quantity, f.level, f.form, f"{100 * f.mape:.2f}", f"{100 * f.median_ape:.2f}", str(f.points)]
                   for f in figures], [""] * len(figures)))
    print(f"\nconstants fitted on all of them: {fit(runs)}")
    if unknown:
        print(f"left out, of unknown shape: {', '.join(unknown)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
