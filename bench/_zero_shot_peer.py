"""Asks AIConfigurator's estimator, in its own environment: questions as JSON lines in, answers as JSON lines out.

Run by bench.zero_shot; nothing of dyno is imported here. What its measured tables do not cover is asked of its hybrid
mode, which fills them by formula. Its tables are those of one version of each engine: it refuses all others.
"""

import json
import logging
import sys


def answer(question: dict) -> dict:
    """TPOT and TTFT in ms with the mode that gave them, or why there are none."""
    from aiconfigurator.cli.api import cli_estimate

    reason = ""
    for mode in ("SILICON", "HYBRID"):
        try:
            found = cli_estimate(**question, database_mode=mode)
        except (Exception, SystemExit) as error:  # whatever it raises is its answer
            reason = reason or f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        if found.tpot > 0:
            return {"tpot_ms": found.tpot, "ttft_ms": found.ttft, "mode": mode, "version": found.backend_version}
    return {"reason": reason}


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    out = sys.stdout
    sys.stdout = sys.stderr  # what it prints by itself is no answer
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=out, flush=True)
