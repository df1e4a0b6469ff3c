"""`dyno report` by its command; what reports say is tested beside the warehouse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from app.cli_report import report
from models.choosing.choose import choose
from models.choosing.question import Question
from models.errors import UserError
from tests.warehouse import fake
from warehouse import evidence, reader, writer


@pytest.fixture
def home(tmp_path: Path) -> Path:
    fake.store(tmp_path / "home")
    writer.ingest(tmp_path / "home")
    writer.publish(tmp_path / "home")
    return tmp_path / "home"


def run(home: Path, *words: str | Path) -> str:
    done = CliRunner().invoke(report, list(map(str, words)), env={"DYNO_HOME": str(home)}, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_run_is_written_as_html_and_markdown(home: Path, tmp_path: Path) -> None:
    trial = reader.query(home, "from measurements")["trial_id"][0]
    assert run(home, trial[:6], "--html", tmp_path / "r.html", "--markdown", tmp_path / "r.md") == ""
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    assert run(home, trial, "--markdown", "-") == run(home, trial) != ""
    assert json.loads(run(home, trial, "--json"))["title"] in (tmp_path / "r.md").read_text().replace("\\", "")


def test_an_answer_is_read_from_a_file(home: Path, tmp_path: Path) -> None:
    answer = choose(Question(model="synthetic-llama-110m", workload="chat", concurrency=4), evidence.read(home))
    (tmp_path / "a.json").write_text(answer.model_dump_json())
    assert "Which stack for synthetic-llama-110m?" in run(home, "--answer", tmp_path / "a.json")


def test_mistakes_are_said(home: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    for words, said in (((), "one of them"), (("x", "--answer", "y"), "one of them"),
                        (("ffffffff",), "no trial begins"), (("--answer", tmp_path / "bad.json"), "no answer of"),
                        (("--answer", tmp_path / "no"), "No such"), ((tmp_path / "no.yaml",), "no.yaml")):
        with pytest.raises(UserError, match=said):
            run(home, *words)


@pytest.mark.engine
def test_an_evaluation_leaves_its_report(demo_home: Path) -> None:
    (file,) = (demo_home / "reports").glob("*.html")
    ids = reader.query(demo_home, "from measurements")["trial_id"].to_list()
    assert ids and all(trial in file.read_text() for trial in ids)
