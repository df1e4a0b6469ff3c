"""`kill -9` at every durable step of writing, ingesting and publishing; the next process finds everything in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.warehouse import fake
from warehouse import bundles, reader, writer

ROOT = Path(__file__).parent.parent.parent
KILLED = """
import os, signal, sys
from pathlib import Path
from tests.warehouse import fake
from warehouse import _batches, _disk, _project, writer

_batches.MOST = 1
home, work, place, count = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
owner, name = {"sync": (_disk, "sync"), "rename": (Path, "rename"), "replace": (Path, "replace"),
               "append": (_project, "_append")}[place]
real, left = getattr(owner, name), count

def dying(*arguments):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)

setattr(owner, name, dying)
if work == "write":
    fake.store(home, fake.trial(concurrency=2))
elif work == "again":
    fake.store(home, fake.trial(concurrency=1), started_at="2026-11-23T00:00:00+00:00", replace=True)
elif work == "ingest":
    writer.ingest(home)
elif work == "rebuild":
    writer.rebuild(home)
elif work == "publish":
    writer.publish(home)
print("survived")
"""


def kill(home: Path, work: str, place: str, count: int) -> None:
    """Runs `work` in a process that kills itself at the count-th call of `place`."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(home), work, place, str(count)], cwd=ROOT,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


@pytest.mark.parametrize(("place", "count"), [("sync", 1), ("sync", 4), ("sync", 5), ("rename", 1), ("sync", 6)])
def test_a_bundle_is_there_whole_or_not_at_all(tmp_path: Path, place: str, count: int) -> None:
    fake.store(tmp_path, fake.trial(concurrency=1))
    kill(tmp_path, "write", place, count)
    found = bundles.present(tmp_path)
    assert fake.trial(concurrency=1).trial_id in found and len(found) == (2 if (place, count) == ("sync", 6) else 1)
    report = writer.ingest(tmp_path)
    assert (report.added, report.failed) == (len(found), [])
    fake.store(tmp_path, fake.trial(concurrency=2), replace=True)
    assert len(bundles.present(tmp_path)) == 2
    assert not (tmp_path / "bundles" / ".partial").exists()


@pytest.mark.parametrize(("place", "count", "day"), [("sync", 3, 20), ("rename", 1, 20), ("rename", 2, 20),
                                                     ("sync", 6, 23)])
def test_a_replaced_bundle_is_the_old_or_the_new(tmp_path: Path, place: str, count: int, day: int) -> None:
    path = fake.store(tmp_path, fake.trial(concurrency=1))
    kill(tmp_path, "again", place, count)
    assert bundles.present(tmp_path) == {path.name}
    assert bundles.read(path).measurement.started_at.startswith(f"2026-11-{day}")
    assert sorted(p.name for p in path.parent.iterdir()) == [".lock", path.name]


@pytest.mark.parametrize("count", [1, 3, 4, 6])
def test_an_interrupted_ingest_is_finished_by_the_next(tmp_path: Path, count: int) -> None:
    """Four appends a transaction, here of one bundle: killed in the first, then in the second after the first."""
    for users in (1, 2):
        fake.store(tmp_path, fake.trial(concurrency=users))
    kill(tmp_path, "ingest", "append", count)
    report = writer.ingest(tmp_path)
    assert (report.added, report.skipped, report.failed) == ((2, 0, []) if count <= 4 else (1, 1, []))
    writer.publish(tmp_path)
    counts = reader.query(tmp_path, "select count(*) as n, count(distinct trial_id) as trials from requests").row(0)
    assert counts == (26 + 28, 2)
    assert reader.query(tmp_path, "from measurements").height == 2


@pytest.mark.parametrize(("work", "place", "count"), [("publish", "sync", 1), ("publish", "replace", 1),
                                                      ("rebuild", "append", 3), ("rebuild", "replace", 1)])
def test_readers_keep_the_old_snapshot_until_the_new_one_is_whole(tmp_path: Path, work: str, place: str,
                                                                  count: int) -> None:
    fake.store(tmp_path, fake.trial(concurrency=1))
    writer.ingest(tmp_path)
    writer.publish(tmp_path)
    fake.store(tmp_path, fake.trial(concurrency=2))
    writer.ingest(tmp_path)
    kill(tmp_path, work, place, count)
    assert reader.query(tmp_path, "from measurements").height == 1
    assert not writer.is_published(tmp_path)
    writer.publish(tmp_path)
    assert reader.query(tmp_path, "from measurements").height == 2
    assert [p.name for p in (tmp_path / "published").iterdir()] == ["dyno.duckdb"]
