"""What tests of the explorer's pages share: a home that is published, and what a person sees on a page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

from models.specs import Price
from tests.warehouse import fake
from warehouse import writer

TIMEOUT_S = 60
Draw = Callable[..., AppTest]


def publish(home: Path, price: bool = True) -> None:
    """Ingests and publishes what lies in a home."""
    if price:
        writer.set_price(home, Price(hardware=fake.MACHINE.name, price_usd_per_hour=0.08, date="2026-11",
                                     source="tests"))
    writer.ingest(home)
    writer.publish(home)


def words(app: AppTest) -> str:
    """All that a person can read outside tables and charts."""
    kinds = (app.header, app.markdown, app.caption, app.warning, app.error, app.info, app.code, app.subheader)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def charts(app: AppTest) -> int:
    """How many charts are on a page."""
    return len(app.get("vega_lite_chart") or app.get("arrow_vega_lite_chart"))
