"""Keyed folders in dyno's cache: made once, whole or not at all, by one builder at a time. And remembered hashes."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from models import paths
from models.progress import Progress, silent

_TEMPORARY = ".making-"


def folder(kind: str, key: str) -> Path:
    """Where `keyed` puts a folder: `DYNO_CACHE/kind/key`; it exists only when complete."""
    return paths.cache() / kind / re.sub(r"[^A-Za-z0-9._+-]+", "-", key)


def keyed(kind: str, key: str, make: Callable[[Path], None], progress: Progress = silent, step: str = "") -> Path:
    """Returns the folder of a key, made by `make(folder)` if it does not exist yet.

    `make` gets an empty temporary folder beside the final one, which is renamed into place when it returns; killed
    half-way, it leaves nothing that looks finished. A second builder of the same key waits (and says so), then finds
    the first one's work. `make` must not store its folder's absolute path, for it is renamed.
    """
    final = folder(kind, key)
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with _locked(final, progress, step or kind):
        if final.is_dir():
            return final
        _remove_abandoned(final)
        temporary = Path(tempfile.mkdtemp(prefix=f"{_TEMPORARY}{final.name}~", dir=final.parent))
        temporary.chmod(0o755)
        try:
            make(temporary)
            temporary.rename(final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return final


def content_key(name: str, kind: str, content: str) -> str:
    """A key for people and machines: what it is called, and the hash of what decides its content."""
    return f"{name}-{kind}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def sha256(path: Path) -> str:
    """SHA-256 of a file, remembered by path, size and time of change: large files take seconds."""
    about = path.stat()
    identity = f"{path.absolute()} {about.st_size} {about.st_mtime_ns}"
    remembered = paths.cache() / "hashes" / hashlib.sha256(identity.encode()).hexdigest()[:24]
    if remembered.is_file() and re.fullmatch(r"[0-9a-f]{64}", known := remembered.read_text()):
        return known
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    remembered.parent.mkdir(parents=True, exist_ok=True)
    remembered.write_text(digest)
    return digest


def _lock_path(final: Path) -> Path:
    return final.parent / f".{final.name}.lock"


@contextmanager
def _locked(final: Path, progress: Progress, step: str) -> Iterator[None]:
    lock = FileLock(_lock_path(final))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress(step, None, "waiting for another dyno that is making this")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _remove_abandoned(final: Path) -> None:
    """Removes temporary folders whose builder died: those whose lock is free (the caller holds the one of `final`)."""
    for stale in final.parent.glob(f"{_TEMPORARY}*"):
        name = stale.name.removeprefix(_TEMPORARY).rpartition("~")[0]
        if name == final.name:
            shutil.rmtree(stale, ignore_errors=True)
            continue
        lock = FileLock(_lock_path(final.parent / name))
        try:
            with lock.acquire(timeout=0):
                shutil.rmtree(stale, ignore_errors=True)
        except Timeout:
            continue

