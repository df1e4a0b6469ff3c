"""What changed since it was measured last: in the command's table, and on the explorer's page of versions over time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows import capabilities
from flows.changes import look
from tests.app.drawn import Draw, charts, publish, words
from tests.conftest import Dyno
from tests.warehouse import again
from warehouse import writer


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two versions of one engine, and a rerun of the first."""
    home = tmp_path / "home"
    for day in (1, 2):
        again.evaluated(home, day)
        publish(home)
    writer.set_engines(home, capabilities.of())
    return home


def test_nothing_changed_is_said_and_then_what_did(home: Path, dyno: Dyno, draw: Draw) -> None:
    assert "nothing was measured a second time" in dyno("regressions").stdout
    look(home)
    assert "nothing changed beyond noise" in dyno("regressions").stdout
    app = draw("engines", kind="Versions over time")
    assert [one.value.startswith("Nothing changed beyond noise") for one in app.success] == [True]
    again.evaluated(home, 3, 1.12, "0.3.37")
    publish(home)
    done = dyno("regressions", "--compare", COLUMNS="250")
    assert done.returncode == 0 and "0.3.36" in done.stdout and "0.3.37" in done.stdout and "slower" in done.stdout
    rows = json.loads(dyno("regressions", "--json").stdout)
    said = {(r["verdict"], r["kind"], r["before"], r["after"]) for r in rows}
    assert said == {("slower", "engine", "0.3.36", "0.3.37")}
    assert len(json.loads(dyno("regressions", "--all", "--json").stdout)) > len(rows)
    app = draw("engines", kind="Versions over time")
    changes = next(d.value for d in app.dataframe if "Longer by %" in d.value.columns)
    assert set(changes[""]) == {"▲ slower"} and set(changes["Where"]) == {"all 2 points"}
    assert charts(app) == 1 and "over reruns" in words(app)
    versions = next(d.value for d in app.dataframe if "Version" in d.value.columns and "Trials" in d.value.columns)
    assert dict(zip(versions["Version"], versions["Trials"], strict=True)) == {"0.3.36": 4, "0.3.37": 2}
