"""Any Atom or JSON feed, or a JSON document with a list in it: of models (by their repository on the Hub) or of an
engine's versions."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

from engines._hub import endpoint
from flows.releases import Known, Warn, hub, label, web
from models.errors import EndpointError, ModelError
from models.releases.policy import FollowFeed
from models.releases.release import Release

_ATOM = "{http://www.w3.org/2005/Atom}"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_VERSION = re.compile(r"(?:^|[\sv/-])(\d+(?:\.\d+)+[\w.+-]*|b\d{3,})(?=$|\s)")
_NAMES, _DATES = ("title", "name", "id", "modelId", "tag_name"), ("date_published", "published_at", "updated", "date",
                                                                   "createdAt", "date_modified")
_LINKS = ("url", "html_url", "external_url", "link")
_HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Item:
    """One entry of a feed, in its own words."""

    name: str
    version: str
    date: str | None
    url: str | None


def look(entry: FollowFeed, known: Known, warn: Warn, beside: Path) -> Iterator[Release]:
    """Yields the releases that the newest items tell of and that are not known; an item that names none is told.

    Raises EndpointError when the feed cannot be fetched or is none.
    """
    said, taken = label(entry), 0
    for item in _items(_text(entry.feed, beside), entry):
        found = _engine(entry, item, said) if entry.tells == "engine" else _model(entry, item, said, known, warn)
        if found and not known.version(found.name, found.version):
            yield found
        taken += entry.tells == "model" or found is not None
        if taken >= (entry.newest or (20 if entry.tells == "model" else 1)):
            return


def _engine(entry: FollowFeed, item: Item, said: str) -> Release | None:
    found = re.search(entry.pattern, item.version) if entry.pattern else _VERSION.search(item.version)
    if not found:
        return None  # a nightly, an announcement
    version = found[1] if found.re.groups else found[0]
    return Release(kind="engine", name=entry.engine or "", version=version, source=said, released_at=item.date,
                   url=item.url)


def _model(entry: FollowFeed, item: Item, said: str, known: Known, warn: Warn) -> Release | None:
    repository = _repository(entry, item)
    if repository is None:
        warn(f"{said}: no repository on the Hub is named by {item.name!r}")
        return None
    if known.name(repository):  # `models: [org/name]` follows what becomes of a repository
        return None
    try:
        return hub.of_repository(repository, said)
    except ModelError as error:
        warn(f"{said}: {error}")
        return None


def _repository(entry: FollowFeed, item: Item) -> str | None:
    """By the pattern, by an address at the Hub, or because the name is one."""
    if entry.pattern:
        found = re.search(entry.pattern, item.name) or re.search(entry.pattern, item.url or "")
        return (found[1] if found.re.groups else found[0]) if found else None
    hubs = {urlsplit(address).netloc for address in (_HUB, endpoint() or _HUB)}
    address = urlsplit(item.url or "")
    if address.netloc in hubs and (found := _REPOSITORY.match(address.path.strip("/"))):
        return found[0]
    return item.name if _REPOSITORY.fullmatch(item.name) else None


def _text(feed: str, beside: Path) -> bytes:
    if urlsplit(feed).scheme in ("http", "https"):
        return web.get(feed).content
    try:
        return (beside / Path(feed).expanduser()).read_bytes()
    except OSError as error:
        raise EndpointError(f"feed {feed}: {error.strerror or error}") from None


def _items(text: bytes, entry: FollowFeed) -> list[Item]:
    if text.lstrip()[:1] == b"<":
        return _atom(text, entry)
    try:
        found = json.loads(text)
    except ValueError:
        raise EndpointError(f"feed {_shown(entry)}: it is neither JSON nor Atom") from None
    listed = _at(found, entry.items) if entry.items else found if isinstance(found, list) else _at(found, "items")
    if not isinstance(listed, list):
        raise EndpointError(f"feed {_shown(entry)}: it has no list `{entry.items or 'items'}`: say `items: path.to.it`")
    return [_json_item(one, entry) for one in listed if isinstance(one, dict)]


def _json_item(one: dict[str, Any], entry: FollowFeed) -> Item:
    def field(said: str | None, usual: tuple[str, ...]) -> str:
        found = (_at(one, said) if said else next((one[k] for k in usual if one.get(k)), None))
        return "" if found is None else str(found)

    name = field(entry.name, _NAMES)
    return Item(name=name, version=field(entry.version, ("version", *_NAMES)) or name,
                date=_instant(field(entry.date, _DATES)), url=field(entry.url, _LINKS) or None)


def _atom(text: bytes, entry: FollowFeed) -> list[Item]:
    try:
        root = ElementTree.fromstring(text)  # noqa: S314  # expat itself refuses entities that grow
    except ElementTree.ParseError as error:
        raise EndpointError(f"feed {_shown(entry)}: it is not Atom: {error}") from None
    if root.tag != f"{_ATOM}feed":
        raise EndpointError(f"feed {_shown(entry)}: it is not Atom (it begins with {root.tag})")
    found = []
    for one in root.findall(f"{_ATOM}entry"):
        title = "".join(node.itertext()).strip() if (node := one.find(f"{_ATOM}title")) is not None else ""
        links = [link.get("href") for link in one.findall(f"{_ATOM}link")
                 if link.get("rel", "alternate") == "alternate"]
        date = one.findtext(f"{_ATOM}published") or one.findtext(f"{_ATOM}updated")
        found.append(Item(name=title, version=title, date=_instant(date or ""), url=links[0] if links else None))
    return found


def _instant(text: str) -> str | None:
    """ISO 8601 in UTC; None for what is no date."""
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=dt.UTC)).astimezone(dt.UTC).isoformat(timespec="seconds")


def _at(value: Any, path: str) -> Any:
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _shown(entry: FollowFeed) -> str:
    return urlsplit(entry.feed).hostname or entry.feed
