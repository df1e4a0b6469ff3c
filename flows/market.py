"""What clouds ask now: gpuhunt's published catalogues (an optional package), reduced and stored beside the bundles."""

from __future__ import annotations

import logging
import socket
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from models import prices
from models.errors import EndpointError, UserError
from models.progress import Progress, silent
from models.specs import Price
from warehouse import pricelist, writer

TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Refreshed:
    """What a refresh brought: prices stored, the clouds they are of, and why others gave none."""

    stored: int
    providers: tuple[str, ...]
    missing: dict[str, str]


def refresh(home: Path, today: str, hardware: str | None = None, progress: Progress = silent) -> Refreshed:
    """Fetches the clouds' prices (of `hardware` alone where it is named), dates them `today`, stores and publishes.

    Those stored before stay: they are other dates. GPUHUNT_CATALOG_URL names another place to fetch from. Raises
    UserError without gpuhunt, EndpointError when no catalogue can be reached or none has such hardware: nothing is
    changed then.
    """
    progress("fetching prices")
    items, missing = _fetched()
    found = [p for p in reduced(items, today) if hardware is None or prices.names(hardware, p.hardware)]
    if not found:
        raise EndpointError(f"no catalogue offers {hardware or 'an accelerator'}: nothing was changed")
    progress("storing prices", 0.9, f"{len(found)}")
    stored = writer.set_prices(home, found, given=False)
    writer.publish(home)
    return Refreshed(stored, tuple(sorted({i.provider for i in items})), missing)


def sync(home: Path) -> None:
    """Brings the warehouse to what prices.yaml says, and publishes where that changed anything."""
    if writer.sync_prices(home):
        writer.publish(home)


def offered(today: str) -> list[Price]:
    """What the clouds ask now, dated `today`; stores nothing. Raises as refresh() does."""
    return reduced(_fetched()[0], today)


def reduced(items: Iterable[Any], date: str) -> list[Price]:
    """Returns, of gpuhunt's offers, the cheapest for one accelerator by its kind, provider and tier (on-demand, spot).

    An accelerator that comes with several memories carries its own in the name: `A100 80GB`.
    """
    offers = [i for i in items if i.gpu_count and i.gpu_name and i.price > 0]
    memories: dict[str, set[float]] = defaultdict(set)
    for one in offers:
        memories[one.gpu_name].add(one.gpu_memory)
    cheapest: dict[tuple[str, str, str], Any] = {}
    for one in offers:
        several = len(memories[one.gpu_name]) > 1 and one.gpu_memory
        name = f"{one.gpu_name} {one.gpu_memory:g}GB" if several else one.gpu_name
        key = (name, one.provider, "spot" if one.spot else "on-demand")
        if key not in cheapest or one.price / one.gpu_count < cheapest[key].price / cheapest[key].gpu_count:
            cheapest[key] = one
    return [Price(hardware=name, price_usd_per_hour=round(one.price / one.gpu_count, 6), tier=tier, date=date,
                  source=f"{pricelist.FETCHED}: {provider}", region=one.location, instance=one.instance_name)
            for (name, provider, tier), one in sorted(cheapest.items(), key=lambda kv: kv[0])]


def _fetched() -> tuple[list[Any], dict[str, str]]:
    """Every offer of the catalogues that could be loaded, and why the others could not."""
    try:
        import gpuhunt
    except ModuleNotFoundError:
        raise UserError("--refresh fetches with gpuhunt: pip install 'llm-dyno[planning]'; without it, write prices"
                        f" into {pricelist.OWN} in DYNO_HOME") from None
    catalog = gpuhunt.Catalog(auto_reload=False)
    with _listening() as missing, _deadline():
        try:
            catalog.load()
        except (gpuhunt.GPUHuntError, OSError) as error:
            why = next(iter(missing.values()), str(error))
            raise EndpointError(f"the clouds' prices cannot be fetched ({why}): nothing was changed, the prices known"
                                " until now still apply (`dyno prices` lists them with their age)") from None
    return catalog.query(provider=list(catalog.catalog)), dict(missing)


@contextmanager
def _listening() -> Iterator[dict[str, str]]:
    """Collects why a provider gave nothing, which gpuhunt only logs, and keeps its tracebacks off the screen."""
    reasons: dict[str, str] = {}

    class Reasons(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and record.args:
                error = record.exc_info[1]
                reasons[str(record.args[0] if isinstance(record.args, tuple) else "")] = str(error)
                if isinstance(error, HTTPError):  # an answer, and nobody else lets go of its connection
                    error.close()

    logger, handler = logging.getLogger("gpuhunt"), Reasons()
    before = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield reasons
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


@contextmanager
def _deadline() -> Iterator[None]:
    """gpuhunt sets none: a network that swallows packets would hold it for good."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
