"""Versions and reruns compared through the warehouse: what was replaced is kept, a slowdown is told, noise is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.changes import look
from models.errors import BundleError
from tests.warehouse import again, fake
from warehouse import earlier, reader, regressions, writer


def publish(home: Path) -> None:
    writer.ingest(home)
    writer.publish(home)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    again.evaluated(tmp_path, 1)
    publish(tmp_path)
    return tmp_path


def test_ten_unchanged_reruns_are_silent_and_then_a_slower_version_is_told(home: Path) -> None:
    for day in range(2, 12):
        ids = again.evaluated(home, day, common=0.015)
        publish(home)
        assert look(home, ids).changed == [], day
    assert reader.query(home, "select count(*) from earlier").item() == 20
    ids = again.evaluated(home, 12, 1.1, "0.3.37")
    publish(home)
    found = look(home, ids)
    assert {one.verdict for one in found.changed} == {"slower"} and found.changed[0].kind == "engine"
    told = reader.user_sql(home, "from regressions where setup is null")
    assert told.height == 3 and told["before"].unique().to_list() == ["0.3.36"]
    assert told.filter(figure="e2e_from_schedule_ms")["percent"].item() == pytest.approx(10, abs=4)
    assert told.filter(figure="e2e_from_schedule_ms")["points"].item() == 2


def test_what_was_measured_before_is_kept_on_disk_and_survives_a_rebuild(home: Path) -> None:
    again.evaluated(home, 2, 1.3)
    publish(home)
    look(home)
    history = "select trial_id, started_at, newest, output_tokens_per_second from history order by all"
    before = reader.query(home, history)
    assert before.height == 4 and before["newest"].sum() == 2
    assert before["output_tokens_per_second"].null_count() == 0
    changed = reader.query(home, "select text from regressions order by all")
    assert changed.height > 0 and len(list(earlier.folder(home).glob("*.json"))) == 2
    assert writer.ingest(home).failed == [] and len(list(earlier.folder(home).glob("*.json"))) == 2
    writer.rebuild(home)
    writer.publish(home)
    assert reader.query(home, history).equals(before)
    assert reader.query(home, "select text from regressions order by all").equals(changed)


def test_only_the_series_of_what_was_measured_are_looked_at(home: Path) -> None:
    ids = again.evaluated(home, 2)
    fake.store(home, fake.trial(concurrency=2))
    publish(home)
    assert len(regressions.runs(home, ids[:1])) == 2 and len(regressions.runs(home)) == 5
    assert regressions.runs(home, []) == []


def test_an_earlier_measurement_that_cannot_be_read_is_left_out_and_named(home: Path) -> None:
    earlier.folder(home).mkdir()
    bad = earlier.folder(home) / "0123456789abcdef-20261101T000000.000000.json"
    bad.write_text("{")
    assert [path for path, _ in writer.ingest(home).failed] == [bad]
    with pytest.raises(BundleError, match="is not an earlier measurement"):
        earlier.read(bad)
