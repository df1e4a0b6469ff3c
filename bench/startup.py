"""How long `dyno --help` takes as a whole process: python bench/startup.py [runs]"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path


def main(runs: int) -> None:
    program = Path(sys.executable).with_name("dyno")
    seconds = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        subprocess.run([program, "--help"], stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - started)
    seconds = seconds[1:]
    print(f"dyno --help, {runs} runs: min {min(seconds):.3f} s, median {statistics.median(seconds):.3f} s, "
          f"max {max(seconds):.3f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
