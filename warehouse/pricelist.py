"""Prices: files beside the bundles, so that a database can be made again from what lies on disk.

    prices/<key>.json       one price; the key is that of its hardware, tier, date, source, region and instance
    prices.yaml             a person's own, written by hand (models/pricefile.py); its rows come and go with its text
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path

from models import pricefile, prices
from models.errors import BundleError, UserError
from models.pricefile import PriceFile
from models.specs import Price, content_id
from warehouse import _disk, published, quack

OWN = "prices.yaml"
FETCHED = "gpuhunt"
"""How the source of a price begins that was fetched from clouds' catalogues."""


@dataclass(frozen=True)
class StoredPrice:
    """A price and where it came from: `given` by a person, or fetched or bundled with dyno; the first wins."""

    key: str
    price: Price
    given: bool
    stored_at: dt.datetime

    @property
    def origin(self) -> str:
        """For people: prices.yaml, given, fetched or bundled."""
        if self.given:
            return OWN if self.key.startswith(OWN) else "given"
        return "fetched" if self.price.source.startswith(FETCHED) else "bundled"


def key_of(price: Price) -> str:
    """Identifies a price by everything but its figure: a corrected figure replaces the wrong one."""
    return content_id(price.model_copy(update={"price_usd_per_hour": 0.0, "price_per_hour": None, "rate_date": None}))


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


def own_file(home: Path) -> PriceFile:
    """Reads prices.yaml; empty where there is none. Raises UserError naming the file and the field."""
    path = home / OWN
    try:
        return pricefile.parse(path.read_text(), str(path))
    except FileNotFoundError:
        return PriceFile()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None


def own(home: Path) -> list[StoredPrice]:
    """Returns the prices of prices.yaml, stored when the file was last written. Raises UserError as own_file() does."""
    found = own_file(home).prices
    if not found:
        return []
    written = dt.datetime.fromtimestamp((home / OWN).stat().st_mtime, dt.UTC).replace(tzinfo=None)
    return [StoredPrice(f"{OWN}:{key_of(price)}", price, True, written) for price in found]


def every(home: Path) -> list[StoredPrice]:
    """Returns every price known here, or to a served warehouse: of prices.yaml, stored ones, and the bundled ones of
    accelerators.

    Raises UserError for a prices.yaml that is wrong, BundleError for a stored price that is.
    """
    known = _served(home) if quack.is_served(home) else own(home) + [read(path) for path in paths(home)]
    keys = {p.key for p in known}
    never = dt.datetime.min  # a bundled price comes with dyno
    return known + [StoredPrice(key, price, False, never) for price in prices.catalogue()
                    if (key := key_of(price)) not in keys]


def _served(where: Path) -> list[StoredPrice]:
    fields = list(Price.model_fields)
    with published.connect(where) as con:
        rows = con.execute(f"select price_id, given, stored_at, {', '.join(fields)} from prices").fetchall()  # noqa: S608
    return [StoredPrice(key, Price.model_validate(dict(zip(fields, values, strict=True))), given, stored_at)
            for key, given, stored_at, *values in rows]
