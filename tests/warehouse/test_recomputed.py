"""Every number of `measurements`, recomputed from `requests` in plain SQL."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from models import cost
from models.specs import Price
from models.summary import LATENCIES, RATES, STATISTICS, TOTALS
from tests.warehouse import fake
from warehouse import reader, writer

METRICS = [*(f"{m}_{s}" for m in LATENCIES for s in STATISTICS), *RATES, *TOTALS]
TOLERANCE = 1e-9


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("recomputed")
    for users in (1, 2, 8):
        fake.store(home, fake.trial(concurrency=users))
    fake.store(home, fake.trial(fake.setup("llama_cpp.server", "F16", None), request_rate=3.0, requests=60))
    writer.set_price(home, Price(hardware=fake.MACHINE.name, price_usd_per_hour=0.08, date="2026-11", source="tests"))
    writer.ingest(home)
    writer.publish(home)
    return home


def differences(home: Path) -> list[str]:
    """Compares all metrics of all trials; returns what differs, so that a failure names it."""
    wide = {r["trial_id"]: r for r in reader.query(home, "from measurements").to_dicts()}
    again = {(r["trial_id"], r["metric"]): r["value"] for r in reader.query(home, "from recomputed").to_dicts()}
    found = []
    for trial_id, row in wide.items():
        for metric in METRICS:
            stored, computed = row[metric], again.pop((trial_id, metric), None)
            equal = stored is computed is None or (None not in (stored, computed) and
                                                   math.isclose(stored, computed, rel_tol=TOLERANCE, abs_tol=1e-9))
            if not equal:
                found.append(f"{trial_id} {metric}: measurements {stored}, recomputed {computed}")
    return [*found, *(f"{t} {m}: only in recomputed" for t, m in again)]


def test_every_metric_follows_from_the_requests(home: Path) -> None:
    rows = reader.query(home, "select count(*) as n, count(distinct metric) as metrics from recomputed")
    assert rows.row(0) == (4 * len(METRICS), len(METRICS))
    assert differences(home) == []


def test_counts_and_costs_follow_too(home: Path) -> None:
    frame = reader.query(home, """
        select m.*, counted.* exclude trial_id from measurements m join (
            select trial_id, count(*) filter (outcome = 'ok') as ok, count(*) filter (outcome <> 'ok') as failed,
                   (max(done_ns) - min(sent_ns)) / 1e9 as seconds
            from requests where phase = 'measured' group by trial_id) counted using (trial_id)""")
    assert frame.height == 4
    for row in frame.to_dicts():
        assert (row["requests_ok"], row["requests_failed"]) == (row["ok"], row["failed"])
        assert row["window_s"] == pytest.approx(row["seconds"])
        usd, out, into = row["price_usd_per_hour"], row["output_tokens_per_second"], row["input_tokens_per_second"]
        for column, expected in (
                ("usd_per_million_output_tokens", cost.usd_per_million_tokens(usd, out)),
                ("usd_per_million_input_tokens", cost.usd_per_million_tokens(usd, into)),
                ("usd_per_million_total_tokens", cost.usd_per_million_tokens(usd, out + into)),
                ("usd_per_qps_hour", cost.usd_per_qps_hour(usd, row["requests_per_second"])),
                ("usd_per_thousand_requests", cost.usd_per_thousand_requests(usd, row["requests_per_second"]))):
            assert row[column] == pytest.approx(expected), column


def test_a_number_that_does_not_follow_is_found(tmp_path: Path) -> None:
    """The comparison itself can fail: one altered stamp shows."""
    path = fake.store(tmp_path)
    frame = fake.requests_of(fake.trial())
    frame[10, "first_token_ns"] = frame[10, "first_token_ns"] + 1_000_000
    frame.write_parquet(path / "requests.parquet")
    writer.ingest(tmp_path)
    writer.publish(tmp_path)
    assert any("ttft_ms_mean" in line for line in differences(tmp_path))


@pytest.mark.engine
def test_every_metric_of_real_servers_follows_from_their_requests(demo_home: Path) -> None:
    assert reader.query(demo_home, "select count(*) as n from measurements")["n"].item() > 0
    assert differences(demo_home) == []
