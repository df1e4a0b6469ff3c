"""Folders and files that are there whole or not at all, also after a power cut or `kill -9`.

What is being written carries a dotted name beside its final one and is renamed into place; both happen under a lock
that dies with its process, so a dotted leftover seen while holding the lock belongs to nobody.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from models.errors import UserError

NEW, OLD, PARTIAL = ".new-", ".old-", ".partial"
LOCK_TIMEOUT_S = 60.0


@contextmanager
def locked(path: Path, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Holds a lock file. Raises UserError when another process keeps it longer than `timeout_s`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=timeout_s)
    except Timeout:
        raise UserError(f"another dyno process is writing ({path} is locked; waited {timeout_s:g} s): "
                        "let it finish, then try again") from None
    try:
        yield
    finally:
        lock.release()


def sync(path: Path) -> None:
    """Makes a file or folder durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def new_folder(parent: Path, name: str, replace: bool = False) -> Iterator[Path]:
    """Yields a fresh folder to fill; on success it becomes `parent/name`, on an exception it is gone.

    It is filled in a folder beside, which is all that has to be looked at for leftovers: `parent` may hold many
    thousands. Raises FileExistsError when `parent/name` exists and `replace` is false.
    """
    with locked(parent / ".lock"):
        _recover(parent)
        target, beside = parent / name, parent / PARTIAL
        fresh, old = beside / f"{NEW}{name}", beside / f"{OLD}{name}"
        if target.exists() and not replace:
            raise FileExistsError(target)
        fresh.mkdir(parents=True)
        try:
            yield fresh
            for file in fresh.iterdir():
                sync(file)
            sync(fresh)
            if target.exists():
                target.rename(old)
            fresh.rename(target)
            sync(parent)
        finally:
            _recover(parent)


def recover(parent: Path) -> None:
    """Clears what a killed writer left in a folder, and puts back what it was about to replace."""
    if (parent / PARTIAL).exists():
        with locked(parent / ".lock"):
            _recover(parent)


def _recover(parent: Path) -> None:
    beside = parent / PARTIAL
    if not beside.exists():
        return
    for path in list(beside.iterdir()):
        target = parent / path.name.removeprefix(OLD)
        if path.name.startswith(OLD) and not target.exists():
            path.rename(target)
        else:
            shutil.rmtree(path, ignore_errors=True)
    beside.rmdir()


def copy(source: Path, target: Path) -> None:
    """Copies a file in the kernel; where the file system shares blocks between files (Btrfs, XFS), at once."""
    try:
        with source.open("rb") as old, target.open("wb") as new:
            left = os.fstat(old.fileno()).st_size
            while left:
                copied = os.copy_file_range(old.fileno(), new.fileno(), left)
                if not copied:
                    raise OSError(f"{source} ended early")
                left -= copied
    except (AttributeError, OSError):  # not on this system, or not between these two
        shutil.copyfile(source, target)


def write_file(path: Path, content: bytes) -> None:
    """Writes a small file atomically and durably; the caller holds a lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{NEW}{path.name}")
    fresh.write_bytes(content)
    sync(fresh)
    fresh.replace(path)
    sync(path.parent)
