"""Calibrations are files first: kept whole, told when damaged, and rows can be made again from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import BundleError
from models.planning.calibration import CalibrationRun, CurveKey, news
from models.planning.points import Slots
from tests.models.planning.test_calibration import KEY, seen
from warehouse import calibrations, reader, writer


def run(at: str = "2026-11-20T10:00:00+00:00") -> CalibrationRun:
    before, _ = news({}, {KEY: ([seen(1), seen(4), seen(8)], Slots(most=8))})
    fits, unforeseen = news({KEY: before[0]}, {KEY: ([seen(1), seen(4), seen(6, slower=2)], Slots(most=8))})
    return CalibrationRun(at=at, dyno_version="0.1.0", calibrations=tuple(fits), surprises=tuple(unforeseen))


def test_what_is_written_is_read_and_stored_once_and_can_be_rebuilt(tmp_path: Path) -> None:
    path = calibrations.write(tmp_path, run())
    assert calibrations.read(path) == run() and list(calibrations.latest(tmp_path)) == [KEY]
    for _ in range(2):
        assert writer.ingest(tmp_path).failed == []
    assert writer.rebuild(tmp_path).failed == []
    writer.publish(tmp_path)
    rows = reader.query(tmp_path, "select quantity, a, concurrency_high, trial_ids from calibrations").to_dicts()
    assert len(rows) == 3 and all(r["a"] > 0 and r["concurrency_high"] == 6 and len(r["trial_ids"]) == 3 for r in rows)
    assert reader.query(tmp_path, "from surprises where measured between low and high").is_empty()


def test_the_newest_of_a_curve_is_the_one_in_use(tmp_path: Path) -> None:
    calibrations.write(tmp_path, run("2026-11-21T10:00:00+00:00"))
    other, _ = news({}, {CurveKey(**KEY.model_dump()): ([seen(1), seen(2)], Slots())})
    calibrations.write(tmp_path, CalibrationRun(at="2026-11-22T10:00:00+00:00", dyno_version="0.1.0",
                                                calibrations=tuple(other)))
    assert len(calibrations.latest(tmp_path)[KEY].seen) == 2


def test_a_damaged_file_is_named_and_the_rest_is_stored(tmp_path: Path) -> None:
    path = calibrations.write(tmp_path, run())
    whole = calibrations.write(tmp_path, run("2026-11-21T10:00:00+00:00"))
    path.write_text(path.read_text()[:100])
    ((named, reason),) = writer.ingest(tmp_path).failed
    assert named == path and str(path) in reason
    with pytest.raises(BundleError, match="newer dyno"):
        calibrations.read(_newer(whole))


def _newer(path: Path) -> Path:
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    return path
