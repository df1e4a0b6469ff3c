"""`dyno prices`, `dyno plan capacity` and `dyno plan cost`, in this process on made-up bundles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from app.cli_plan_capacity import capacity
from app.cli_plan_cost import cost
from app.cli_prices import prices
from models.errors import EndpointError, UserError
from models.specs import Price
from tests.warehouse import fake
from warehouse import writer

SETUP = fake.setup().setup_id
OWN = "prices:\n  - {{hardware: H100, price_per_hour: {0}, currency: CNY, tier: own, date: 2026-11-01, source: ours}}\n"
GIVEN = ("--capacity", "2", "--input-tokens", "300", "--output-tokens", "100", "--rate", "1")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Closed loops of 1, 4 and 16, and an open one, at 0.08 USD an hour."""
    home = tmp_path_factory.mktemp("plan") / "home"
    for users, itl in ((1, 8.0), (4, 10.0), (16, 20.0)):
        fake.store(home, fake.trial(concurrency=users, requests=60), itl_ms=itl)
    fake.store(home, fake.trial(request_rate=2.5))
    writer.set_price(home, Price(hardware=fake.MACHINE.name, price_usd_per_hour=0.08, date="2026-11", source="tests"))
    writer.ingest(home)
    writer.publish(home)
    return home


def ask(command: click.Command, *arguments: str, home: Path | None = None, code: int = 0) -> str:
    done = CliRunner().invoke(command, list(arguments), env={"DYNO_HOME": str(home)} if home else None)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.stdout


def answer(command: click.Command, *arguments: str, home: Path | None = None, code: int = 0) -> Any:
    return json.loads(ask(command, *arguments, "--json", home=home, code=code))


def test_prices_show_tier_region_date_source_and_age(tmp_path: Path) -> None:
    rows = answer(prices, "--hardware", "H100", home=tmp_path)
    assert {r["tier"] for r in rows} >= {"hyperscaler", "neocloud", "rental", "spot", "on-demand", "reserved-1y"}
    assert all(r["origin"] == "bundled" and r["age_days"] > 0 and r["source"] for r in rows)
    assert "us-east-1" in ask(prices, "--hardware", "h100", "--tier", "on-demand", home=tmp_path)
    with pytest.raises(UserError, match="no price fits"):
        ask(prices, "--hardware", "abacus", home=tmp_path)


