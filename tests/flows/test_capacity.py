"""`dyno capacity` as a person runs it: on a server of known capacity, and on a real engine whose probes are kept."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench._truth import Truth
from tests.conftest import Dyno
from warehouse import bundles

EXPERIMENT = """
name: most
models: [synthetic-llama-15m]
engines: [{engine: llama_cpp, variant: llama-server}]
quantizations: [Q4_0]
batching: [{max_sequences: 2, context_tokens: 1024, threads: 1}]
workloads: [{name: chat, scale: {input: 0.03, output: 0.03}}]
load: {concurrency: [1]}
limits: ttft_ms_p50<=60000
"""
SERVED = """
name: served
models: [synthetic-llama-15m]
engines:
  {broken}
  - {{engine: llama_cpp, runtime: endpoint, url: "{url}"}}
quantizations: [Q4_0]
workloads: [{{name: chat, scale: {{input: 0.03, output: 0.03}}}}]
load: {{concurrency: [1]}}
limits: ttft_ms_p90<=450
"""
NO_PROGRAM = """#!/bin/sh
[ "$1" = --version ] && echo "version: 5000 (abcdef0)" && exit 0
echo "libgomp.so.1: cannot open shared object file" >&2
exit 127
"""
LIMIT = ("--slo", "e2e_ms_p50<=60000 and ttft_ms_mean<=0.001")


def test_the_largest_concurrency_of_a_server_with_slots(dyno: Dyno) -> None:
    """Two slots of 200 ms an answer: a third user waits for one of them, 4 users wait 200 ms, 6 wait 400."""
    with Truth(ttft_ms=100, itl_ms=50, slots=2) as server:
        done = dyno("capacity", "--url", server.url, "--slo", "ttft_ms_p90<=450", "--output-tokens", "3",
                    "--input-tokens", "8", "--only", "concurrency", "--json")
    assert done.returncode == 0, done.stderr
    got: dict[str, Any] = json.loads(done.stdout)
    answer = got["concurrency"]
    assert answer["estimate"] == pytest.approx(5, abs=1) and answer["keeps"] < answer["breaks"]
    assert answer["low"] <= answer["estimate"] <= answer["high"] <= answer["low"] + 4 and 0 < answer["sure"] <= 1
    assert got["engine_seconds"] == pytest.approx(sum(p["seconds"] for p in got["probes"]))
    assert "request_rate" not in got


def test_the_largest_rate_of_a_server_with_slots(dyno: Dyno) -> None:
    """4 slots of 130 ms; a tenth waits for 260 ms at 27.0 a second, by bench._long_run."""
    with Truth(ttft_ms=40, itl_ms=10, slots=4) as server:
        done = dyno("capacity", "--url", server.url, "--slo", "ttft_ms_p90<=300", "--output-tokens", "10",
                    "--input-tokens", "8", "--only", "rate", "--json")
    assert done.returncode == 0, done.stderr
    got: dict[str, Any] = json.loads(done.stdout)
    answer = got["request_rate"]
    assert "concurrency" not in got and answer["low"] <= answer["keeps"] <= answer["estimate"]
    if any("client_bound" in note for note in got["notes"]):  # a machine too busy to say
        return
    assert answer["estimate"] <= answer["breaks"] <= answer["high"]
    assert answer["estimate"] == pytest.approx(27.0, rel=0.1)


def test_the_answer_comes_first_and_the_probes_after_it(dyno: Dyno) -> None:
    with Truth(ttft_ms=100, itl_ms=50, slots=2) as server:
        done = dyno("capacity", "--url", server.url, "--slo", "ttft_ms_p90<=450", "--output-tokens", "3",
                    "--input-tokens", "8", "--only", "concurrency")
    if "client_bound" in done.stdout:  # a machine too busy to say
        return
    first, limits, cost, heads, *probes = done.stdout.splitlines()
    assert re.fullmatch(r"Largest concurrency: \d+ at once \(95% interval \d+(–\d+)?\)\. \d+ kept the limits, \d+ did"
                        r" not: \d+% sure that it lies between\.", first), done.stdout
    assert limits.startswith("limits ttft_ms_p90 ≤ 450 · http://") and " engine seconds, " in cost
    assert heads.split() == ["load", "measured", "requests", "tok/s", "engine", "s", "limits", "sure"]
    assert len(probes) == int(cost.split()[0]) and all(" at once " in p and "ttft_ms_p90 " in p for p in probes)
    assert any("keeps" in p for p in probes) and any("breaks" in p for p in probes)


def test_a_server_that_never_keeps_the_limit_has_no_capacity(dyno: Dyno) -> None:
    with Truth(ttft_ms=50, itl_ms=1) as server:
        done = dyno("capacity", "--url", server.url, "--slo", "ttft_ms_p50<=10", "--output-tokens", "3",
                    "--input-tokens", "8", "--only", "concurrency")
    assert "Largest concurrency: none: 1 at once already breaks a limit." in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(("options", "says"), [
    ((), "give either an experiment FILE or --url"), (("x.yaml", "--url", "http://127.0.0.1:1"), "give either"),
    (("--url", "http://127.0.0.1:1", "--slo", "ttft_p95<=5"), "perhaps ttft_ms"),
    (("--url", "ftp://127.0.0.1"), "http://host:port"), (("absent.yaml",), "absent.yaml"),
])
def test_a_bad_question_is_one_line(dyno: Dyno, options: tuple[str, ...], says: str) -> None:
    done = dyno("capacity", *options)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr


def test_probes_that_keep_the_limits_are_found_again_and_not_driven(dyno: Dyno, tmp_path: Path) -> None:
    file = tmp_path / "served.yaml"
    with Truth(ttft_ms=100, itl_ms=50, slots=2) as server:
        file.write_text(SERVED.format(url=server.url, broken=""))
        ask = ("capacity", file, "--json", "--only", "concurrency")
        before = json.loads(dyno(*ask).stdout)
        for _ in range(3):  # what a busy machine spoilt is driven again
            asked = server.stats()["requests"]
            done = dyno(*ask)
            after = json.loads(done.stdout)
            if server.stats()["requests"] == asked:
                break
            before = after
    assert done.returncode == 0 and after["engine_seconds"] == 0 and after["probes"]
    kept = {p["trial_id"] for p in before["probes"] if p["keeps"]}
    assert kept and kept <= {p["trial_id"] for p in after["probes"] if p["keeps"] and p["reused"]}
    same = ("keeps", "breaks", "estimate", "low", "high", "sure")
    assert {k: before["concurrency"][k] for k in same} == {k: after["concurrency"][k] for k in same}
    assert kept <= bundles.present(tmp_path / "home")


def test_a_launch_that_fails_is_told_and_the_other_setup_searched(dyno: Dyno, tmp_path: Path) -> None:
    program, file = tmp_path / "llama-server", tmp_path / "served.yaml"
    program.write_text(NO_PROGRAM)
    program.chmod(0o755)
    with Truth(ttft_ms=100, itl_ms=50, slots=2) as server:
        broken = f"- {{engine: llama_cpp, runtime: path, path: {program}}}"
        file.write_text(SERVED.format(url=server.url, broken=broken))
        done = dyno("capacity", file, "--only", "concurrency")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stdout.startswith("Largest concurrency: ")
    assert "failed: " in done.stderr and "libgomp.so.1" in done.stderr
    (failure,) = json.loads(dyno("sql", "from failures", "--json").stdout)
    assert failure["stage"] == "launch"


@pytest.mark.engine
def test_probes_of_an_engine_are_kept_and_taken_again(dyno: Dyno, tmp_path: Path) -> None:
    file = tmp_path / "most.yaml"
    file.write_text(EXPERIMENT)
    ask = ("capacity", file, "--only", "concurrency", "--json", *LIMIT)
    first, second = (dyno(*ask, timeout=600) for _ in range(2))
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    before, after = json.loads(first.stdout), json.loads(second.stdout)
    if any("client_bound" in note for note in before["notes"]):  # on a machine too busy to say, it says that
        assert not before["concurrency"]["keeps"]
        return
    assert before["engine_seconds"] > 0 and after["engine_seconds"] == 0
    assert after["probes"] and all(p["reused"] and p["trial_id"] for p in after["probes"])
    assert before["concurrency"]["keeps"] == after["concurrency"]["keeps"] == 0  # nothing answers in a microsecond
    stored = json.loads(dyno("sql", "select trial_id, trust, fatal, limits from measurements join trials"
                                    " using (trial_id)", "--json").stdout)
    assert {r["trial_id"] for r in stored} == {p["trial_id"] for p in before["probes"]}
    assert all(r["fatal"] for r in stored if "hopeless" in r["trust"] or "clear" in r["trust"])
