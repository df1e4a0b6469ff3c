"""The comparison with other load generators: what is read from their reports, what a run cost, and what failed."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from bench import _peers_tokenizer
from bench._peers_agree import Agreement
from bench._peers_agree import table as agreement_table
from bench._peers_run import Ready, ToolFailed, run
from bench._peers_table import Row, table
from bench._peers_tools import TOOLS, Ask, Figures, Tool
from bench.peers import parse
from models.errors import UserError

TRUTH = Figures(10, 20.0, 20.0, 10.0, 1000.0)
ASK = Ask("http://127.0.0.1:1", "m", Path("/tokenizer"), 2, 10, 64, 100, 1, Path())


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNO_CACHE", str(tmp_path / "cache"))


def fake(script: str, tmp_path: Path) -> Ready:
    """A tool that is a Python script; it runs in the folder for its report."""
    program = tmp_path / "fake.py"
    program.write_text(script)
    tool = Tool("fake", None, lambda python, ask: [str(python), str(program)],
                lambda ask: Figures(*json.loads((ask.out / "report.json").read_text())))
    return Ready(tool, Path(sys.executable), "1")


def test_the_cpu_of_a_run_holds_processes_that_detached_themselves(tmp_path: Path) -> None:
    script = """
import json, os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while time.process_time() < 0.5: pass
        json.dump([10, 1, 2, 3, 4], open("report.json.part", "w"))
        os.rename("report.json.part", "report.json")
    os._exit(0)
