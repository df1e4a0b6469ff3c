"""A warehouse that is damaged, or another dyno's, is said to be so, and mended by `dyno rebuild`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from app import cli
from models.errors import UserError, WarehouseError
from tests.warehouse import fake, spoilt
from warehouse import evidence, published, reader, writer

QUESTIONS = (["sql", "from measurements"], ["runs"])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    fake.store(home)
    writer.ingest(home)
    writer.publish(home)
    return home


def said(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
         ) -> tuple[object, str]:
    """Exit code of the command, and what it wrote to stderr."""
    monkeypatch.setattr(sys, "argv", ["dyno", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code, capsys.readouterr().err


@pytest.mark.parametrize("way", spoilt.WAYS)
def test_a_snapshot_that_cannot_be_read_is_said_and_rebuilt(home: Path, way: str, monkeypatch: pytest.MonkeyPatch,
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    spoilt.spoil(published.snapshot(home), way)
    assert published.stamp(home) is not None
    with pytest.raises(WarehouseError, match=spoilt.WAYS[way][1]):
        reader.query(home, "from measurements")
    with pytest.raises(UserError):
        evidence.read(home)
    for question in QUESTIONS:
        code, text = said(question, monkeypatch, capsys)
        assert code == 2 and len(text.splitlines()) <= 2, text
        assert question[0] != "runs" or re.search(spoilt.WAYS[way][1], text), text
    writer.rebuild(home)
    writer.publish(home)
    assert reader.query(home, "from measurements").height == 1


@pytest.mark.parametrize("way", spoilt.WAYS)
def test_a_database_that_cannot_be_written_is_said_and_rebuilt(home: Path, way: str) -> None:
    spoilt.spoil(home / writer.DATABASE, way)
    fake.store(home, fake.trial(concurrency=2))
    if way in ("older", "without views"):  # brought up to date
        writer.ingest(home)
    else:
        with pytest.raises(WarehouseError, match="dyno rebuild"):
            writer.ingest(home)
    assert writer.rebuild(home).added == 2
    writer.publish(home)
    assert reader.query(home, "from measurements").height == 2


def test_nothing_and_an_empty_one_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    for question in QUESTIONS:
        assert said(question, monkeypatch, capsys)[0] == 2
    with pytest.raises(UserError, match="nothing has been measured"):
        reader.query(tmp_path / "home", "from measurements")
    writer.ingest(tmp_path / "home")
    writer.publish(tmp_path / "home")
    assert reader.query(tmp_path / "home", "from measurements").is_empty()
