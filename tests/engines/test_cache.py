"""A keyed folder is whole or not there, and made by one builder at a time."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engines import _cache

BUILDER = """
import sys, time
from pathlib import Path
from engines._cache import keyed
def make(folder):
    (folder / "part").write_text("half")
    Path(sys.argv[1], "started").touch()
    while not Path(sys.argv[1], "go").exists():
        time.sleep(0.01)
    (folder / "part").write_text("whole")
    with open(Path(sys.argv[1], "builds"), "a") as builds:
        builds.write("x")
print(keyed("things", "a key/1", make, lambda step, done=None, detail="": print(detail, flush=True)))
"""


def builder(tmp_path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", BUILDER, str(tmp_path)], stdout=subprocess.PIPE, text=True,
                            cwd=Path(__file__).parents[2])


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.01)


def test_made_once_and_found_again(cache: Path) -> None:
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "file").write_text("content")

    first = _cache.keyed("things", "key", make)
    assert _cache.keyed("things", "key", make) == first == cache / "things/key"
    assert (first / "file").read_text() == "content"
    assert len(made) == 1


def test_a_builder_that_fails_leaves_nothing(cache: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "file").touch()
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        _cache.keyed("things", "key", make)
    assert [p.name for p in (cache / "things").iterdir()] == [".key.lock"]


def test_a_second_builder_waits_says_so_and_finds_the_work_done(tmp_path: Path, cache: Path) -> None:
    first = builder(tmp_path)
    wait_for(tmp_path / "started")
    second = builder(tmp_path)
    assert second.stdout is not None
    assert "waiting for another dyno" in second.stdout.readline()
    assert not (cache / "things/a-key-1").exists()
    (tmp_path / "go").touch()
    outputs = [process.communicate(timeout=20)[0].strip() for process in (first, second)]
    assert outputs == [str(cache / "things/a-key-1")] * 2
    assert (tmp_path / "builds").read_text() == "x"


def test_a_builder_killed_half_way_is_cleared_away_by_the_next(tmp_path: Path, cache: Path) -> None:
    victim = builder(tmp_path)
    wait_for(tmp_path / "started")
    os.kill(victim.pid, signal.SIGKILL)
    victim.communicate(timeout=20)
    assert list((cache / "things").glob(".making-*/part")) != []
    assert not _cache.folder("things", "a key/1").exists()
    _cache.keyed("things", "another", lambda folder: (folder / "file").touch())
    assert list((cache / "things").glob(".making-*")) == []
    (tmp_path / "go").touch()
    after = builder(tmp_path)
    after.communicate(timeout=20)
    assert (cache / "things/a-key-1/part").read_text() == "whole"


def test_clearing_away_spares_a_builder_at_work(tmp_path: Path, cache: Path) -> None:
    busy = builder(tmp_path)
    wait_for(tmp_path / "started")
    _cache.keyed("things", "another", lambda folder: (folder / "file").touch())
    (tmp_path / "go").touch()
    assert busy.communicate(timeout=20)[0].strip() == str(cache / "things/a-key-1")
    assert (cache / "things/a-key-1/part").read_text() == "whole"
