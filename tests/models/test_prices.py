"""Prices: which apply and which is used; currencies; a person's own file, with what is wrong in it and where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import currency, pricefile, prices
from models.currency import ExchangeRate
from models.errors import UserError
from models.specs import HardwareSpec, Price

YUAN = ExchangeRate(currency="CNY", per_usd=7.0, date="2026-11-20", source="our bank")


def price(usd: float, tier: str = "on-demand", date: str = "2026-07", **more: str) -> Price:
    return Price(hardware="H100", price_usd_per_hour=usd, tier=tier, date=date, source="tests", **more)


@pytest.mark.parametrize(("named", "accelerator", "fits"), [
    ("H100", "NVIDIA H100 80GB HBM3", True), ("L4", "NVIDIA L40S", False), ("L4", "NVIDIA L4", True),
    ("A100 80GB", "NVIDIA A100-SXM4-80GB", True), ("A100 40GB", "NVIDIA A100-SXM4-80GB", False),
    ("MI300X", "AMD Instinct MI300X", True), ("H20", "NVIDIA H200", False), ("", "NVIDIA H200", False)])
def test_a_price_is_for_an_accelerator_that_has_all_its_words(named: str, accelerator: str, fits: bool) -> None:
    assert prices.names(named, accelerator) is fits


def test_every_bundled_price_has_date_tier_and_source() -> None:
    found = prices.catalogue()
    assert {"hyperscaler", "neocloud", "rental", "on-demand", "spot", "reserved-1y"} == {p.tier for p in found}
    assert all(p.source and 0.1 < p.price_usd_per_hour < 20 for p in found)


def test_a_price_applies_by_name_whole_or_by_accelerator_times_their_number() -> None:
    node = HardwareSpec(name="node-7", kind="cuda", accelerator="NVIDIA H100 80GB HBM3", accelerators=4)
    mine = Price(hardware="Node-7", price_usd_per_hour=5, tier="own", date="2026-11", source="tests")
    other = mine.model_copy(update={"hardware": "B200"})
    assert [p.price_usd_per_hour for p in prices.applying([price(1.5), mine, other], node)] == [6.0, 5]


def test_the_newest_then_the_cheapest_is_used_and_spot_only_when_asked_for() -> None:
    rows = [price(3, date="2026-06"), price(2), price(1.5, region="eu-west-1"), price(0.5, tier="spot", date="2026-09")]
    chosen = [prices.choose(rows, *which) for which in ((), ("spot",), ("On-Demand", "EU"), ("owned",))]
    assert [c and c.price_usd_per_hour for c in chosen] == [1.5, 0.5, 1.5, None]


@given(st.floats(1e-6, 1e6), st.sampled_from(sorted(currency.bundled())))
def test_money_comes_back_as_it_went(usd: float, name: str) -> None:
    rate = currency.rate(name)
    assert rate.to_usd(rate.from_usd(usd)) == pytest.approx(usd)


def test_a_dollar_was_6_65_yuan_at_the_end_of_october_2026() -> None:
    """The European Central Bank's 7.4326 CNY and 1.1172 USD for a euro."""
    yuan = currency.rate("cny")
    assert yuan.from_usd(1.1172) == pytest.approx(7.4326, rel=1e-5) and yuan.date == "2026-10-30" and yuan.source
    assert currency.rate("CNY", [YUAN, YUAN.model_copy(update={"date": "2026-01-01", "per_usd": 9})]) == YUAN
    with pytest.raises(UserError, match=r"'XYZ': no rate is known; name one of .*CNY"):
        currency.rate("XYZ")


OWN = """
prices:
  - {hardware: H100, price_per_hour: 2.10, tier: reserved-1y, date: 2026-11-01, source: our contract, region: eu}
  - {hardware: L20, price_per_hour: 14, currency: CNY, tier: on-demand, date: 2026-11, source: quotation 4711}
  - hardware: our rack
    date: 2026-11-01
    source: purchase order 17
    owned: {price: 87600, years: 10, opex_share: 0.02, utilisation: 0.8, power_w: 10000, pue: 1.2,
            electricity_per_kwh: 0.10}
currencies:
  - {currency: CNY, per_usd: 7.0, date: 2026-11-20, source: our bank}
"""


def test_own_prices_are_read_in_their_currency_and_owned_machines_worked_out() -> None:
    read = pricefile.parse(OWN, "prices.yaml")
    contract, quotation, rack = read.prices
    assert (contract.price_usd_per_hour, contract.date, contract.region) == (2.1, "2026-11-01", "eu")
    assert (quotation.price_usd_per_hour, quotation.currency, quotation.price_per_hour) == (2.0, "CNY", 14)
    assert quotation.rate_date == "2026-11-20"
    assert rack.tier == "owned" and rack.price_usd_per_hour == pytest.approx(2.7)
    assert read.rates == (YUAN,)
    assert pricefile.parse("", "prices.yaml").prices == ()


@pytest.mark.parametrize(("text", "said"), [
    ("prices: [{hardware: H100", "p.yaml: is not YAML"),
    ("- 1", "p.yaml: is a list or a word: write `prices:`"),
    ("price: []", "p.yaml: unknown field 'price'"),
    ("prices: {}\ncurrencies: 3", "p.yaml: currencies: must be a list"),
    ("prices: [{hardware: H100, price_per_hour: 2, tier: spot, source: x}]", "p.yaml: prices[0].date: Field required"),
    ("prices: [{hardware: H100, price_per_hour: 2, tier: spot, date: soon, source: x}]", "prices[0].date: String"),
    ("prices: [{hardware: H100, price_per_hour: -2, tier: spot, date: 2026-11, source: x}]",
     "prices[0].price_per_hour: Input should be greater than or equal to 0"),
    ("prices: [{hardware: H100, price_per_hour: 2, date: 2026-11, source: x}]", "prices[0]: say its tier"),
    ("prices: [{hardware: H100, tier: spot, date: 2026-11, source: x}]", "prices[0]: give price_per_hour, or owned"),
    ("prices: [{hardware: H100, pirce: 2}]", "prices[0].date: Field required"),
    ("prices: [{hardware: H100, price_per_hour: 2, tier: a, date: 2026-11, source: x, currency: QQQ}]",
     "prices[0]: currency 'QQQ': no rate is known"),
    ("prices: [{hardware: H100, price_per_hour: 20000, tier: a, date: 2026-11, source: x}]",
     "is that cents, or a month"),
    ("prices: [{hardware: r, date: 2026-11, source: x, owned: {price: 1, years: 0}}]", "prices[0].owned.years: Input"),
    ("currencies: [{currency: yuan, per_usd: 7, date: 2026-11, source: x}]", "currencies[0].currency: String")])
def test_what_is_wrong_in_a_price_file_is_named_with_file_and_field(text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        pricefile.parse(text, "p.yaml")
    assert said in str(caught.value) and str(caught.value).startswith("p.yaml: ")
