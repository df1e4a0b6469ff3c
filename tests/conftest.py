"""Fixtures for every test: dyno's state in a folder of its own; engines and checkpoints from the shared cache."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Dyno = Callable[..., subprocess.CompletedProcess[str]]
SMALL = Path(__file__).parent / "flows" / "small.yaml"


@pytest.fixture(scope="session", autouse=True)
def _own_locks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test waits for what else is measured on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DYNO_LOCKS", str(tmp_path_factory.mktemp("locks")))
        yield


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the state of whoever runs it."""
    monkeypatch.setenv("DYNO_HOME", str(tmp_path / "home"))


def run_dyno(*arguments: str | Path, home: Path, timeout: float = 900, cwd: Path | None = None,
             **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the real command in a process of its own, as a person would."""
    return subprocess.run([sys.executable, "-m", "app", *map(str, arguments)], capture_output=True, text=True,
                          timeout=timeout, cwd=cwd, env={**os.environ, "DYNO_HOME": str(home), **environment})


@pytest.fixture
def dyno(tmp_path: Path) -> Dyno:
    """`dyno(*arguments)` on this test's own home."""
    def run(*arguments: str | Path, home: Path | None = None, **more: object) -> subprocess.CompletedProcess[str]:
        return run_dyno(*arguments, home=home or tmp_path / "home", **more)  # type: ignore[arg-type]
    return run


@pytest.fixture(scope="session")
def demo_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DYNO_HOME filled by a real evaluation of real servers; read it, never write to it."""
    home = tmp_path_factory.mktemp("demo") / "home"
    done = run_dyno("evaluate", SMALL, home=home, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    (home / "stdout.txt").write_text(done.stdout)
    return home
