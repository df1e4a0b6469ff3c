"""Bundles: whole or not at all, and checked at both ends."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from models.errors import BundleError
from models.frames import REQUESTS
from models.records import Warmup
from tests.warehouse import fake
from warehouse import bundles


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    trial = fake.trial()
    requests = fake.requests_of(trial)
    telemetry = fake.telemetry_of(requests)
    measurement = fake.measurement_of(trial, requests, telemetry)
    path = bundles.write(tmp_path, measurement, requests, telemetry, "a log\n")
    assert path == tmp_path / "bundles" / trial.trial_id
    bundle = bundles.read(path)
    assert bundle.measurement == measurement == bundles.read_measurement(tmp_path, trial.trial_id)
    assert_frame_equal(bundle.requests, requests)
    assert_frame_equal(bundle.telemetry, telemetry)
    assert bundle.engine_log == "a log\n"
    assert bundles.present(tmp_path) == {trial.trial_id}


def test_a_bundle_from_before_a_column_was_known_says_nothing_in_it(tmp_path: Path) -> None:
    path = fake.store(tmp_path)
    file = path / "requests.parquet"
    pl.read_parquet(file).drop("output_valid").write_parquet(file)
    requests = bundles.read(path).requests
    assert requests["output_valid"].null_count() == requests.height and dict(requests.schema) == REQUESTS
    pl.read_parquet(file).drop("sent_ns").write_parquet(file)
    with pytest.raises(BundleError, match="column sent_ns is missing"):
        bundles.read(path)


def test_nothing_is_present_in_a_home_that_does_not_exist(tmp_path: Path) -> None:
    assert bundles.present(tmp_path / "nowhere") == set()


def test_an_existing_bundle_is_replaced_only_when_asked(tmp_path: Path) -> None:
    path = fake.store(tmp_path, started_at="2026-11-20T10:00:00+00:00")
    with pytest.raises(BundleError, match="has a bundle already"):
        fake.store(tmp_path, started_at="2026-11-21T10:00:00+00:00")
    assert bundles.read(path).measurement.started_at.startswith("2026-11-20")
    fake.store(tmp_path, started_at="2026-11-21T10:00:00+00:00", replace=True)
    assert bundles.read(path).measurement.started_at.startswith("2026-11-21")
    assert sorted(p.name for p in path.parent.iterdir()) == [".lock", path.name]


def test_frames_that_do_not_fit_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    trial = fake.trial()
    requests = fake.requests_of(trial)
    telemetry = fake.telemetry_of(requests)
    measurement = fake.measurement_of(trial, requests, telemetry)
    for bad, reason in ((requests.drop("sent_ns"), "column sent_ns is missing"),
                        (requests.with_columns(pl.col("sent_ns").cast(pl.Float64)), "column sent_ns is Float64, not"),
                        (requests.with_columns(x=1), "unknown column x"),
                        (requests.filter(pl.col("request_index") != 5), "holds 22 measured requests that are ok")):
        with pytest.raises(BundleError, match=reason):
            bundles.write(tmp_path, measurement, bad, telemetry, None)
    renamed = measurement.model_copy(update={"trial_id": "0" * 16})
    with pytest.raises(BundleError, match="do not agree"):
        bundles.write(tmp_path, renamed, requests, telemetry, None)
    assert bundles.present(tmp_path) == set()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(("file", "spoil", "reason"), [
    ("measurement.json", Path.unlink, "measurement.json: is missing"),
    ("measurement.json", _truncate, "measurement.json: content: Invalid JSON"),
    ("requests.parquet", Path.unlink, "requests.parquet: is missing"),
    ("requests.parquet", _truncate, "requests.parquet: is not readable as Parquet"),
    ("telemetry.parquet", _truncate, "telemetry.parquet: is not readable as Parquet"),
])
def test_a_spoilt_bundle_names_the_file_and_the_reason(tmp_path: Path, file: str, spoil: object, reason: str) -> None:
    path = fake.store(tmp_path)
    spoil(path / file)  # type: ignore[operator]
    with pytest.raises(BundleError, match=reason) as caught:
        bundles.read(path)
    assert str(path / file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_altered_trial_no_longer_fits_its_name(tmp_path: Path) -> None:
    path = fake.store(tmp_path)
    raw = json.loads((path / "measurement.json").read_text())
    raw["trial"]["seed"] = 7
    (path / "measurement.json").write_text(json.dumps(raw))
    with pytest.raises(BundleError, match="do not agree"):
        bundles.read(path)


def test_what_was_taken_for_warm_up_is_kept_and_older_bundles_say_nothing_of_it(tmp_path: Path) -> None:
    cut = Warmup(method="MSER-5", requests=7, failed=1, seconds=1.25, end_ns=9, because=("TTFT",))
    path = fake.store(tmp_path, warmup=cut)
    assert bundles.read(path).measurement.warmup == cut
    raw = json.loads((path / "measurement.json").read_text())
    del raw["warmup"]
    (path / "measurement.json").write_text(json.dumps(raw))
    assert bundles.read(path).measurement.warmup is None


def test_a_bundle_of_a_newer_dyno_says_so(tmp_path: Path) -> None:
    path = fake.store(tmp_path)
    raw = json.loads((path / "measurement.json").read_text()) | {"schema_version": 99}
    (path / "measurement.json").write_text(json.dumps(raw))
    with pytest.raises(BundleError, match="schema version 99, written by a newer dyno"):
        bundles.read(path)


def test_a_long_log_keeps_its_head_and_tail(tmp_path: Path) -> None:
    log = tmp_path / "raw.log"
    log.write_bytes(b"first line\n" + b"x" * 3 * bundles.LOG_BYTES_MAX + b"\nlast line\n")
    trial = fake.trial()
    requests = fake.requests_of(trial)
    telemetry = fake.telemetry_of(requests)
    path = bundles.write(tmp_path, fake.measurement_of(trial, requests, telemetry), requests, telemetry, log)
    kept = bundles.read(path).engine_log
    assert kept.startswith("first line\n") and kept.endswith("\nlast line\n") and "bytes left out" in kept
    assert len(kept) < bundles.LOG_BYTES_MAX + 100


def test_a_failed_launch_is_kept_with_its_log(tmp_path: Path) -> None:
    first = bundles.write_failure(tmp_path, fake.failure(), "error: bad magic\n")
    second = bundles.write_failure(tmp_path, fake.failure(), None)
    assert bundles.failures(tmp_path) == [first, second]
    assert bundles.read_failure(first) == fake.failure()
    assert (first / "engine.log").read_text() == "error: bad magic\n"
    (second / "failure.json").write_text("{}")
    with pytest.raises(BundleError, match=r"failure\.json: setup_id: Field required"):
        bundles.read_failure(second)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(BundleError, match="cannot be written: No space left on device"):
        fake.store(tmp_path)
    assert [p.name for p in (tmp_path / "bundles").iterdir()] == [".lock"]
