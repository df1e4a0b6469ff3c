"""`dyno choose`: the answer as people read it, as JSON, and what is wrong with a question."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli_choose import choose
from models.errors import UserError
from tests.choosing import world

MODEL = "synthetic-llama-110m"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.build(tmp_path_factory.mktemp("choose"))


def run(home: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    monkeypatch.setenv("DYNO_HOME", str(home))
    return CliRunner().invoke(choose, arguments, catch_exceptions=True)


def test_the_answer_comes_first_and_what_it_rests_on_after_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(home, monkeypatch, "--model", MODEL, "--workload", "chat", "--rate", "100", "--slo",
               "ttft_ms_p95<=100 tpot_ms_p95<=20")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert " × " in lines[0] and "USD a month" in lines[0]
    for word in ("carries", "headroom", "one instance down", "% likely cheaper than", "basis: capacity measured",
                 "trials ", "price: ", "it changes if: ", "left out: ", "deploy: dyno deploy "):
        assert word in done.output


def test_json_holds_all_of_it_and_guided_adds_the_procedure(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("--model", MODEL, "--workload", "chat", "--concurrency", "20", "--guided")
    found = json.loads(run(home, monkeypatch, *arguments, "--json").output)
    assert found["ranked"][0]["instances"] >= 1 and found["excluded"] and len(found["procedure"]) == 6
    assert len(found["features"]) == 24
    text = run(home, monkeypatch, *arguments).output
    assert all(f"{i}. " in text for i in range(1, 7)) and "survey: " in text and "they " in text


def test_everything_that_fits_and_everything_left_out(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = run(home, monkeypatch, "--model", MODEL, "--workload", "chat", "--rate", "10", "--all", "--slo",
               "ttft_ms_p95<=100 tpot_ms_p95<=20").output
    assert "  1. " in text and "  5. " in text and "no point can be trusted: " in text


def test_a_standard_workload_that_was_not_measured_brings_its_lengths(home: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    found = json.loads(run(home, monkeypatch, "--model", MODEL, "--workload", "code", "--rate", "3", "--json").output)
    assert found["question"]["input_tokens"] > 100 and not found["ranked"]
    assert {e["kind"] for e in found["excluded"]} == {"workload"} and "dyno evaluate" in found["experiment"]


@pytest.mark.parametrize(("arguments", "way_out"), [
    ((), "--model: say which; measured are synthetic-llama-110m"),
    (("--model", "nobody/knows"), "measured are synthetic-llama-110m"),
    (("--model", MODEL, "--workload", "poems"), "measured are chat"),
    (("--model", MODEL, "--rate", "3", "--concurrency", "4"), "either request_rate"),
    (("--model", MODEL, "--slo", "ttft<=3"), "--slo: limit 'ttft<=3'"),
    (("--model", MODEL, "--input-tokens", "3"), "go together"),
    (("--model", MODEL, "--workload", "chat", "--hardware", "abacus"), "neither a kind"),
    (("--model", MODEL, "--workload", "chat", "--price-tier", "gold"), "reserved-1y"),
    (("--model", MODEL, "--workload", "chat", "--needs", "telepathy"), "features are")])
def test_a_question_that_cannot_be_read_says_the_way_out(home: Path, monkeypatch: pytest.MonkeyPatch,
                                                         arguments: tuple[str, ...], way_out: str) -> None:
    done = run(home, monkeypatch, *arguments)
    assert isinstance(done.exception, UserError) and way_out in str(done.exception)


def test_an_empty_home_says_how_to_fill_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(tmp_path, monkeypatch, "--model", MODEL)
    assert isinstance(done.exception, UserError) and "nothing has been measured" in str(done.exception)
