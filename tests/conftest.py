"""Fixtures for every test: dyno's state in a folder of its own; engines and checkpoints from the shared cache."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the state of whoever runs it."""
    monkeypatch.setenv("DYNO_HOME", str(tmp_path / "home"))
