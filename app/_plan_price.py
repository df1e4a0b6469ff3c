"""Which price an hour of an instance has in a plan: named, owned, of the price list, or of the measured machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app import _prices
from models import prices
from models.currency import ExchangeRate
from models.errors import UserError
from models.planning.ownership import Owned, per_hour
from models.specs import HardwareSpec, Price
from warehouse import pricelist
from warehouse.pricelist import StoredPrice


def priced(home: Path, options: Mapping[str, Any], rate: ExchangeRate, machine: HardwareSpec | None) -> Price:
    """Returns the price of an instance's hour, in USD, with tier, date and source.

    Raises UserError when more than one way is named, or none leads to a price.
    """
    ways = [name for name in ("price", "owned", "hardware") if options[name] is not None]
    if len(ways) > 1:
        raise UserError(f"--{ways[0]} and --{ways[1]} both say what an instance costs: give one")
    if options["price"] is not None:
        return _given(rate.to_usd(options["price"]), options["tier"] or "given", "--price", options["region"])
    if options["owned"] is not None:
        return _given(rate.to_usd(per_hour(owned(options["owned"]))), "owned", f"--owned {options['owned']}", None)
    if options["hardware"] is None and machine is None:
        raise UserError("what an instance costs is not said: --price, --owned or --hardware (`dyno prices` lists them)")
    gpus = options["gpus"] if options["hardware"] else 1
    spec = machine if options["hardware"] is None and machine else HardwareSpec(
        name=f"{gpus} × {options['hardware']}", kind="cuda", accelerator=options["hardware"], accelerators=gpus)
    return _of_list(_applying(home, spec), spec, options["tier"], options["region"])


def _given(usd: float, tier: str, source: str, region: str | None) -> Price:
    return Price(hardware="an instance", price_usd_per_hour=usd, tier=tier, date=_prices.today().isoformat(),
                 source=source[:200], region=region)


def _applying(home: Path, spec: HardwareSpec) -> list[list[Price]]:
    """Those that a person gave, then all others."""
    known = pricelist.every(home)

    def of(rows: Sequence[StoredPrice]) -> list[Price]:
        return prices.applying([one.price for one in rows], spec)

    cores = [] if spec.accelerator else prices.bundled(spec)
    return [of([k for k in known if k.given]), of([k for k in known if not k.given]) + cores]


def _of_list(groups: list[list[Price]], spec: HardwareSpec, tier: str | None, region: str | None) -> Price:
    for group in groups:
        if found := prices.choose(group, tier, region):
            return found
    known = sorted({f"{p.tier}{f' ({p.region})' if p.region else ''}" for group in groups for p in group})
    what = " ".join(filter(None, (tier, spec.accelerator or spec.name, region and f"in {region}")))
    way = f"there is {', '.join(known)}" if known else "give --price, or a row in prices.yaml (`dyno prices --help`)"
    raise UserError(f"no price of {what}: {way}")


def owned(text: str) -> Owned:
    """Reads `price=250000,years=5,…`. Raises UserError naming the field."""
    pairs = [part.partition("=") for part in text.replace(" ", "").split(",") if part]
    try:
        return Owned.model_validate({name: value for name, _, value in pairs})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise UserError(f"--owned: {field}: {first['msg']}; it takes {', '.join(Owned.model_fields)}") from None
