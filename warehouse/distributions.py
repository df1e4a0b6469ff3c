"""Quality, beside the bundles: next-token distributions, one folder for all setups that compute the same numbers, and
scores of tasks, one folder a run.

    quality/<numerics_id>/quality.json             the `Asked`: which setup, which text, how it was asked
                          distributions.parquet    one row a position and token (`models.frames.DISTRIBUTIONS`)
    scores/<numerics_id>-<utc>/scores.json         the `Scored`: which setup, and what its tasks made of it
                               results.json        lm-evaluation-harness's own results, whole
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
from pydantic import ValidationError

from models.errors import BundleError
from models.frames import DISTRIBUTIONS
from models.records import SCHEMA_VERSION, Asked, Scored
from warehouse import _disk

ASKED, FRAME, SCORES, RESULTS = "quality.json", "distributions.parquet", "scores.json", "results.json"


def folder(home: Path) -> Path:
    """Where they lie."""
    return home / "quality"


def write(home: Path, asked: Asked, frame: pl.DataFrame) -> Path:
    """Writes what one setup told, whole or not at all, in place of what it told before. Raises BundleError when the
    parts do not fit together."""
    parent, target = folder(home), folder(home) / asked.numerics_id
    _check(target, asked, frame)
    parent.mkdir(parents=True, exist_ok=True)
    try:
        with _disk.new_folder(parent, target.name, replace=True) as fresh:
            (fresh / ASKED).write_text(asked.model_dump_json(indent=1))
            frame.write_parquet(fresh / FRAME)
    except OSError as error:
        raise BundleError(f"{target}: cannot be written: {error.strerror or error}") from error
    return target


def read(path: Path) -> tuple[Asked, pl.DataFrame]:
    """Reads them back and checks that they are whole. Raises BundleError naming the file and what is wrong with it."""
    asked = _asked(path)
    try:
        frame = pl.read_parquet(path / FRAME)
    except FileNotFoundError:
        raise BundleError(f"{path / FRAME}: is missing; delete the folder to ask again") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BundleError(f"{path / FRAME}: is not readable as Parquet: {str(error).splitlines()[0]}") from None
    _check(path, asked, frame)
    return asked, frame


def known(home: Path, numerics_id: str, text: str) -> bool:
    """Whether a setup was asked about that text already."""
    try:
        return _asked(folder(home) / numerics_id).text == text
    except BundleError:
        return False


def write_scores(home: Path, scored: Scored, results: str) -> Path:
    """Writes what tasks made of a setup, whole or not at all."""
    parent = home / "scores"
    parent.mkdir(parents=True, exist_ok=True)
    name = f"{scored.numerics_id}-{dt.datetime.fromisoformat(scored.scored_at):%Y%m%dT%H%M%S.%fZ}"
    with _disk.new_folder(parent, name) as fresh:
        (fresh / SCORES).write_text(scored.model_dump_json(indent=1))
        (fresh / RESULTS).write_text(results)
    return parent / name


def read_scores(path: Path) -> Scored:
    """Reads them back. Raises BundleError naming the file and the reason."""
    try:
        return Scored.model_validate_json((path / SCORES).read_bytes())
    except (OSError, ValidationError) as error:
        raise BundleError(f"{path / SCORES}: {str(error).splitlines()[0]}") from None


def score_paths(home: Path) -> list[Path]:
    """Returns every folder of scores, in a stable order."""
    return _folders(home / "scores")


def paths(home: Path) -> list[Path]:
    """Returns every folder of distributions, whole or not, in a stable order."""
    return _folders(folder(home))


def _folders(parent: Path) -> list[Path]:
    _disk.recover(parent)
    return sorted(p for p in parent.iterdir() if p.is_dir() and not p.name.startswith(".")) if parent.is_dir() else []


def _asked(path: Path) -> Asked:
    file = path / ASKED
    try:
        asked = Asked.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise BundleError(f"{file}: is missing; delete the folder to ask again") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise BundleError(f"{file}: {'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}") from None
    if asked.schema_version > SCHEMA_VERSION:
        raise BundleError(f"{file}: is of schema version {asked.schema_version}, written by a newer dyno "
                          f"({asked.dyno_version}); this one reads up to {SCHEMA_VERSION}")
    return asked


def _check(path: Path, asked: Asked, frame: pl.DataFrame) -> None:
    """The same checks before writing and after reading."""
    if not path.name == asked.numerics_id == asked.setup.numerics_id:
        raise BundleError(f"{path / ASKED}: folder {path.name}, numerics_id {asked.numerics_id} and the setup's "
                          f"content ({asked.setup.numerics_id}) do not agree")
    if dict(frame.schema) != DISTRIBUTIONS:
        raise BundleError(f"{path / FRAME}: columns are {', '.join(frame.columns)}, not {', '.join(DISTRIBUTIONS)}")
    found = (set(frame["numerics_id"]), set(frame["text_id"]), set(frame["position"]))
    if found != ({asked.numerics_id}, {asked.text_id}, set(range(asked.positions))):
        raise BundleError(f"{path / FRAME}: holds {len(found[2])} positions of {', '.join(found[1])}, but {ASKED} says "
                          f"{asked.positions} of {asked.text_id}")
    if len(asked.next_tokens) != asked.positions or not frame["logprob"].is_finite().all():
        raise BundleError(f"{path}: next tokens or log-probabilities are missing")
