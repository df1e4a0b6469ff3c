"""dyno's TPOT at one request at a time beside llama.cpp's own llama-bench: python bench/against_llama_bench.py

Two instruments on one engine: what llama-bench calls generation speed has no server, no sampling and no HTTP in it, so
dyno's TPOT should be a little above it and never below. Reads the published warehouse (make run fills it), and runs
llama-bench on the same checkpoint with the same threads, at the depth of the trial's mean prompt.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from models.paths import home
from warehouse import reader

QUERY = """
select quantization, workload, threads, model_bytes, input_tokens_mean, output_tokens_mean, tpot_ms_p50, trial_id
from measurements where variant = 'llama-server' and concurrency = 1 and max_sequences = 1 and not fatal
order by workload, model_bytes desc
"""


def llama_bench_ms(argv: list[str], threads: int, depth: int, tokens: int) -> float:
    """Milliseconds a generated token, mean of five runs."""
    program = Path(argv[0]).with_name("llama-bench")
    model = argv[argv.index("--model") + 1]
    said = subprocess.run([program, "-m", model, "-t", str(threads), "-p", "0", "-n", str(tokens), "-d", str(depth),
                           "-r", "5", "-o", "json"], capture_output=True, text=True, check=True)
    return 1e3 / float(json.loads(said.stdout)[0]["avg_ts"])


def main() -> None:
    heads = ("workload", "format", "MB", "threads", "llama-bench ms", "dyno TPOT p50 ms", "ratio")
    print("{:<18}{:<9}{:>6}{:>9}{:>16}{:>18}{:>8}".format(*heads))
    for row in reader.query(home(), QUERY).iter_rows(named=True):
        argv = list(reader.bundle_of(home(), row["trial_id"]).measurement.run.argv)
        own = llama_bench_ms(argv, row["threads"], round(row["input_tokens_mean"]), 32)
        print(f"{row['workload']:<18}{row['quantization']:<9}{row['model_bytes'] / 1e6:>6.0f}{row['threads']:>9}"
              f"{own:>16.2f}{row['tpot_ms_p50']:>18.2f}{row['tpot_ms_p50'] / own:>8.2f}")


if __name__ == "__main__":
    main()
