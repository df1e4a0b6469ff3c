"""Where releases are looked for: one file a kind of source. Each yields what is not known yet, the newest first.

A source that does not answer raises; trouble with one thing of many is told, and the others are still looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from models.releases.policy import (
    Follow,
    FollowFeed,
    FollowFolder,
    FollowHub,
    FollowImage,
    FollowModels,
    FollowPyPI,
)
from models.releases.release import Release, Seen

Warn = Callable[[str], None]


class Known:
    """What was seen before, as a source asks for it."""

    def __init__(self, seen: Iterable[Seen]) -> None:
        self._revisions: set[tuple[str, str]] = set()
        self._versions: set[tuple[str, str]] = set()
        for one in seen:
            self._versions.add((one.release.name, one.release.version))
            self._revisions |= {(one.release.name, r) for r in (*one.revisions, one.release.revision or "")}
        self._names = {name for name, _ in self._versions}

    def revision(self, name: str, revision: str | None) -> bool:
        """Whether a repository was looked at in that commit."""
        return (name, revision or "?") in self._revisions

    def version(self, name: str, version: str) -> bool:
        """Whether that version was seen."""
        return (name, version) in self._versions

    def name(self, name: str) -> bool:
        """Whether any version of it was."""
        return name in self._names


def look(entry: Follow, known: Known, warn: Warn, beside: Path) -> Iterator[Release]:
    """Yields the releases that one entry of a policy tells of and that are not known. `beside`: the policy's folder.

    Raises DynoError when the source cannot be asked. Prices are not looked for here (flows.releases.prices).
    """
    from flows.releases import engines, feed, folder, hub

    if isinstance(entry, FollowHub | FollowModels):
        return hub.look(entry, known, warn)
    if isinstance(entry, FollowFolder):
        return folder.look(entry, known, warn, beside)
    if isinstance(entry, FollowFeed):
        return feed.look(entry, known, warn, beside)
    if isinstance(entry, FollowPyPI):
        return engines.on_pypi(entry, known)
    if isinstance(entry, FollowImage):
        return engines.of_image(entry, known)
    return iter(())


def label(entry: Follow) -> str:
    """`hub: Qwen`: what an entry is called in rows and warnings."""
    kind = next(iter(type(entry).model_fields))
    value = getattr(entry, kind)
    return f"{kind}: {', '.join(value) if isinstance(value, tuple) else value}"[:200]