def test_own_prices_in_yuan_come_first_and_keep_what_was_quoted(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(OWN.format(14))
    first = answer(prices, "--hardware", "H100", "--currency", "CNY", home=tmp_path)[0]
    assert (first["origin"], first["price_per_hour"], first["rate_date"]) == ("prices.yaml", 14, "2026-10-30")
    assert first["price_usd_per_hour"] == pytest.approx(14 / 6.65288)
    assert "1 USD = 6.6529 CNY on 2026-10-30" in ask(prices, "--currency", "CNY", home=tmp_path)
    plan = answer(cost, *GIVEN, "--hardware", "H100", home=tmp_path)
    assert plan["price"]["tier"] == "own" and plan["price"]["source"] == "ours"
    (tmp_path / "prices.yaml").write_text("prices: [{hardware: H100}]\n")
    with pytest.raises(UserError, match=r"prices\.yaml: prices\[0\]\.date: Field required"):
        ask(prices, home=tmp_path)


def test_a_refresh_without_a_network_says_so_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gpuhunt")
    monkeypatch.setenv("GPUHUNT_CATALOG_URL", "http://127.0.0.1:9")
    with pytest.raises(EndpointError, match="nothing was changed"):
        ask(prices, "--refresh", home=tmp_path)
    assert len(answer(prices, home=tmp_path)) > 10


def test_a_rate_becomes_instances_at_every_level(measured: Path) -> None:
    got = answer(capacity, SETUP[:6], "--rate", "100", "--slo", "tpot_ms_p95<=20", "--down", "2", home=measured)
    levels = {r["level"]: r for r in got["levels"]}
    assert set(levels) == {"rough", "architecture", "calibrated", "measured"} and got["feasible"]
    for one in levels.values():
        assert one["instances"] == one["instances_needed"] + 2 >= 100 / one["requests_per_second"] + 2
        assert one["load_share_with_down"] <= 1
    calibrated = levels["calibrated"]
    assert 4 <= calibrated["concurrency"] < 16 and calibrated["low"] < calibrated["requests_per_second"]
    assert levels["measured"]["concurrency"] == 4
    text = ask(capacity, SETUP[:6], "--rate", "100", "--slo", "tpot_ms_p95<=20", home=measured)
    assert f"Answer: {levels['calibrated']['instances'] - 1} instances (calibrated)" in text


def test_what_cannot_be_kept_is_answered_with_the_nearest_that_can(measured: Path) -> None:
    got = answer(capacity, SETUP[:6], "--rate", "1", "--slo", "tpot_ms_p95<=2", home=measured, code=1)
    assert not got["feasible"] and "no engine can on this hardware" in got["reason"]
    (nearest,) = got["nearest"]
    limit = f"{nearest['metric']}<={nearest['at_most']:g}"
    assert f'--slo "{limit}"' in ask(capacity, SETUP[:6], "--rate", "1", "--slo", "tpot_ms_p95<=2", home=measured,
                                     code=1)
    assert answer(capacity, SETUP[:6], "--rate", "1", "--slo", limit, home=measured)["feasible"]
    text = ask(capacity, "--capacity", "4", "--rate", "20", "--max-instances", "4", code=1)
    assert "it takes 6 (1 of them down)" in text and "12 requests a second" in text  # 3 alive × 4


def test_a_month_at_every_level_beside_the_rough_one(measured: Path) -> None:
    plan = answer(cost, SETUP[:6], "--slo", "tpot_ms_p95<=20", "--rate", "100", "--profile", "working-hours", "--down",
                  "1", home=measured)
    levels = {r["level"]: r for r in plan["levels"]}
    assert plan["answer"] == "calibrated" and plan["price"]["price_usd_per_hour"] == 0.08
    assert levels["rough"]["usd_per_month"] == pytest.approx(0.08 * 730 * levels["rough"]["instances"])
    for one in levels.values():
        request, split = plan["demand"]["request"], one["split"]
        fresh = request["input_tokens"] - request["cached_tokens"]
        assert split["fresh_input"] * fresh + split["output"] * request["output_tokens"] == pytest.approx(
            1e6 * one["usd_per_request"])
        assert one["usd_per_request"] * 100 * 3600 * 730 == pytest.approx(one["usd_per_month"])
    assert levels["calibrated"]["instances"] > 2 * levels["rough"]["instances"], "of the busiest hour"
    trial = fake.trial(concurrency=4, requests=60).trial_id
    assert [r["level"] for r in answer(cost, trial[:6], "--rate", "100", home=measured)["levels"]] == [
        "rough", "architecture", "measured"]


def test_a_plan_by_hand_in_yuan_with_an_api_beside_it_and_its_carbon() -> None:
    """3.6 USD an hour, 2 requests a second: 0.0005 USD a request at full load, 0.001 at 1 a second; the API asks
    0.0008 (2 USD a million in and out, 400 tokens), as much as own at 1.25 a second. 1 kW is 730 kWh."""
    plan = answer(cost, *GIVEN, "--price", "3.6", "--hosted-price", "2", "2", "--power-w", "1000", "--gco2-per-kwh",
                  "100", "--gco2-source", "tests")
    assert plan["levels"][-1]["usd_per_request"] == pytest.approx(0.001)
    (api,) = plan["hosted"]
    assert api["usd_per_request"] == pytest.approx(0.0008)
    assert api["break_even_requests_per_second"] == pytest.approx(1.25)
    assert plan["footprint"]["kwh_per_month"] == 730 and plan["footprint"]["kg_co2_per_month"] == 73
    text = ask(cost, *GIVEN, "--price", "24", "--currency", "CNY")
    assert "24 CNY an hour" in text and "1 USD = 6.6529 CNY on 2026-10-30" in text and "17 520" in text


def test_owned_and_spot_machines() -> None:
    own = answer(cost, *GIVEN, "--owned", "price=87600,years=10,opex_share=0.02,utilisation=0.8")
    assert own["price"]["price_usd_per_hour"] == pytest.approx(1.5) and own["price"]["tier"] == "owned"
    spot = answer(cost, *GIVEN, "--hardware", "H100", "--gpus", "2", "--tier", "spot", "--spot-interruptions", "0.1",
                  "--ready-seconds", "3600")
    assert spot["price"]["price_usd_per_hour"] == pytest.approx(2.7) and spot["levels"][-1]["instances"] == 2


@pytest.mark.parametrize(("arguments", "said"), [
    (("--rate", "1"), "one of the two"), (("--capacity", "1", "--rate", "1"), "--input-tokens and --output-tokens"),
    ((*GIVEN[:-2], "--price", "1"), "say the load once"), (GIVEN, "--price, --owned or --hardware"),
    ((*GIVEN, "--price", "1", "--hardware", "H100"), "give one"),
    ((*GIVEN, "--hardware", "H100", "--tier", "weekend"), "there is hyperscaler"),
    ((*GIVEN, "--hardware", "abacus"), "prices.yaml"), ((*GIVEN, "--owned", "price=1,year=3"), "--owned: years"),
    ((*GIVEN, "--price", "1", "--profile", "weekly"), "working-hours"),
    ((*GIVEN, "--price", "1", "--currency", "XYZ"), "no rate is known"),
    ((*GIVEN, "--price", "1", "--gco2-per-kwh", "3"), "go together"),
    ((*GIVEN, "--price", "1", "--cached-tokens", "301"), "more are cached than put in"),
    ((*GIVEN, "--price", "1", "--spot-interruptions", "4", "--spot-lost-seconds", "1000"), "every run is lost")])
def test_a_question_that_is_not_complete_says_what_to_give(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        ask(cost, *arguments)


def test_a_stack_is_found_by_the_start_of_its_id_or_the_way_is_told(measured: Path) -> None:
    for which, said in (("zzz", "dyno runs"), ("", "dyno runs")):
        with pytest.raises(UserError, match=said):
            ask(cost, which, "--rate", "1", home=measured)
    with pytest.raises(UserError, match="is a setup: say within which limits"):
        ask(cost, SETUP, "--rate", "1", home=measured)
    with pytest.raises(UserError, match=r"no engine can.*nearest that is kept: tpot_ms_p95<="):
        ask(cost, SETUP, "--rate", "1", "--slo", "tpot_ms_p95<=2", home=measured)
    with pytest.raises(UserError, match="was measured with chat"):
        ask(cost, SETUP, "--rate", "1", "--workload", "rag", home=measured)
