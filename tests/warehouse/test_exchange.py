"""Bundles between homes through a shared place: a folder, and storage that speaks S3."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import PlaceError, UserError
from models.specs import Price
from tests.warehouse import fake
from warehouse import bundles, exchange, place, writer

LATER = "2026-11-21T10:00:00+00:00"


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
    """The URL of a bucket on a local server that answers as S3 does."""
    moto = pytest.importorskip("moto.server")
    import urllib.request

    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    before = dict(os.environ)
    os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="us-east-1",
                      AWS_ENDPOINT_URL=f"http://{host}:{port}", AWS_EC2_METADATA_DISABLED="true")
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/team", method="PUT"))
    yield "s3://team/dyno"
    server.stop()
    os.environ.clear()
    os.environ.update(before)


def test_what_workers_push_the_writer_pulls_once(tmp_path: Path) -> None:
    at = place.connect(str(tmp_path / "place"))
    for worker in ("a", "b"):
        fake.store(tmp_path / worker, fake.trial(seed=ord(worker)))
        bundles.write_failure(tmp_path / worker, fake.failure(), "log")
        assert exchange.push(tmp_path / worker, at).count == 2
        assert exchange.push(tmp_path / worker, at).count == 0
    price = Price(hardware="box", price_usd_per_hour=1.0, tier="own", source="a bill", date="2026-11-01")
    writer.set_price(tmp_path / "a", price)
    assert list(exchange.push(tmp_path / "a", at).items) == ["prices"]
    team = tmp_path / "team"
    assert {k: len(v) for k, v in exchange.pull(team, at).items.items()} == {"bundles": 2, "failures": 2, "prices": 1}
    assert exchange.pull(team, at).count == 0 and exchange.push(team, at).count == 0
    assert writer.ingest(team).added == 2 and writer.ingest(team).skipped == 2
    for path in bundles.paths(tmp_path / "a"):
        there = bundles.read(team / "bundles" / path.name)
        assert there.requests.equals(bundles.read(path).requests) and there.engine_log == "starting\nready\n"
    assert not list(team.glob(".pulled-*"))


def test_of_two_measurements_of_a_trial_the_later_one_counts(tmp_path: Path) -> None:
    at = place.connect(str(tmp_path / "place"))
    fake.store(tmp_path / "a", started_at=LATER)
    fake.store(tmp_path / "b")
    for worker in ("a", "b"):
        exchange.push(tmp_path / worker, at)
    exchange.pull(tmp_path / "team", at)
    exchange.pull(tmp_path / "b", at)
    for home in ("team", "b"):
        (path,) = bundles.paths(tmp_path / home)
        assert bundles.read(path).measurement.started_at == LATER
    assert exchange.pull(tmp_path / "a", at).count == 0, "an earlier one takes no later one's place"


def test_what_is_half_there_or_altered_waits_and_says_so(tmp_path: Path) -> None:
    at = place.connect(str(tmp_path / "place"))
    for seed in range(3):
        fake.store(tmp_path / "a", fake.trial(seed=seed))
    exchange.push(tmp_path / "a", at)
    whole, half, altered = sorted((tmp_path / "place" / "bundles").iterdir())
    (half / "manifest.json").rename(tmp_path / "kept")
    (altered / "requests.parquet").write_bytes(b"x")
    done = exchange.pull(tmp_path / "team", at)
    assert done.items == {"bundles": [whole.name.split("-")[0]]}
    assert dict(done.left) == {f"bundles/{half.name}": "it has no manifest yet",
                               f"bundles/{altered.name}": "requests.parquet is not as its manifest says"}
    (tmp_path / "kept").rename(half / "manifest.json")
    assert exchange.pull(tmp_path / "team", at).items == {"bundles": [half.name.split("-")[0]]}


def test_a_manifest_cannot_write_outside_a_home(tmp_path: Path) -> None:
    at = place.connect(str(tmp_path / "place"))
    fake.store(tmp_path / "a")
    exchange.push(tmp_path / "a", at)
    (folder,) = (tmp_path / "place" / "bundles").iterdir()
    said = json.loads((folder / "manifest.json").read_text())
    for change in ({"name": "../../evil"}, {"files": [{**said["files"][0], "name": "../evil"}]}, {"kind": "prices"}):
        (folder / "manifest.json").write_text(json.dumps(said | change))
        assert exchange.pull(tmp_path / "team", at).count == 0
    assert not list(tmp_path.rglob("*evil*"))


def test_only_the_trials_asked_for_are_fetched(tmp_path: Path) -> None:
    at = place.connect(str(tmp_path / "place"))
    ids = [fake.store(tmp_path / "a", fake.trial(seed=seed)).name for seed in range(3)]
    exchange.push(tmp_path / "a", at)
    assert exchange.pull(tmp_path / "b", at, only=ids[:1]).items == {"bundles": ids[:1]}
    assert bundles.present(tmp_path / "b") == {ids[0]}


def test_a_place_that_is_away_keeps_everything_waiting(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.write_text("not a folder: the share is not mounted")
    fake.store(tmp_path / "a")
    at = place.connect(str(mount / "dyno"))
    with pytest.raises(PlaceError, match="waits"):
        exchange.push(tmp_path / "a", at)
    mount.unlink()
    assert exchange.push(tmp_path / "a", at).count == 1


def test_storage_that_speaks_s3(tmp_path: Path, storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at = place.connect(storage)
    for seed in range(3):
        fake.store(tmp_path / "a", fake.trial(seed=seed))
    assert exchange.push(tmp_path / "a", at).count == 3
    shutil.rmtree(tmp_path / "a" / "shared")
    assert exchange.push(tmp_path / "a", at).count == 3, "without its memory it looks there"
    assert exchange.pull(tmp_path / "team", at).count == 3 and exchange.pull(tmp_path / "team", at).count == 0
    assert writer.ingest(tmp_path / "team").added == 3
    with pytest.raises(PlaceError, match="s3://nowhere/dyno"):
        exchange.push(tmp_path / "a", place.connect("s3://nowhere/dyno"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(PlaceError):
        exchange.pull(tmp_path / "other", place.connect(storage))


@pytest.mark.parametrize("url", ["s3://key:secret@bucket/dyno", "ftp://host/dyno", "s3://"])
def test_a_wrong_place_is_one_line_without_its_secret(url: str) -> None:
    with pytest.raises(UserError, match="DYNO_BUNDLES") as caught:
        place.connect(url)
    assert "secret@" not in str(caught.value)
