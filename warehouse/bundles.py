"""Bundles: everything of one trial in one folder, written atomically before any database is touched.

    bundles/<trial_id>/measurement.json     the `Measurement`: what was asked, what ran, the summary, the verdicts
                       requests.parquet     one row a request (`models.frames.REQUESTS`)
                       telemetry.parquet    one row a sample (`models.frames.TELEMETRY`)
                       engine.log           what the engine said during this launch (left out where there is no log)
    failures/<setup_id>-<utc>/failure.json, engine.log      a launch that failed is data too
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from pydantic import ValidationError

from models.errors import BundleError
from models.frames import REQUESTS, TELEMETRY
from models.records import SCHEMA_VERSION, Failure, Measurement
from warehouse import _disk

MEASUREMENT, REQUESTS_FILE, TELEMETRY_FILE = "measurement.json", "requests.parquet", "telemetry.parquet"
FAILURE, LOG = "failure.json", "engine.log"
LOG_BYTES_MAX = 2_000_000
"""A longer engine log keeps its head (how it started) and its tail (how it ended), half each."""

LATER_COLUMNS = ("output_valid",)
"""Columns of requests that came after the first bundles were written: where they are missing, nothing is known."""

_TRIAL_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Bundle:
    """One trial as read back from disk and checked."""

    path: Path
    measurement: Measurement
    requests: pl.DataFrame
    telemetry: pl.DataFrame

    @property
    def engine_log(self) -> str:
        """What the engine said, or nothing where it left no log."""
        path = self.path / LOG
        return path.read_text(errors="replace") if path.exists() else ""


def folder(home: Path) -> Path:
    """Where bundles lie."""
    return home / "bundles"


def write(home: Path, measurement: Measurement, requests: pl.DataFrame, telemetry: pl.DataFrame,
          engine_log: Path | str | None, *, replace: bool = False) -> Path:
    """Writes a bundle, whole or not at all, and returns its folder.

    `engine_log` is a file to copy or the text itself. An existing bundle of the same trial is replaced only when
    asked, atomically. Raises BundleError when the parts do not fit together, or the trial has a bundle already.
    """
    parent = folder(home)
    target = parent / measurement.trial_id
    _check(target, measurement, requests, telemetry)
    parent.mkdir(parents=True, exist_ok=True)
    try:
        with _disk.new_folder(parent, target.name, replace) as fresh:
            (fresh / MEASUREMENT).write_text(measurement.model_dump_json(indent=1))
            requests.write_parquet(fresh / REQUESTS_FILE)
            telemetry.write_parquet(fresh / TELEMETRY_FILE)
            _copy_log(engine_log, fresh / LOG)
    except FileExistsError:
        raise BundleError(f"{target}: this trial has a bundle already, and replacing it was not asked for") from None
    except OSError as error:
        raise BundleError(f"{target}: cannot be written: {error.strerror or error}") from error
    return target


def read(path: Path) -> Bundle:
    """Reads a bundle and checks that it is whole. Raises BundleError naming the file and what is wrong with it."""
    measurement = _measurement(path)
    requests = _with_later_columns(_frame(path / REQUESTS_FILE))
    telemetry = _frame(path / TELEMETRY_FILE)
    _check(path, measurement, requests, telemetry)
    return Bundle(path, measurement, requests, telemetry)


def read_measurement(home: Path, trial_id: str) -> Measurement:
    """Reads one trial's `measurement.json` alone. Raises BundleError."""
    return _measurement(folder(home) / trial_id)


def present(home: Path) -> set[str]:
    """Returns the trial_ids that have a bundle: nothing of these has to be measured again."""
    _disk.recover(folder(home))
    return {p.name for p in paths(home) if _TRIAL_ID.fullmatch(p.name) and (p / MEASUREMENT).exists()}


def paths(home: Path) -> list[Path]:
    """Returns every bundle folder, whole or not, in a stable order."""
    parent = folder(home)
    if not parent.is_dir():
        return []
    with os.scandir(parent) as entries:  # many thousands: without a look at each
        names = sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir())
    return [parent / name for name in names]


def write_failure(home: Path, failure: Failure, engine_log: Path | str | None) -> Path:
    """Writes a failed launch with its engine's log, whole or not at all; returns its folder."""
    parent = home / "failures"
    parent.mkdir(parents=True, exist_ok=True)
    name = f"{failure.setup_id}-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S.%fZ}"
    with _disk.new_folder(parent, name) as fresh:
        (fresh / FAILURE).write_text(failure.model_dump_json(indent=1))
        _copy_log(engine_log, fresh / LOG)
    return parent / name


