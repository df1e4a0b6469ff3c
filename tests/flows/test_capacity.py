"""`dyno capacity` as a person runs it: on a server of known capacity, and on a real engine whose probes are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench._truth import Truth
from tests.conftest import Dyno

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
    assert answer["low"] <= answer["estimate"] <= answer["high"] and 0 < answer["sure"] <= 1
    assert got["engine_seconds"] == pytest.approx(sum(p["seconds"] for p in got["probes"]))
    assert "request_rate" not in got


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
