"""Prices: files beside the bundles, so that a database can be made again from what lies on disk.

    prices/<key>.json       one price; the key is that of its hardware, tier, date, source and region
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path

from models.errors import BundleError
from models.specs import Price, content_id
from warehouse import _disk


@dataclass(frozen=True)
class StoredPrice:
    """A price and where it came from: `given` by a person, or bundled with dyno; the first win over the second."""

    key: str
    price: Price
    given: bool
    stored_at: dt.datetime


def key_of(price: Price) -> str:
    """Identifies a price by everything but its figure: a corrected figure replaces the wrong one."""
    return content_id(price.model_copy(update={"price_usd_per_hour": 0.0}))


def write(home: Path, price: Price, given: bool) -> StoredPrice:
    """Writes a price; one of the same hardware, tier, date, source and region is replaced."""
    key = key_of(price)
    stored = StoredPrice(key, price, given, dt.datetime.now(dt.UTC).replace(tzinfo=None))
    content = {"price": price.model_dump(mode="json"), "given": given, "stored_at": stored.stored_at.isoformat()}
    _disk.write_file(home / "prices" / f"{key}.json", json.dumps(content, indent=1).encode())
    return stored


def paths(home: Path) -> list[Path]:
    """Returns the files of stored prices."""
    return sorted((home / "prices").glob("[!.]*.json"))


def read(path: Path) -> StoredPrice:
    """Reads a stored price. Raises BundleError naming the file and the reason."""
    try:
        raw = json.loads(path.read_bytes())
        return StoredPrice(path.stem, Price.model_validate(raw["price"]), bool(raw["given"]),
                           dt.datetime.fromisoformat(raw["stored_at"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: is not a stored price: {str(error).splitlines()[0]}") from None
