"""Every way an engine may fail, in one sweep of real processes: each is recorded, nothing stays, the rest goes on.

The engine that fails is a file of its own (`engines/faulty.py`), found because its folder is one of the engines'.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engines._llama_build import toolchain
from tests.conftest import Dyno
from tests.flows.test_evaluate import gone

pytestmark = pytest.mark.engine
HERE = Path(__file__).parent / "engines"
DYNO = "import engines, sys; engines.__path__.append(sys.argv.pop(1)); from app.cli import main; main()"
SWEEP = """
name: failures
models: [synthetic-llama-15m]
engines:
  - {engine: faulty, runtime: path, variant: crashes}
  - {engine: faulty, runtime: path, variant: exhausts}
  - {engine: faulty, runtime: path, variant: hangs}
  - {engine: faulty, runtime: path, variant: dies}
  - {engine: faulty, runtime: path, variant: babbles}
  - {engine: faulty, runtime: path, variant: degrades}
  - {engine: llama_cpp}
quantizations: [F16]
workloads: [{name: chat, scale: {input: 0.02, output: 0.05}}]
load: {concurrency: [2], requests: 20}
launch_timeout_s: 20
"""


def evaluate(home: Path, text: str) -> subprocess.CompletedProcess[str]:
    """The real command, with one more folder of engines."""
    file = home.parent / "sweep.yaml"
    file.write_text(text)
    return subprocess.run([sys.executable, "-c", DYNO, str(HERE), "evaluate", str(file)], capture_output=True,
                          text=True, timeout=600, env={**os.environ, "DYNO_HOME": str(home)})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home after a sweep in which all but one engine failed."""
    home = tmp_path_factory.mktemp("failures") / "home"
    done = evaluate(home, SWEEP)
    (home / "stderr.txt").write_text(done.stderr)
    assert done.returncode == 1 and "flows/evaluate.py" not in done.stderr, done.stdout + done.stderr
    return home


@pytest.fixture
def failures(home: Path, dyno: Dyno) -> dict[str, dict[str, Any]]:
    """By variant."""
    rows = json.loads(dyno("sql", "from failures", "--json", home=home).stdout)
    return {row["variant"]: row for row in rows}


def test_one_that_crashes_at_start(failures: dict[str, dict[str, Any]]) -> None:
    row = failures["crashes"]
    assert row["stage"] == "launch" and "ended before it was ready" in row["error"] and row["exit_code"] == 1
    assert row["log_tail"].endswith("error: unrecognized arguments: --no-such-flag")
    assert "faulty.py crashes" in row["command"]


def test_one_that_runs_out_of_memory_at_start(failures: dict[str, dict[str, Any]]) -> None:
    row = failures["exhausts"]
    assert row["stage"] == "launch" and "MemoryError" in row["log_tail"] and row["exit_code"] == 1


def test_one_that_hangs_before_it_is_ready(failures: dict[str, dict[str, Any]]) -> None:
    row = failures["hangs"]
    assert row["stage"] == "launch" and "was not ready after 20 s: nothing listened" in row["error"]
    assert row["log_tail"] == "starting to serve, hangs"


def test_one_that_dies_in_mid_load(failures: dict[str, dict[str, Any]]) -> None:
    row = failures["dies"]
    assert row["stage"] == "load" and "ended while it was in use" in row["error"] and row["exit_code"] == 3
    assert "panic: illegal memory access" in row["log_tail"]


def test_one_that_answers_rubbish_at_once(failures: dict[str, dict[str, Any]]) -> None:
    row = failures["babbles"]
    assert row["stage"] == "launch" and "did not answer its first request with a completion" in row["error"]
    assert "an old silent pond" in row["error"] and "POST /v1/completions" in row["log_tail"]


def test_one_that_answers_rubbish_under_load(home: Path, failures: dict[str, dict[str, Any]], dyno: Dyno) -> None:
    """It never failed to run: its requests failed, which is data, and the point feeds no answer."""
    assert "degrades" not in failures
    (row,) = json.loads(dyno("sql", "select * from measurements where variant = 'degrades'", "--json",
                             home=home).stdout)
    assert row["requests_failed"] > 10 and row["trust"] != "ok"


def test_the_sweep_went_on_and_everything_is_gone(home: Path, dyno: Dyno) -> None:
    (row,) = json.loads(dyno("sql", "select * from measurements where engine = 'llama_cpp'", "--json",
                             home=home).stdout)
    assert row["requests_ok"] + (row["warmup_cut_requests"] or 0) == 20 and row["requests_failed"] == 0
    assert gone(home) == []
    said = (home / "stderr.txt").read_text()
    assert all(variant in said for variant in ("crashes", "exhausts", "hangs", "dies", "babbles"))


def test_the_real_llama_server_out_of_memory(tmp_path: Path, dyno: Dyno) -> None:
    """A KV cache of gigabytes, and one gigabyte to have it in."""
    program = tmp_path / "llama-server"
    program.write_text(f'#!/bin/sh\nulimit -v 1000000\nexec {toolchain().programs / "llama-server"} "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    done = evaluate(tmp_path / "home", f"""
name: exhausted
models: [synthetic-llama-15m]
engines:
  - {{engine: llama_cpp, runtime: path, path: {program}, batching: [{{max_sequences: 64, context_tokens: 2048}}, {{}}]}}
quantizations: [F16]
kv_types: [f32]
workloads: [{{name: chat, scale: {{input: 0.02, output: 0.05}}}}]
load: {{concurrency: [1], requests: 2}}
""")
    assert done.returncode == 1, done.stdout + done.stderr
    (row,) = json.loads(dyno("sql", "from failures", "--json").stdout)
    assert row["stage"] == "launch" and row["exit_code"] not in (0, None)
    assert "failed to allocate" in row["log_tail"]
    (good,) = json.loads(dyno("sql", "from measurements", "--json").stdout)
    assert good["requests_ok"] == 2 and gone(tmp_path / "home") == []