os.wait()
while not os.path.exists("report.json"): time.sleep(0.01)
"""
    ran = run(fake(script, tmp_path), ASK, 60.0)
    assert ran.figures == Figures(10, 1, 2, 3, 4)
    assert 0.5 <= ran.cpu_s < 60


@pytest.mark.parametrize(("script", "reason"), [
    ("print('no room'); raise SystemExit(3)", "exit code 3.*no room"),
    ("import json; json.dump([0, 1, 2, 3, 4], open('report.json', 'w'))", "0 of 10 requests succeeded"),
    ("open('report.json', 'w').write('{')", "no report"),
])
def test_a_tool_that_fails_says_why(tmp_path: Path, script: str, reason: str) -> None:
    with pytest.raises(ToolFailed, match=reason):
        run(fake(script, tmp_path), ASK, 60.0)


def test_failed_requests_are_noted_beside_the_figures(tmp_path: Path) -> None:
    script = "import json; json.dump([9, 1, 2, 3, 4, 'and more'], open('report.json', 'w'))"
    ran = run(fake(script, tmp_path), ASK, 60.0)
    assert ran.figures.note.startswith("9 of 10 requests succeeded")
    assert ran.figures.note.endswith("and more")


def test_a_tool_that_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="still running after"):
        run(fake("import time; time.sleep(600)", tmp_path), ASK, 0.5)


def test_each_tool_s_report_is_read(tmp_path: Path) -> None:
    (tmp_path / "vllm.json").write_text(json.dumps({
        "completed": 10, "p50_ttft_ms": 1, "p99_ttft_ms": 2, "mean_tpot_ms": 3, "output_throughput": 4,
        "total_output_tokens": 1000}))
    (tmp_path / "aiperf").mkdir()
    (tmp_path / "aiperf/profile_export_aiperf.json").write_text(json.dumps({
        "time_to_first_token": {"count": 10.0, "p50": 1, "p99": 2}, "inter_token_latency": {"avg": 3},
        "output_token_throughput": {"avg": 4}}))
    (tmp_path / "guidellm.json").write_text(json.dumps({"benchmarks": [{"metrics": {
        "request_totals": {"successful": 10},
        "time_to_first_token_ms": {"successful": {"percentiles": {"p50": 1, "p99": 2}}},
        "inter_token_latency_ms": {"successful": {"mean": 3}},
        "output_tokens_per_second": {"successful": {"mean": 4}}}}]}))
    (tmp_path / "dyno").mkdir()
    (tmp_path / "dyno/summary.json").write_text(json.dumps({
        "requests_ok": 10, "ttft_ms_p50": 1, "ttft_ms_p99": 2, "tpot_ms_mean": 3, "output_tokens_per_second": 4}))
    ask = dataclasses.replace(ASK, out=tmp_path)
    assert {name: tool.read(ask) for name, tool in TOOLS.items()} == dict.fromkeys(TOOLS, (10, 1, 2, 3, 4, ""))


def test_tokens_that_vllm_counts_from_text_are_replaced_by_those_sent(tmp_path: Path) -> None:
    (tmp_path / "vllm.json").write_text(json.dumps({
        "completed": 10, "p50_ttft_ms": 1, "p99_ttft_ms": 2, "mean_tpot_ms": 9.5, "output_throughput": 105,
        "total_output_tokens": 1050, "mean_e2el_ms": 1010, "mean_ttft_ms": 20, "duration": 10}))
    figures = TOOLS["vllm"].read(dataclasses.replace(ASK, out=tmp_path))
    assert figures[3:5] == (10.0, 100.0)
    assert "1050 tokens where 1000 were sent" in figures.note


@pytest.mark.parametrize("name", TOOLS)
def test_every_tool_is_asked_for_the_same_load(name: str) -> None:
    command = " ".join(TOOLS[name].command(Path("/environment/bin/python"), ASK))
    assert command.startswith("/environment/bin/")
    for asked in (ASK.url, "64", "100", "10", "2"):
        assert asked in command


def test_errors_stand_before_figures_and_a_reason_takes_their_place() -> None:
    rows = [Row("truth", "", 2, TRUTH, TRUTH), Row("one", "1.0", 2, TRUTH, Figures(10, 21.0, 25.0, 10.1, 900.0)),
            Row("two", "2.0", 2, TRUTH, reason="it would not")]
    truth, one, two = table(rows).splitlines()[2:]
    assert truth.split()[:3] == ["truth", "2", "+0.0"]
    assert one.split()[3:11] == ["+1.0", "+5.0", "+1.00", "-10.0", "21.0", "25.0", "10.100", "900"]
    assert two.endswith("it would not")
    assert rows[1].flat()["tpot_error_percent"] == pytest.approx(1.0)
    assert rows[2].flat()["reason"] == "it would not"


def test_agreement_is_a_difference_in_per_cent_of_the_peer() -> None:
    row = Agreement(1, "tpot_ms_mean", "vllm", 10.1, 10.0, 0.5)
    assert row.difference_percent == pytest.approx(1.0)
    assert row.level_difference_percent is None
    assert "+1.00" in agreement_table([row])
    slowed = Agreement(1, "tpot_ms_mean", "aiperf", 10.0, 12.0, 0.5, 9.9, 11.88)
    assert slowed.level_difference_percent == pytest.approx(0.0)
    assert dataclasses.replace(slowed, figure="output_tokens_per_second", dyno_value=120.0, peer_value=100.0,
                               ).level_difference_percent == pytest.approx(0.0)
    assert Agreement(1, "tpot_ms_mean", "vllm", reason="vllm: no").difference_percent is None


def test_a_tokenizer_is_whole(tmp_path: Path) -> None:
    folder = _peers_tokenizer.write(tmp_path / "tokenizer")
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    assert sorted(model["vocab"].values()) == list(range(len(model["vocab"])))
    assert all(first in model["vocab"] and second in model["vocab"] and first + second in model["vocab"]
               for first, second in model["merges"])


@pytest.mark.parametrize(("argv", "reason"), [
    (["--tools", "dyno,wrk"], "--tools wrk"), (["--streams", "1,x"], "--streams 1,x"),
    (["--agree", "--url", "http://127.0.0.1:1", "--model", "m"], "--tokenizer are needed"),
    (["--agree", "--url", "u", "--model", "m", "--tokenizer", "/none"], "--tokenizer /none"),
])
def test_wrong_options_are_named(argv: list[str], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        parse(argv)
