"""What the explorer does before it listens."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from app import _warm
from app.views import _data
from tests.choosing import world


def test_the_first_page_is_drawn_before_anybody_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNO_HOME", str(world.build(tmp_path)))
    own, asked = sys.modules["__main__"], list[object]()
    monkeypatch.setattr(_data, "watch", lambda: asked.append("drawn"))
    _warm._draw_once()
    assert asked == ["drawn"] and sys.modules["__main__"] is own


def test_a_page_that_cannot_be_drawn_keeps_nothing_from_being_served(tmp_path: Path,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_warm, "SCRIPT", tmp_path / "gone.py")
    own = sys.modules["__main__"]
    _warm._draw_once()
    assert sys.modules["__main__"] is own
