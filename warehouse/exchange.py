"""What a home and a shared place give each other: each sends what the other does not have, as often as it likes.

A worker measures into its own DYNO_HOME first, so that a broken link costs nothing; `push` sends what waits. The home
of the one writer pulls what all have sent and ingests it. `shared/<place>.txt` in a home lists what both have.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import platform
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, TypeVar

from models.progress import Progress, silent
from warehouse import _disk
from warehouse.place import Item, Place, described

AT_ONCE = 8
"""Items on their way at the same time: a far storage answers slowly, and takes many at once."""
HASHED = 12
"""Hexadecimal digits of a hash in a name."""
_ITEM = TypeVar("_ITEM")
_DONE = TypeVar("_DONE")


class Kind(NamedTuple):
    """A folder of a home: the file that says what an item is (nothing: the item is one file), and its instant in it."""

    folder: str
    key: str
    at: str


KINDS = (Kind("bundles", "measurement.json", "started_at"), Kind("failures", "failure.json", "failed_at"),
         Kind("quality", "quality.json", "asked_at"), Kind("scores", "scores.json", "scored_at"),
         Kind("prices", "", "stored_at"))


@dataclass(frozen=True)
class Exchanged:
    """The names of what crossed, by kind, and what could not yet, with the reason."""

    items: dict[str, list[str]] = field(default_factory=dict)
    left: list[tuple[str, str]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many crossed."""
        return sum(map(len, self.items.values()))


class _Local(NamedTuple):
    kind: Kind
    name: str
    key: Path
    folder: str
    """What it is called in a place."""


def push(home: Path, place: Place, progress: Progress = silent, again: bool = False) -> Exchanged:
    """Sends what the place does not have. again: looks there for each item, also for those known to have been sent.

    Raises PlaceError when the place cannot be reached; what was sent until then is remembered.
    """
    ledger = _Ledger(home, place)
    waiting = [one for one in _local(home) if again or one.folder not in ledger.known]

    def send(one: _Local) -> tuple[_Local, str]:
        try:
            item, files = _item(one)
            there = place.item(one.folder)
            if there is None or there.files != item.files:
                place.put(one.folder, item, files)
        except (OSError, ValueError, KeyError) as error:  # half of a bundle, or being replaced just now
            return one, str(error).splitlines()[0]
        return one, ""

    done = Exchanged()
    for one, reason in _all(send, waiting, progress, "sending"):
        if reason:
            done.left.append((one.folder, reason))
            continue
        ledger.add(one.folder)
        done.items.setdefault(one.kind.folder, []).append(one.name)
    return done


def pull(home: Path, place: Place, progress: Progress = silent, only: Collection[str] | None = None) -> Exchanged:
    """Fetches what this home does not have: of all, or of the trials `only`. What is damaged or still on its way is
    left and looked at again next time. Raises PlaceError when the place cannot be reached."""
    ledger = _Ledger(home, place)
    ledger.known.update(one.folder for one in _local(home))
    found = [(kind, f"{kind.folder}/{name}") for kind in (KINDS if only is None else KINDS[:1])
             for name in place.folders(kind.folder) if only is None or name.rpartition("-")[0] in only]
    missing = [(kind, folder) for kind, folder in found if folder not in ledger.known]
    home.mkdir(parents=True, exist_ok=True)
    done = Exchanged()
    with tempfile.TemporaryDirectory(prefix=".pulled-", dir=home) as scratch:
        def fetch(one: tuple[Kind, str]) -> tuple[Kind, str, Path, Item | None, str]:
            kind, folder = one
            item, target = place.item(folder), Path(scratch) / folder.replace("/", "-")
            if item is None:
                return kind, folder, target, None, "it has no manifest yet"
            if folder != _folder(kind, item):
                return kind, folder, target, None, "its manifest is of something else"
            target.mkdir()
            return kind, folder, target, item, place.get(folder, item, target)

        for kind, folder, fetched, item, wrong in _all(fetch, missing, progress, "fetching"):
            if item is None or wrong:
                done.left.append((folder, wrong))
                continue
            if _keep(home, kind, item, fetched):
                done.items.setdefault(kind.folder, []).append(item.name)
            ledger.add(folder)
    return done


class _Ledger:
    """What a home and a place both have: lines that are only ever added, by whoever pushes or pulls."""

    def __init__(self, home: Path, place: Place) -> None:
        self._file = home / "shared" / f"{hashlib.sha256(place.url.encode()).hexdigest()[:12]}.txt"
        self.known = set(self._file.read_text().splitlines()[1:]) if self._file.exists() else set[str]()
        if not self._file.exists():
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(f"# what this home and {place.url} both have\n")

    def add(self, folder: str) -> None:
        with self._file.open("a") as file:
            file.write(f"{folder}\n")
        self.known.add(folder)


def _all(work: Callable[[_ITEM], _DONE], items: Sequence[_ITEM], progress: Progress, step: str) -> Iterator[_DONE]:
    """The results in order, several in the works at once; told how far it is."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done, result in enumerate(pool.map(work, items), 1):
            progress(step, done / len(items))
            yield result


def _local(home: Path) -> Iterator[_Local]:
    """What lies in a home and is worth sending. Of prices those that a person gave: the others come with dyno."""
    for kind in KINDS:
        parent = home / kind.folder
        _disk.recover(parent)
        for path in sorted(parent.glob("[!.]*")) if parent.is_dir() else ():
            key = path / kind.key if kind.key else path
            try:
                content = key.read_bytes()
                if not kind.key and not json.loads(content).get("given"):
                    continue
            except (OSError, ValueError):
                continue
            name = path.name.removesuffix(".json")
            yield _Local(kind, name, key, f"{kind.folder}/{name}-{hashlib.sha256(content).hexdigest()[:HASHED]}")


def _item(one: _Local) -> tuple[Item, dict[str, Path]]:
    files = ({p.name: p for p in one.key.parent.iterdir() if not p.name.startswith(".")} if one.kind.key
             else {one.key.name: one.key})
    at = json.loads(one.key.read_bytes())[one.kind.at]
    item = described(one.kind.folder, one.name, at, files, platform.node(), version("llm-dyno"))
    if one.folder != _folder(one.kind, item):
        raise ValueError("it is being replaced just now")
    return item, files


def _folder(kind: Kind, item: Item) -> str:
    """What an item is called in a place: by what its first file holds."""
    key = kind.key or f"{item.name}.json"
    return f"{item.kind}/{item.name}-{next((f.sha256[:HASHED] for f in item.files if f.name == key), '')}"


def _keep(home: Path, kind: Kind, item: Item, fetched: Path) -> bool:
    """Puts what was fetched into its place, whole or not at all, unless what is there is as new. Returns whether."""
    parent = home / kind.folder
    parent.mkdir(parents=True, exist_ok=True)
    if not kind.key:
        return _keep_file(parent / f"{item.name}.json", kind, item, fetched)
    here = parent / item.name / kind.key
    if here.exists() and _instant(json.loads(here.read_bytes())[kind.at]) >= _instant(item.at):
        return False
    with _disk.new_folder(parent, item.name, replace=True) as fresh:
        for file in fetched.iterdir():
            shutil.move(file, fresh / file.name)
    return True


def _keep_file(target: Path, kind: Kind, item: Item, fetched: Path) -> bool:
    with _disk.locked(target.parent / ".lock"):
        if target.exists() and _instant(json.loads(target.read_bytes())[kind.at]) >= _instant(item.at):
            return False
        _disk.write_file(target, (fetched / target.name).read_bytes())
    return True


def _instant(text: str) -> dt.datetime:
    at = dt.datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=dt.UTC)