def failures(home: Path) -> list[Path]:
    """Returns the folders of failed launches, in a stable order."""
    parent = home / "failures"
    _disk.recover(parent)
    return sorted(p for p in parent.iterdir() if p.is_dir() and p.name != _disk.PARTIAL) if parent.is_dir() else []


def read_failure(path: Path) -> Failure:
    """Reads a failed launch. Raises BundleError naming the file and the reason."""
    file = path / FAILURE
    try:
        return Failure.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise BundleError(f"{file}: is missing") from None
    except ValidationError as error:
        raise BundleError(f"{file}: {_reason(error)}") from None


def _copy_log(source: Path | str | None, target: Path) -> None:
    """Copies a log, cut in the middle to LOG_BYTES_MAX. Nothing is written where there is none."""
    if isinstance(source, Path):
        content = source.read_bytes() if source.exists() else None
    else:
        content = source.encode() if source is not None else None
    if content is None:
        return
    if len(content) > LOG_BYTES_MAX:
        half = LOG_BYTES_MAX // 2
        left_out = len(content) - 2 * half
        content = content[:half] + f"\n… {left_out} bytes left out by dyno …\n".encode() + content[-half:]
    target.write_bytes(content)


def _measurement(path: Path) -> Measurement:
    file = path / MEASUREMENT
    try:
        measurement = Measurement.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise BundleError(f"{file}: is missing; delete the folder to measure the trial again") from None
    except ValidationError as error:
        raise BundleError(f"{file}: {_reason(error)}") from None
    if measurement.schema_version > SCHEMA_VERSION:
        raise BundleError(f"{file}: is of schema version {measurement.schema_version}, written by a newer dyno "
                          f"({measurement.dyno_version}); this one reads up to {SCHEMA_VERSION}")
    return measurement


def _reason(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(p) for p in first['loc']) or 'content'}: {first['msg']}"


def _frame(file: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(file)
    except FileNotFoundError:
        raise BundleError(f"{file}: is missing; delete the folder to measure the trial again") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BundleError(f"{file}: is not readable as Parquet: {str(error).splitlines()[0]}") from None


def _with_later_columns(requests: pl.DataFrame) -> pl.DataFrame:
    later = [name for name in LATER_COLUMNS if name not in requests.columns]
    filled = requests.with_columns(pl.lit(None, REQUESTS[name]).alias(name) for name in later)
    return filled.select(*(c for c in REQUESTS if c in filled.columns), pl.exclude(*REQUESTS)) if later else requests


def _check(path: Path, measurement: Measurement, requests: pl.DataFrame, telemetry: pl.DataFrame) -> None:
    """The same checks before writing and after reading."""
    recomputed = measurement.trial.trial_id
    if not path.name == measurement.trial_id == recomputed:
        raise BundleError(f"{path / MEASUREMENT}: folder {path.name}, trial_id {measurement.trial_id} and the trial's "
                          f"content ({recomputed}) do not agree")
    if measurement.setup_id != measurement.trial.setup.setup_id:
        raise BundleError(f"{path / MEASUREMENT}: setup_id {measurement.setup_id} is not that of its setup "
                          f"({measurement.trial.setup.setup_id})")
    _check_columns(path / REQUESTS_FILE, requests, REQUESTS)
    _check_columns(path / TELEMETRY_FILE, telemetry, TELEMETRY)
    measured = requests.filter(pl.col("phase") == "measured")
    ok = measured.filter(pl.col("outcome") == "ok").height
    said = (measurement.summary.requests_ok, measurement.summary.requests_failed)
    if said != (ok, measured.height - ok):
        raise BundleError(f"{path / REQUESTS_FILE}: holds {ok} measured requests that are ok and "
                          f"{measured.height - ok} that failed, but {MEASUREMENT} says {said[0]} and {said[1]}")


def _check_columns(file: Path, frame: pl.DataFrame, schema: Mapping[str, pl.DataType]) -> None:
    if dict(frame.schema) == schema:
        return
    for name, dtype in schema.items():
        if name not in frame.columns:
            raise BundleError(f"{file}: column {name} is missing")
        if frame.schema[name] != dtype:
            raise BundleError(f"{file}: column {name} is {frame.schema[name]}, not {dtype}")
    extra = [c for c in frame.columns if c not in schema]
    raise BundleError(f"{file}: unknown column {extra[0]}" if extra else f"{file}: columns are out of order")
