"""What questions about stacks read: as the plain tables say it, and as new as the snapshot."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from polars.testing import assert_frame_equal

from models.choosing.evidence import Curve
from models.planning.calibration import CalibrationRun, CurveKey, news
from models.planning.points import Slots
from tests.models.planning.test_calibration import seen
from tests.warehouse import fake
from warehouse import _schema, calibrations, evidence, reader, writer

MODEL, COLUMN = "synthetic-llama-110m", "tpot_ms_p95"
PLAIN = """
    select w.workload, m.name as model, t.setup_id, t.trial_id, t.concurrency, t.request_rate,
           v.requests_per_second, v.input_tokens_mean, v.output_tokens_mean, v.trust, v.fatal, v.tpot_ms_p95
    from measurements v join trials t using (trial_id) join setups s on s.setup_id = t.setup_id
    join models m on m.model_id = s.model_id join workloads w on w.workload_id = t.workload_id"""


def publish(home: Path) -> None:
    assert writer.ingest(home).failed == []
    writer.publish(home)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two setups; one was also measured under an open loop."""
    for users in (1, 4):
        fake.store(tmp_path, fake.trial(concurrency=users))
        fake.store(tmp_path, fake.trial(fake.setup(quantization="F16"), concurrency=users, requests=200))
    fake.store(tmp_path, fake.trial(request_rate=900.0))
    publish(tmp_path)
    return tmp_path


def curve(home: Path) -> Curve:
    """Of fake.setup()."""
    return next(c for c in evidence.read(home, MODEL).curves if c.stack.setup_id == fake.setup().setup_id)


def test_points_are_as_the_measurements_say(home: Path) -> None:
    rows = reader.query(home, f"{PLAIN} order by trial_id")
    kept = reader.query(home, f"select {', '.join(rows.columns)} from _points order by trial_id")
    assert kept.height == 5
    assert_frame_equal(kept, rows)
    by_trial = {r["trial_id"]: r for r in rows.to_dicts()}
    points = [p for c in evidence.read(home, MODEL).curves for p in c.points]
    assert {p.trial_id for p in points} == set(by_trial)
    assert all((p.values[COLUMN], p.requests_per_second, p.fatal, p.trust) == tuple(
        by_trial[p.trial_id][name] for name in (COLUMN, "requests_per_second", "fatal", "trust")) for p in points)


def test_intervals_are_those_of_their_metric(home: Path) -> None:
    known = {r["trial_id"]: r["intervals"] for r in reader.query(home, "from _measured").to_dicts()}
    place = 2 * _schema.INTERVALS.index(COLUMN)
    found = evidence.read(home, MODEL, values=(COLUMN, "ttft_ms_p95")).curves
    assert {p.trial_id: p.intervals[COLUMN] for c in found for p in c.points} == {
        trial: tuple(ends[place:place + 2]) for trial, ends in known.items()}
    assert all(set(p.intervals) == {"requests_per_second", COLUMN} for c in found for p in c.points)


def test_a_newer_measurement_is_in_the_next_snapshot(home: Path) -> None:
    before = {p.trial_id: p for p in curve(home).points}
    again, more = fake.trial(concurrency=4), fake.trial(concurrency=8)
    fake.store(home, again, started_at="2026-11-22T08:00:00+02:00", replace=True, itl_ms=20.0)
    fake.store(home, more)
    publish(home)
    after = curve(home).points
    assert {p.trial_id for p in after} == {*before, more.trial_id}
    assert after[-1].trial_id == again.trial_id, "points are in the order they were measured in"
    assert after[-1].values[COLUMN] > 2 * before[again.trial_id].values[COLUMN]


def test_a_newer_fit_is_in_the_next_snapshot(home: Path) -> None:
    key = CurveKey(setup_id=fake.setup().setup_id, setup="any", workload=curve(home).workload)
    for day, users in ((20, (1, 4)), (21, (1, 4, 8))):
        found, _ = news({}, {key: ([seen(c) for c in users], Slots())})
        calibrations.write(home, CalibrationRun(at=f"2026-11-{day}T10:00:00+00:00", dyno_version="0.1.0",
                                                calibrations=tuple(found)))
        publish(home)
        fit = curve(home).fit("throughput")
        assert fit is not None and [p.concurrency for p in fit.points] == list(users)


def test_an_older_database_gets_what_questions_read(home: Path) -> None:
    before = evidence.read(home)
    with duckdb.connect(str(home / writer.DATABASE)) as con:
        con.execute("drop table _points; drop table _fits; drop table _stacks; drop table _machines")
        con.execute("delete from _migrations where name = '0020_evidence'; delete from _views")
    publish(home)
    assert evidence.read(home) == before
