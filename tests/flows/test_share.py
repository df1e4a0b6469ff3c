"""What an evaluation and a worker do with the place that a team shares; bundles are made by rule."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from flows import ingest, preflight, share
from models.errors import PlaceError
from models.experiment import Expansion
from tests.warehouse import fake
from warehouse import bundles, reader


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DYNO_BUNDLES", str(tmp_path / "place"))
    return tmp_path / "place"


def test_what_another_node_has_measured_is_fetched_instead_of_measured(tmp_path: Path) -> None:
    theirs, ours = fake.trial(seed=1), fake.trial(seed=2)
    fake.store(tmp_path / "a", theirs)
    share.push(tmp_path / "a")
    assert preflight.pending(Expansion([theirs, ours], []), tmp_path / "b").trials == [ours]
    assert bundles.present(tmp_path / "b") == {theirs.trial_id}
    assert len(preflight.pending(Expansion([theirs, ours], []), tmp_path / "b", "all").trials) == 2


def test_a_place_out_of_reach_stops_no_evaluation(tmp_path: Path, place: Path) -> None:
    place.write_text("not mounted")
    assert len(preflight.pending(Expansion([fake.trial()], []), tmp_path / "b").trials) == 1


def test_what_a_broken_link_left_is_sent_when_it_is_back(tmp_path: Path, place: Path) -> None:
    place.write_text("not mounted")
    fake.store(tmp_path / "a")
    with share.pushing(tmp_path / "a", every_s=0.05):
        time.sleep(0.2)
        with pytest.raises(PlaceError):
            share.push(tmp_path / "a")
        place.unlink()
    assert share.pull(tmp_path / "team").count == 1, "at the latest when the worker ends"


def test_a_turn_stores_prices_calibrates_and_publishes_what_is_new(tmp_path: Path) -> None:
    for users in (1, 2, 4, 8):
        fake.store(tmp_path / "a", fake.trial(concurrency=users))
    share.push(tmp_path / "a")
    done = ingest.turn(tmp_path / "team")
    assert (done.pulled.count, done.stored.added, done.published) == (4, 4, True)
    counted = "select count(*), count(price_usd_per_hour) from measurements"
    assert reader.query(tmp_path / "team", counted).row(0) == (4, 4), "this hardware's assumed price is there"
    assert reader.query(tmp_path / "team", "select count(*) from calibrations").item() > 0
    again = ingest.turn(tmp_path / "team")
    assert (again.pulled.count, again.stored.added, again.stored.skipped, again.published) == (0, 0, 4, False)
