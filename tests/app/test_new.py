"""What is new, on the explorer's first page: drawn when the watch has seen something, and only then."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from models.releases.release import Release, Seen
from tests.warehouse import fake
from warehouse import releases, writer


def _drawn() -> AppTest:
    def script() -> None:
        from app.views import _new

        _new.draw()

    return AppTest.from_function(script, default_timeout=60).run()


def saw(home: Path, state: Any, why: str, days_ago: float = 0, estimate: str = "", **release: Any) -> None:
    at = (dt.datetime.now(dt.UTC) - dt.timedelta(days=days_ago)).isoformat()
    given = {"kind": "model", "version": "1", "source": "hub: org"} | release
    releases.remember(home, Seen(release=Release(**given), seen_at=at, decided_at=at, state=state, why=why,
                                 estimate=estimate))


def test_releases_are_told_with_what_they_came_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("DYNO_HOME", str(home))
    fake.store(home)
    writer.ingest(home)
    writer.publish(home)
    assert not _drawn().markdown
    saw(home, "evaluated", "cpu: 1 point", name="org/X-8B", content=fake.setup().model.content)
    saw(home, "skipped", "it fits no pool's hardware", name="org/X-700B", estimate="380 GiB are needed")
    saw(home, "waiting", "budget: spent", name="org/X-32B", days_ago=30)
    saw(home, "failed", "cpu: too long ago", name="org/old", days_ago=30)
    writer.ingest(home)
    writer.publish(home)
    drawn = _drawn()
    assert not drawn.exception, drawn.exception
    (line,) = [m.value for m in drawn.markdown]
    assert line.startswith("**New: org/X-8B** seen today :green-badge[evaluated] Best so far: llama-server Q8_0, 4 seq")
    assert "tok/s with 4 at once. 1 point measured." in line
    assert drawn.expander[0].label == "3 releases seen in 14 days: 1 evaluated, 1 waiting, 1 skipped"
    table = drawn.dataframe[0].value
    assert set(table["State"]) == {"evaluated", "waiting", "skipped"}
    assert "it fits no pool's hardware: 380 GiB are needed" in set(table["Why"])
