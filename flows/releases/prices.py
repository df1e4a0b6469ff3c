"""Price lists: when one says something new, its prices are stored, dated today. Nothing is measured for that."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from flows import market
from flows.releases import Known, label, web
from models import pricefile
from models.errors import EndpointError, UserError
from models.releases.policy import FollowPrices
from models.releases.release import Release
from models.specs import Price
from warehouse import writer

CLOUDS = "clouds"


def look(entry: FollowPrices, known: Known, home: Path, beside: Path, today: str) -> tuple[Release, str] | None:
    """Stores the prices of a list that says something new; returns it as a release, and what was stored. None: nothing
    is new. Raises EndpointError or UserError when there is no such list, or it cannot be read: nothing is changed
    then."""
    found = market.offered(today) if entry.prices == CLOUDS else _listed(entry.prices, beside)
    release = Release(kind="prices", name=entry.prices, version=_digest(found), source=label(entry), released_at=today,
                      url=entry.prices if urlsplit(entry.prices).scheme else None)
    if known.version(release.name, release.version):
        return None
    stored = writer.set_prices(home, found, given=False)
    return release, f"{stored} prices stored, of {len({p.hardware for p in found})} kinds of hardware"


def _listed(place: str, beside: Path) -> list[Price]:
    if urlsplit(place).scheme in ("http", "https"):
        text = web.get(place).text
    else:
        try:
            text = (beside / Path(place).expanduser()).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"prices {place}: cannot be read: {error}") from None
    found = list(pricefile.parse(text, place).prices)
    if not found:
        raise EndpointError(f"prices {place}: it lists none")
    return found


def _digest(found: Sequence[Price]) -> str:
    """Of what is asked for what, whenever that was looked up."""
    said = sorted(p.model_dump_json(exclude={"date", "rate_date"}) for p in found)
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]
