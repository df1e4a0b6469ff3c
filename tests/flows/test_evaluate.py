"""The main job on real engines: measured once, resumed after any kill, failures recorded, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import SMALL, Dyno
from warehouse import bundles

pytestmark = pytest.mark.engine


def engines_of(home: Path) -> list[psutil.Process]:
    """Every process whose environment says that it belongs to this home."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("DYNO_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    return found


def gone(home: Path, within_s: float = 30) -> list[psutil.Process]:
    """Waits until nothing of this home runs; returns what still does."""
    deadline = time.monotonic() + within_s
    while (left := engines_of(home)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def test_every_point_is_measured_and_answers(demo_home: Path, dyno: Dyno) -> None:
    rows = json.loads(dyno("sql", "from measurements", "--json", home=demo_home).stdout)
    assert len(rows) == 2 * 2 * 2 + 2
    answered = [r["requests_ok"] + (r["warmup_cut_requests"] or 0) for r in rows]  # a warm-up may have been found
    assert set(answered) == {20} and not any(r["requests_failed"] for r in rows), rows
    assert {r["variant"] for r in rows} == {"llama-server", "llama_cpp.server"}
    assert {r["quantization"] for r in rows} == {"F16", "Q4_K_M"}
    assert all(r["usd_per_million_output_tokens"] > 0 and r["ttft_ms_p95"] >= r["ttft_ms_p50"] > 0 for r in rows)
    assert all(r["output_tokens"] > 0 and r["engine_version"] for r in rows)
    printed = (demo_home / "stdout.txt").read_text()
    assert "Answer: " in printed and "USD per million output tokens" in printed


def test_nothing_runs_after_it(demo_home: Path) -> None:
    assert gone(demo_home) == []


def test_the_impossible_is_listed(demo_home: Path, dyno: Dyno) -> None:
    rows = json.loads(dyno("evaluate", SMALL, "--dry-run", "--json", home=demo_home).stdout)
    states = [r["state"] for r in rows]
    assert states.count("measured") == 10 and states.count("to measure") == 0
    (skipped,) = {r["reason"] for r in rows if r["state"] == "cannot be measured"}
    assert "max_sequences" in skipped


def test_a_second_run_measures_nothing(demo_home: Path, dyno: Dyno) -> None:
    before = {p: p.stat().st_mtime_ns for p in (demo_home / "bundles").rglob("*")}
    done = dyno("evaluate", SMALL, home=demo_home)
    assert done.returncode == 0, done.stderr
    assert {p: p.stat().st_mtime_ns for p in (demo_home / "bundles").rglob("*")} == before


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_run_loses_no_finished_trial_and_goes_on(tmp_path: Path, demo_home: Path, dyno: Dyno,
                                                          sign: signal.Signals) -> None:
    home = tmp_path / "home"
    run = subprocess.Popen([sys.executable, "-m", "app", "evaluate", str(SMALL)], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, env={**os.environ, "DYNO_HOME": str(home)})
    deadline = time.monotonic() + 300
    while not bundles.present(home) and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(sign)
    assert run.wait(60) != 0
    assert gone(home) == []
    finished = bundles.present(home)
    assert 1 <= len(finished) < 10
    stamps = {t: (home / "bundles" / t / "measurement.json").stat().st_mtime_ns for t in finished}
    done = dyno("evaluate", SMALL, home=home)
    assert done.returncode == 0, done.stderr
    assert len(bundles.present(home)) == 10
    assert {t: (home / "bundles" / t / "measurement.json").stat().st_mtime_ns for t in finished} == stamps
    count = json.loads(dyno("sql", "select count(*) as n from measurements", "--json", home=home).stdout)
    assert count == [{"n": 10}]


def test_a_failed_launch_is_recorded_and_the_sweep_goes_on(tmp_path: Path, dyno: Dyno) -> None:
    home, file = tmp_path / "home", tmp_path / "x.yaml"
    file.write_text("""
name: broken
models: [synthetic-llama-15m]
engines:
  - {engine: llama_cpp, extra_args: [--no-such-flag]}
  - {engine: llama_cpp}
quantizations: [Q4_K_M]
workloads: [{name: chat, scale: {input: 0.02, output: 0.02}}]
load: {concurrency: [1], requests: 2}
""")
    done = dyno("evaluate", file)
    assert done.returncode == 1
    assert "--no-such-flag" in done.stderr and "Traceback" not in done.stderr
    assert len(bundles.present(home)) == 1 and gone(home) == []
    (failure,) = json.loads(dyno("sql", "from failures", "--json").stdout)
    assert failure["stage"] == "launch" and "--no-such-flag" in failure["command"]
    assert "no-such-flag" in failure["log_tail"] and failure["exit_code"] not in (0, None)


def test_two_evaluations_of_one_home_do_not_spoil_each_other(tmp_path: Path, dyno: Dyno) -> None:
    from filelock import FileLock

    home = tmp_path / "home"
    home.mkdir()
    with FileLock(home / "evaluate.lock"):
        done = dyno("evaluate", SMALL)
    assert done.returncode == 2 and "another evaluation is running" in done.stderr
