"""`dyno deploy`: its command line really serves; the rest is in tests/engines/test_deployment.py."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest
import yaml
from click.testing import CliRunner

from app.cli_deploy import deploy
from models.choosing.choose import choose
from models.choosing.question import Question
from models.errors import UserError
from tests.warehouse import fake
from warehouse import evidence, reader, writer

KEY = "hunter2"


def run(home: Path, *words: str) -> str:
    done = CliRunner().invoke(deploy, words, env={"DYNO_HOME": str(home)}, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def answer(line: str, port: int, key: str) -> str:
    """Runs a command line in a shell, asks it for one completion and ends it."""
    with subprocess.Popen(["/bin/sh", "-c", f"exec env {line}"], start_new_session=True,
                          env={**os.environ, "MY_KEY": key}, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
                deadline = time.monotonic() + 120
                while time.monotonic() < deadline and process.poll() is None:
                    try:
                        if http.get("/health").status_code == 200:
                            break
                    except httpx.HTTPError:
                        time.sleep(0.2)
                body = {"prompt": "Once upon a time", "max_tokens": 4, "temperature": 0}
                assert http.post("/v1/completions", json=body).status_code == 401, "no key, no answer"
                done = http.post("/v1/completions", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=60)
                done.raise_for_status()
                return str(done.json()["usage"]["completion_tokens"])
        finally:
            os.killpg(process.pid, signal.SIGTERM)


@pytest.mark.engine
def test_the_command_line_serves(demo_home: Path) -> None:
    row = reader.query(demo_home, "from measurements where variant = 'llama-server' limit 1").row(0, named=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    line = run(demo_home, row["trial_id"], "--port", str(port), "--api-key-env", "MY_KEY").strip()
    measured = reader.bundle_of(demo_home, row["trial_id"]).measurement.run.argv
    words = shlex.split(line)[1:]
    assert len(words) == len(measured)
    other = [old for old, new in zip(measured, words, strict=True) if old != new]
    assert other == [measured[measured.index("--port") + 1]], "all but the port is as it was measured"
    assert answer(line, port, KEY) == "4"
    by_setup = run(demo_home, row["setup_id"][:10], "--format", "compose")
    assert yaml.safe_load(by_setup)["services"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    fake.store(tmp_path / "home")
    writer.ingest(tmp_path / "home")
    writer.publish(tmp_path / "home")
    return tmp_path / "home"


def test_what_is_not_there_or_makes_no_sense_is_said(home: Path) -> None:
    trial = reader.query(home, "from measurements")["trial_id"][0]
    for words, said in ((("0" * 12,), "no trial or setup begins"), ((" ",), "no trial begins"),
                        ((trial, "--instances", "2"), "--format compose"),
                        ((), "one of them"), ((trial, "--answer", "x"), "one of them"),
                        (("--answer", str(home / "none.json")), "No such file"),
                        ((trial, "--api-key-env", "sk-secret!"), "give the name, not the key")):
        with pytest.raises(UserError, match=said):
            run(home, *words)


@pytest.mark.engine
def test_json_holds_the_text_and_the_same_as_data(demo_home: Path) -> None:
    row = reader.query(demo_home, "from measurements where variant = 'llama-server' limit 1").row(0, named=True)
    made = json.loads(run(demo_home, row["trial_id"], "--format", "kubernetes", "--json"))
    assert list(yaml.safe_load_all(made["text"])) == made["documents"]
    assert made["image"] and made["trial_id"] == row["trial_id"] and any("tests only" in note for note in made["notes"])


@pytest.mark.engine
def test_what_was_chosen_is_deployed_as_often_as_was_said(demo_home: Path, tmp_path: Path) -> None:
    question = Question(model="15M", workload="chat", concurrency=64, environment="kubernetes",
                        limits="ttft_ms_p95<=60000 tpot_ms_p95<=60000")
    answer = choose(question, evidence.read(demo_home))
    assert answer.best
    (tmp_path / "a.json").write_text(json.dumps(answer.model_dump(mode="json") | {"procedure": []}))
    made = json.loads(run(demo_home, "--answer", str(tmp_path / "a.json"), "--format", "kubernetes", "--json"))
    assert made["setup_id"] == answer.best.stack.setup_id
    assert made["documents"][0]["spec"]["replicas"] == answer.best.instances
