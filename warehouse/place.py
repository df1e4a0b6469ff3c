"""A place that a team's machines share: a folder, or object storage (s3://, gs://, abfs://, what fsspec reads).

    bundles/<trial_id>-<hash>/measurement.json, requests.parquet, …      as under DYNO_HOME
                              manifest.json                              written last: what belongs to it, since when
    failures/…  quality/…  scores/…  prices/…                            likewise

Nothing there is ever written over: what is measured again has another hash. So a folder with a manifest is whole, two
machines never spoil each other's, and of two that tell of the same thing the later one counts.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from models.errors import PlaceError, UserError
from models.specs import Record
from warehouse import _disk

MANIFEST = "manifest.json"
OBJECTS = ("s3", "gcs", "abfs")
"""File systems without folders of their own."""
_PLAIN = r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*$"
"""A name that is a name, wherever it is written to."""


class File(Record):
    """One file of an item."""

    name: str = Field(pattern=_PLAIN)
    bytes: int = Field(ge=0)
    sha256: str


class Item(Record):
    """The content of a manifest: one bundle, failure, answer about quality or price."""

    kind: str = Field(pattern=_PLAIN)
    name: str = Field(pattern=_PLAIN, description="what it is called under DYNO_HOME")
    at: str = Field(description="the instant it tells of; the later one counts")
    files: tuple[File, ...]
    host: str = ""
    dyno_version: str = ""


@dataclass(frozen=True)
class Place:
    """A file system and the folder in it. `url` is fit to be shown."""

    url: str
    system: Any
    base: str

    def folders(self, kind: str) -> list[str]:
        """The folders of one kind, whole or not, in a stable order. Raises PlaceError."""
        from pyarrow import fs

        with self._reached():
            found = self.system.get_file_info(fs.FileSelector(f"{self.base}/{kind}", allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == fs.FileType.Directory)

    def item(self, folder: str) -> Item | None:
        """What the manifest of a folder (`kind/name`) says; None where it has none that can be read (yet)."""
        with self._reached():
            try:
                with self.system.open_input_stream(f"{self.base}/{folder}/{MANIFEST}") as stream:
                    return Item.model_validate_json(stream.read())
            except (FileNotFoundError, ValidationError):
                return None

    def put(self, folder: str, item: Item, files: Mapping[str, Path]) -> None:
        """Sends files and, when all are there, their manifest. Raises PlaceError, or OSError where a file is gone."""
        if self.system.type_name not in OBJECTS:
            with self._reached():
                self.system.create_dir(f"{self.base}/{folder}", recursive=True)
        for name, path in files.items():
            with path.open("rb") as source, self._reached(), self._writing(f"{folder}/{name}") as target:
                shutil.copyfileobj(source, target)
        with self._reached(), self._writing(f"{folder}/{MANIFEST}") as target:
            target.write(item.model_dump_json(indent=1).encode())

    def get(self, folder: str, item: Item, target: Path) -> str:
        """Fetches an item's files into a folder; returns what is wrong with them, or nothing. Raises PlaceError."""
        for file in item.files:
            with self._reached():
                try:
                    with self.system.open_input_stream(f"{self.base}/{folder}/{file.name}") as source:
                        content = source.read()
                except FileNotFoundError:
                    return f"{file.name} is missing"
            if (len(content), hashlib.sha256(content).hexdigest()) != (file.bytes, file.sha256):
                return f"{file.name} is not as its manifest says"
            (target / file.name).write_bytes(content)
        return ""

    @contextmanager
    def _writing(self, name: str) -> Iterator[Any]:
        path = f"{self.base}/{name}"
        with self.system.open_output_stream(path) as stream:
            yield stream
        if self.system.type_name == "local":
            _disk.sync(Path(path))

    @contextmanager
    def _reached(self) -> Iterator[None]:
        from pyarrow import ArrowException

        try:
            yield
        except (OSError, ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise PlaceError(f"{self.url} cannot be reached or written ({reason}); what waits here is sent with the "
                             "next `dyno push`") from None


def connect(url: str) -> Place:
    """Opens a place named as DYNO_BUNDLES names it; nothing is read yet. Raises UserError for a URL that none can be.

    Credentials come from where the storage's own tools take them (AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL, an
    instance's role), never from the URL.
    """
    from pyarrow import ArrowException, fs  # half a second, which those who share nothing need not wait

    parts = urlsplit(url)
    if parts.username or parts.password:
        raise UserError("DYNO_BUNDLES: a key does not belong into a URL, which is shown and logged: leave it to "
                        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or to a profile")
    try:
        system, base = fs.FileSystem.from_uri(url if "://" in url else str(Path(url).expanduser().absolute()))
    except (OSError, ValueError, ImportError, ArrowException) as error:
        raise UserError(f"DYNO_BUNDLES: {url} is no folder or storage that can be opened "
                        f"({str(error).splitlines()[0]}); such as /mnt/team/dyno, s3://bucket/dyno") from None
    if not base.strip("/"):
        raise UserError(f"DYNO_BUNDLES: {url} names no folder or bucket; such as /mnt/team/dyno, s3://bucket/dyno")
    return Place(url, system, base.rstrip("/"))


def described(kind: str, name: str, at: str, files: Mapping[str, Path], host: str, dyno_version: str) -> Item:
    """The manifest of files on this disk."""
    listed = tuple(File(name=n, bytes=p.stat().st_size, sha256=hashlib.sha256(p.read_bytes()).hexdigest())
                   for n, p in sorted(files.items()))
    return Item(kind=kind, name=name, at=at, files=listed, host=host, dyno_version=dyno_version)
