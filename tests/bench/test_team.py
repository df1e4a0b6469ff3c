"""The team's bench in short: real processes, no error, no lost row. What it tells of speed is for the bench alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("duckdb_extension_quack", reason="the served warehouse is an extra of its own: llm-dyno[team]")
ROOT = Path(__file__).parent.parent.parent


def test_a_small_team_meets_no_error_and_loses_no_row() -> None:
    argv = ["--seconds", "5", "--readers", "4", "--workers", "2", "--trials", "40", "--requests", "20",
            "--pause", "0.5", "--look", "0.2", "--json"]
    done = subprocess.run([sys.executable, "-m", "bench.team", *argv], cwd=ROOT, capture_output=True, text=True,
                          timeout=300)
    assert done.stdout, done.stderr
    lines = {one["figure"]: one for one in json.loads(done.stdout) if one["row"] == "team"}
    assert [lines[name]["measured"] for name in ("errors", "trials lost", "trials twice", "requests lost")] == [0] * 4
    assert lines["trials measured"]["measured"] > 1 and lines["questions"]["met"], done.stderr
