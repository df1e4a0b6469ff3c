"""prices.yaml in the warehouse: its rows come and go with its text. Hosted prices of an optional package."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from models.errors import UserError
from models.planning.cost import Request
from tests.warehouse import fake
from warehouse import hosted, pricelist, reader, writer

ROW = "  - {{hardware: '{name}', price_per_hour: {price}, tier: own, date: 2026-11-01, source: ours}}\n"


def applied(home: Path) -> float | None:
    writer.publish(home)
    value = reader.query(home, "from measurements").row(0, named=True)["price_usd_per_hour"]
    return None if value is None else float(value)


def test_rows_of_prices_yaml_come_and_go_with_its_text(tmp_path: Path) -> None:
    fake.store(tmp_path)
    (tmp_path / pricelist.OWN).write_text("prices:\n" + ROW.format(name=fake.MACHINE.name, price=0.5))
    assert writer.ingest(tmp_path).failed == [] and applied(tmp_path) == 0.5
    assert not writer.sync_prices(tmp_path), "nothing has changed"
    (tmp_path / pricelist.OWN).write_text("prices:\n" + ROW.format(name=fake.MACHINE.name, price=0.75))
    assert writer.sync_prices(tmp_path) and applied(tmp_path) == 0.75
    (tmp_path / pricelist.OWN).write_text("prices: []\n")
    assert writer.sync_prices(tmp_path) and applied(tmp_path) is None


def test_a_wrong_prices_yaml_is_named_and_leaves_the_rows_of_the_last_right_one(tmp_path: Path) -> None:
    fake.store(tmp_path)
    (tmp_path / pricelist.OWN).write_text("prices:\n" + ROW.format(name=fake.MACHINE.name, price=0.5))
    writer.ingest(tmp_path)
    (tmp_path / pricelist.OWN).write_text("prices:\n  - {hardware: H100}\n")
    (path, reason), = writer.ingest(tmp_path).failed
    assert path.name == pricelist.OWN and "prices[0].date: Field required" in reason
    assert applied(tmp_path) == 0.5
    for ask in (writer.sync_prices, pricelist.every):
        with pytest.raises(UserError, match=r"prices\.yaml: prices\[0\]\.date"):
            ask(tmp_path)


def test_without_a_database_none_is_made(tmp_path: Path) -> None:
    assert not writer.sync_prices(tmp_path) and not (tmp_path / writer.DATABASE).exists()
    assert {p.origin for p in pricelist.every(tmp_path)} == {"bundled"}


NOW = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
CHAT = Request(input_tokens=1000, output_tokens=500, cached_tokens=100)


def test_hosted_prices_are_per_request_and_the_cheapest_comes_first() -> None:
    """A request is its tokens at their prices, where cached input has none of its own."""
    pytest.importorskip("genai_prices")
    found = hosted.hosted("meta-llama/Llama-3.1-8B-Instruct", CHAT, NOW)
    assert len(found) > 3 and found == sorted(found, key=lambda h: h.usd_per_request)
    (one,) = hosted.hosted("Llama-3.1-8B-Instruct", CHAT, NOW, "ovhcloud")
    by_hand = (1000 * one.usd_per_million_input + 500 * one.usd_per_million_output) / 1e6
    assert one.usd_per_request == pytest.approx(by_hand) and one.source.startswith("genai-prices ")


@pytest.mark.parametrize(("model", "provider", "said"), [
    ("no-such-model-at-all", None, "nobody is known to serve it"), ("llama-3.1-8b-instruktion", None, "near it: "),
    ("llama-3.1-8b-instruct", "nobody", "genai-prices knows ")])
def test_a_model_or_provider_that_is_not_known_says_which_are(model: str, provider: str | None, said: str) -> None:
    pytest.importorskip("genai_prices")
    with pytest.raises(UserError, match=said):
        hosted.hosted(model, CHAT, NOW, provider)
