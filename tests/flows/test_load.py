"""`dyno load` as a person runs it: the real command against servers that tell the truth."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bench._truth import Truth
from models.frames import OUTCOMES, REQUESTS, TELEMETRY
from tests.conftest import Dyno
from tests.workloads.truth import HEADERS, HOLD, Asked, Step, TruthServer, answer

KEY = "sk-very-secret-0123456789"
STATISTICS = ("mean", "p50", "p90", "p95", "p99")
METRICS = ("ttft_ms", "ttft_from_schedule_ms", "tpot_ms", "itl_ms", "e2e_ms")
SHORT = ("--input-tokens", "20", "--output-tokens", "5")


def flat(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_the_json_has_what_is_promised_and_it_is_true(dyno: Dyno, tmp_path: Path) -> None:
    with Truth(ttft_ms=20, itl_ms=5) as server:
        got = flat(dyno("load", "--url", server.url, "--concurrency", "4", "--requests", "80", "--input-tokens", "50",
                        "--output-tokens", "10", "--json"))
    assert (got["model"], got["requests_ok"], got["requests_failed"]) == ("truth", 80, 0)
    assert {f"{m}_{s}" for m in METRICS for s in STATISTICS} <= got.keys()
    assert {f"requests_{o}" for o in OUTCOMES} <= got.keys() and got["requests_reset"] == 0
    assert all(math.isfinite(got[f"{m}_{s}"]) for m in METRICS for s in STATISTICS)
    assert 19 < got["ttft_ms_p50"] < 40 and 4 < got["tpot_ms_p50"] < 10 and got["e2e_ms_p50"] > 60
    assert got["ttft_from_schedule_ms_p50"] >= got["ttft_ms_p50"] and got["send_delay_ms_p99"] >= 0
    assert got["requests_per_second"] > 10 and got["output_tokens_per_second"] == pytest.approx(
        10 * got["requests_per_second"], rel=0.2)
    assert got["client_cpu_seconds"] > 0 and got["processes"] == 1
    assert got["input_tokens_mean"] == pytest.approx(50, abs=2) and got["output_tokens_mean"] == 10
    assert all({"name", "severity", "detail"} <= v.keys() for v in got["verdicts"])
    assert not list((tmp_path / "home").rglob("*.parquet"))  # nothing is stored


@pytest.mark.parametrize(("fault", "outcome"), [
    ("reset", "reset"), ("close", "truncated"), ("unfinished", "truncated"), ("error", "error_event"),
    ("busy", "http_429"), ("fail", "http_5xx"), ("stall", "timeout"),
])
def test_every_fault_has_its_outcome_and_no_latency(dyno: Dyno, fault: str, outcome: str) -> None:
    with Truth(ttft_ms=5, itl_ms=1, fault=fault, fault_every=3) as server:
        done = dyno("load", "--url", server.url, "--concurrency", "6", "--requests", "60", *SHORT, "--timeout", "1",
                    "--json")
    got = flat(done)
    broken = {o: got[f"requests_{o}"] for o in OUTCOMES if o != "ok" and got[f"requests_{o}"]}
    assert set(broken) == {outcome}, broken
    assert 10 <= broken[outcome] <= 30 and got["requests_failed"] == broken[outcome]
    assert got["requests_ok"] + got["requests_failed"] == 60 and got["e2e_ms_p99"] < 1000


def test_something_else_that_takes_the_processor_of_this_machine_is_said(dyno: Dyno) -> None:
    ask = ("--concurrency", "4", "--duration", "3", *SHORT, "--json")
    with Truth(ttft_ms=5, itl_ms=1) as server, subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            got = flat(dyno("load", "--url", server.url, *ask))
        finally:
            other.kill()
    (said,) = [v for v in got["verdicts"] if v["name"] == "host_busy"]
    assert said["severity"] == "warning" and "cores were busy with something else" in said["detail"]


def test_a_server_that_only_fails_is_said_and_the_exit_code_is_one(dyno: Dyno) -> None:
    with Truth(ttft_ms=5, itl_ms=1, fault="fail", fault_every=1) as server:
        done = dyno("load", "--url", server.url, "--concurrency", "2", "--requests", "6", *SHORT)
    assert done.returncode == 1 and "Traceback" not in done.stderr + done.stdout
    assert "0 requests ok, 6 failed" in done.stdout or "500" in done.stderr


def test_a_person_reads_counts_latencies_and_verdicts(dyno: Dyno) -> None:
    with Truth(ttft_ms=5, itl_ms=1) as server:
        done = dyno("load", "--url", server.url, "--concurrency", "2", "--requests", "20", *SHORT)
    assert done.returncode == 0 and "20 requests ok, 0 failed" in done.stdout and "CPU s" in done.stdout
    for word in ("ttft", "tpot", "itl", "e2e", "p50", "p99", "requests/s", "output tok/s"):
        assert word in done.stdout, word
    assert "few_samples" in done.stdout or "warn" in done.stdout  # of twenty requests there is no p99


def test_a_trace_is_replayed_at_its_own_rate(dyno: Dyno, tmp_path: Path) -> None:
    trace = tmp_path / "talk.jsonl"
    trace.write_text("".join(json.dumps({"timestamp": 50 * i, "input_length": 600 + i, "output_length": 4 + i % 3,
                                         "hash_ids": [0, i]}) + "\n" for i in range(40)))
    with TruthServer() as server:
        got = flat(dyno("load", "--url", server.url, "--trace", trace, "--scale", "0.1", "--requests", "30", "--json"))
    assert got["requests_ok"] == 30 and "20" in got["load"]
    assert got["input_tokens_mean"] == pytest.approx(62, rel=0.1)
    shared = [a.body["prompt"][:60] for a in server.asked if "prompt" in a.body][-30:]
    assert len(set(shared)) < len(shared)  # the first block is the same for all


def test_a_rate_ramps(dyno: Dyno, tmp_path: Path) -> None:
    with Truth(ttft_ms=2, itl_ms=1) as server:
        got = flat(dyno("load", "--url", server.url, "--rate", "10", "--ramp-to", "90", "--arrivals", "constant",
                        "--duration", "2", *SHORT, "--json", "--out", tmp_path / "out"))
    assert got["requests_ok"] == pytest.approx(100, abs=5) and "10 → 90" in got["load"]
    sent = pl.read_parquet(tmp_path / "out" / "requests.parquet").filter(pl.col("phase") == "measured")["planned_ns"]
    half = sent.min() + (sent.max() - sent.min()) / 2  # type: ignore[operator]
    assert (sent > half).sum() > 1.5 * (sent <= half).sum()


def test_a_duration_ends_a_closed_loop(dyno: Dyno) -> None:
    with Truth(ttft_ms=5, itl_ms=1) as server:
        got = flat(dyno("load", "--url", server.url, "--concurrency", "2", "--duration", "1", *SHORT, "--json"))
    assert 20 < got["requests_ok"] < 10_000 and got["duration_s"] < 10
    assert {v["name"] for v in got["verdicts"] if v["severity"] == "fatal"} <= {"client_bound"}  # on a busy machine


def test_two_processes_make_one_result(dyno: Dyno, tmp_path: Path) -> None:
    with Truth(ttft_ms=5, itl_ms=1) as server:
        got = flat(dyno("load", "--url", server.url, "--concurrency", "6", "--requests", "120", "--processes", "2",
                        *SHORT, "--json", "--out", tmp_path / "out"))
        assert server.stats()["running_max"] <= 6
    frame = pl.read_parquet(tmp_path / "out" / "requests.parquet")
    assert got["processes"] == 2 and got["requests_ok"] == 120 and got["client_cpu_seconds"] > 0
    assert frame["request_index"].is_unique().all() and dict(frame.schema) == REQUESTS


def test_a_run_ends_once_it_is_precise_enough(dyno: Dyno) -> None:
    with Truth(ttft_ms=20, itl_ms=5) as server:
        got = flat(dyno("load", "--url", server.url, "--concurrency", "4", "--precision", "0.2", "--requests", "5000",
                        "--input-tokens", "20", "--output-tokens", "10", "--json"))
    assert got["stopped_early"] is True and 8 <= got["requests_ok"] < 4000
    assert not [v for v in got["verdicts"] if v["severity"] == "fatal"]


def test_an_out_folder_holds_the_whole_run_and_is_never_written_over(dyno: Dyno, tmp_path: Path) -> None:
    with Truth(ttft_ms=5, itl_ms=1) as server:
        command = ("load", "--url", server.url, "--concurrency", "2", "--requests", "10", *SHORT, "--json", "--out")
        got = flat(dyno(*command, tmp_path / "deep" / "out"))
        asked = server.stats()["requests"]
        again = dyno(*command, tmp_path / "deep" / "out")
        (tmp_path / "file").write_text("mine")
        over = dyno(*command, tmp_path / "file")
        assert server.stats()["requests"] == asked
        (tmp_path / "empty").mkdir()
        assert dyno(*command, tmp_path / "empty").returncode == 0
    folder = tmp_path / "deep" / "out"
    assert json.loads((folder / "summary.json").read_text()) == got
    assert dict(pl.read_parquet_schema(folder / "requests.parquet")) == REQUESTS
    assert dict(pl.read_parquet_schema(folder / "telemetry.parquet")) == TELEMETRY
    for refused in (again, over):
        assert refused.returncode == 2 and "--out" in refused.stderr and "Traceback" not in refused.stderr
    assert (tmp_path / "file").read_text() == "mine"


BOTH = ("--concurrency", "1", "--rate", "1")
WRONG: list[tuple[tuple[str, ...], str]] = [
    (("--rate", "1", "--arrivals", "nonsense"), "--arrivals nonsense"),
    (("--rate", "1", "--arrivals", "gamma:much"), "'much' is not a number"),
    (("--rate", "1", "--arrivals", "gamma:-1"), "burstiness"),
    (("--rate", "1", "--arrivals", "trace"), "trace"),
    (("--concurrency", "1", "--arrivals", "trace"), "--arrivals is for --rate"),
    (("--concurrency", "1", "--ramp-to", "4"), "--ramp-to"),
    (BOTH, "--concurrency"),
    ((), "--rate"),
    (("--concurrency", "0"), "--concurrency"),
    (("--concurrency", "2", "--processes", "3"), "3 are more than the 2 users"),
    (("--concurrency", "2", "--processes", "2", "--precision", "0.1"), "--precision"),
    (("--concurrency", "2", "--precision", "1"), "--precision"),
    (("--trace", "absent.jsonl"), "absent.jsonl"),
    (("--trace", "absent.jsonl", "--workload", "chat"), "--trace"),
    (("--concurrency", "2", "--workload", "chitchat"), "chitchat"),
    (("--concurrency", "2", "--api", "grpc"), "--api"),
    (("--concurrency", "2", "--model", "other"), "other"),
    (("--concurrency", "2", "--output-tokens", "0"), "--output-tokens"),
    (("--concurrency", "two"), "--concurrency"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[TruthServer]:
    with TruthServer() as truth:
        yield truth


@pytest.mark.parametrize(("options", "says"), WRONG)
def test_a_bad_option_is_one_line(dyno: Dyno, server: TruthServer, options: tuple[str, ...], says: str) -> None:
    streamed = len([a for a in server.asked if a.body.get("stream")])
    done = dyno("load", "--url", server.url, *options)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == (1 if says == "other" else 2) and says in last, done.stderr  # 1: the server's word
    assert "Traceback" not in done.stderr + done.stdout and done.stdout == ""
    assert len([a for a in server.asked if a.body.get("stream")]) == streamed  # no load was sent


@pytest.mark.parametrize("url", ["not a url", "localhost:8080x", "ftp://127.0.0.1", "http://", "http://127.0.0.1:99999",
                                 "http://127.0.0.1:9"])
def test_a_url_that_is_none_or_answers_not_is_one_line(dyno: Dyno, url: str) -> None:
    done = dyno("load", "--url", url, "--concurrency", "1")
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr
    assert [line.startswith("dyno: ") for line in done.stderr.strip().splitlines()[-1:]] == [True], done.stderr


def keyed(asked: Asked) -> Iterator[Step]:
    if asked.headers.get("authorization") != f"Bearer {KEY}":
        body = b'{"error": {"message": "no key"}}'
        yield b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        return
    yield from answer(asked)


def test_a_key_is_sent_and_never_shown_nor_stored(dyno: Dyno, tmp_path: Path) -> None:
    with TruthServer(keyed) as server:
        command = ("load", "--url", server.url, "--concurrency", "2", "--requests", "10", *SHORT)
        done = dyno(*command, "--out", tmp_path / "out", DYNO_API_KEY=KEY)
        refused = dyno(*command, "--json", DYNO_API_KEY="wrong-key-0123456789")
    assert done.returncode == 0 and "10 requests ok" in done.stdout, done.stderr
    assert refused.returncode != 0 and "wrong-key-0123456789" not in refused.stdout + refused.stderr
    assert KEY not in done.stdout + done.stderr
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert files and not [p for p in files if KEY.encode() in p.read_bytes()]


def silent(asked: Asked) -> Iterator[Step]:
    if not asked.body.get("stream"):
        yield from answer(asked)
        return
    yield HEADERS + b"\r\n"
    yield HOLD


def test_a_server_that_says_nothing_ends_by_its_deadline(dyno: Dyno) -> None:
    with TruthServer(silent) as server:
        done = dyno("load", "--url", server.url, "--concurrency", "2", "--requests", "4", *SHORT, "--timeout", "0.5",
                    "--json", timeout=120)
    got = json.loads(done.stdout)
    assert done.returncode == 1 and got["requests_timeout"] == got["requests_failed"] == 4 and got["requests_ok"] == 0
