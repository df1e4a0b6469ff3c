"""Programs that provision an engine: read while they run, and failing with their reason."""

import sys
from pathlib import Path

import pytest

from engines._command import run_logged
from engines._python_env import sources
from models.errors import BuildFailed

STEPS = ("import time\nfor i in range(3): print(f'[{i + 1}/3] step', flush=True); time.sleep(0.3)\n"
         "print('no newline', end='')")


def test_lines_come_while_it_runs_and_all_is_logged(tmp_path: Path) -> None:
    log = tmp_path / "logs/build.log"
    lines: list[str] = []
    seen_early: list[int] = []

    def on_line(line: str) -> None:
        lines.append(line)
        seen_early.append(log.read_text().count("step"))

    said = run_logged("counting", [sys.executable, "-c", STEPS], log, on_line=on_line)
    assert lines == ["[1/3] step", "[2/3] step", "[3/3] step"]
    assert seen_early[0] < 3
    assert said == "[1/3] step\n[2/3] step\n[3/3] step\nno newline"
    assert run_logged("again", ["echo", "more"], log) == "more\n"
    assert log.read_text() == said + "more\n"


def test_a_failure_shows_the_tail_and_where_the_log_is(tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    with pytest.raises(BuildFailed, match="compiling failed") as raised:
        run_logged("compiling", ["sh", "-c", "echo earlier; echo error: bad code >&2; exit 2"], log)
    assert raised.value.exit_code == 2
    assert raised.value.log_tail == "earlier\nerror: bad code"
    assert raised.value.log_path == str(log)
    assert "sh -c" in raised.value.command


def test_pips_places_are_passed_on_to_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "/wheels /more")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1/simple")
    sources.cache_clear()
    try:
        assert sources() == ("--find-links", "/wheels", "--find-links", "/more", "--index-url",
                             "http://127.0.0.1/simple")
    finally:
        sources.cache_clear()
