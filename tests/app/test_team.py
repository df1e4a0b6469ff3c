"""A team with the real commands: a worker pushes, the writer ingests, the warehouse is served, others ask it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.drawn import words
from tests.conftest import run_dyno
from tests.warehouse import fake
from warehouse import bundles, reader

pytest.importorskip("duckdb_extension_quack", reason="the served warehouse is an extra of its own: llm-dyno[team]")
ANNA, BEN = "annas-token-of-some-length", "bens-token-of-some-length"
PAGES = ("compare", "curves", "runs", "engines", "choose", "sql")


class Team(NamedTuple):
    worker: Path
    home: Path
    place: Path
    tokens: Path
    served: str
    server: subprocess.Popen[str]


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """One worker's bundles, pushed, ingested and served."""
    folder = tmp_path_factory.mktemp("team")
    worker, home, place, tokens = (folder / name for name in ("worker", "home", "place", "tokens"))
    for users in (1, 4, 8):
        fake.store(worker, fake.trial(concurrency=users))
    tokens.write_text(f"anna {ANNA}\n")
    for done in (run_dyno("push", "--json", home=worker, DYNO_BUNDLES=str(place)),
                 run_dyno("ingest", "--json", home=home, DYNO_BUNDLES=str(place))):
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"pulled": 3, "added": 3, "there": 0, "published": True, "left_out": []}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = [sys.executable, "-u", "-m", "app", "serve", "--listen", f"127.0.0.1:{port}", "--tokens", str(tokens)]
    environment = {**os.environ, "DYNO_HOME": str(home)}
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout and f"quack:127.0.0.1:{port} to anna" in server.stdout.readline()
            yield Team(worker, home, place, tokens, f"quack:127.0.0.1:{port}", server)
        finally:
            server.kill()


def test_the_same_commands_answer_from_there(team: Team, tmp_path: Path) -> None:
    asked: list[dict[str, str]] = [{"DYNO_WAREHOUSE": team.served, "DYNO_TOKEN": ANNA}, {}]
    for command in (["sql", "from measurements order by trial_id", "--json"], ["runs", "--json"],
                    ["choose", "--model", "synthetic-llama-110m", "--workload", "chat", "--rate", "2", "--json"]):
        there, here = (run_dyno(*command, home=tmp_path if env else team.home, **env) for env in asked)
        assert (there.returncode, there.stdout) == (0, here.stdout), there.stderr
    shown = run_dyno("show", sorted(bundles.present(team.home))[0][:8], home=tmp_path, **asked[0])
    assert shown.returncode == 0 and "llama-server -np 4" in shown.stdout
    refused = run_dyno("sql", "select 1", home=tmp_path, DYNO_WAREHOUSE=team.served, DYNO_TOKEN=BEN)
    assert refused.returncode == 2 and "does not know this token" in refused.stderr and BEN not in refused.stderr


def test_the_explorer_shows_what_is_served(team: Team, tmp_path: Path, draw: Callable[..., AppTest],
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNO_TOKEN", ANNA)
    monkeypatch.setenv("DYNO_HOME", str(tmp_path))
    monkeypatch.setenv("DYNO_WAREHOUSE", team.served)
    assert "3 measurements" in words(draw("compare"))
    for page in PAGES:
        draw(page)
    draw("runs", run=min(bundles.present(team.home)))


def test_what_is_pushed_later_and_who_is_let_in_later_is_served(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNO_TOKEN", BEN)
    fake.store(team.worker, fake.trial(concurrency=16))
    assert run_dyno("push", home=team.worker, DYNO_BUNDLES=str(team.place)).stdout == "sent 1 bundles\n"
    assert run_dyno("ingest", home=team.home, DYNO_BUNDLES=str(team.place)).returncode == 0
    team.tokens.write_text(f"anna {ANNA}\nben {BEN}\n")
    assert team.server.stdout
    while "tokens read again: anna, ben" not in (line := team.server.stdout.readline()):
        assert line, "the server has ended"
    deadline = time.monotonic() + 60
    while reader.query(Path(team.served), "select count(*) from trials").item() < 4 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert reader.query(Path(team.served), "select count(*) from trials").item() == 4


def test_a_server_that_is_told_to_stop_is_gone_and_that_is_said(team: Team, tmp_path: Path) -> None:
    team.server.send_signal(signal.SIGTERM)
    assert team.server.wait(timeout=60) == 143
    done = run_dyno("sql", "select 1", home=tmp_path, DYNO_WAREHOUSE=team.served, DYNO_TOKEN=ANNA)
    assert done.returncode == 2 and done.stderr.startswith(f"dyno: {team.served} does not answer"), done.stderr


@pytest.mark.parametrize(("command", "says"), [
    (["push"], "DYNO_BUNDLES: is not set"), (["serve", "--listen", "nowhere:at:all"], "--listen: "),
    (["serve", "--tokens", "absent.txt"], "--tokens: absent.txt: "),
])
def test_a_mistake_is_one_line(tmp_path: Path, command: list[str], says: str) -> None:
    done = run_dyno(*command, home=tmp_path / "home", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith(f"dyno: {says}"), done.stderr
