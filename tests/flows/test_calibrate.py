"""After an evaluation: fits are kept; what they did not foresee, and what got slower, a real Prefect server tells."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest
from prefect import flow

from flows import server
from flows.calibrate import UNFORESEEN, calibrate
from flows.regressions import SLOWER, compared
from tests.warehouse import again
from tests.warehouse.fake import store, trial
from warehouse import reader, writer


def measured(home: Path, *concurrencies: int, slower: float = 1.0) -> None:
    for concurrency in concurrencies:
        store(home, trial(concurrency=concurrency), itl_ms=slower * (4 + concurrency),
              ttft_ms=slower * 10 * concurrency)
    writer.ingest(home)
    writer.publish(home)


def _slower(home: Path) -> tuple[Path, list[str]]:
    """A version of an engine and its successor, which takes a fifth longer."""
    trial_ids: list[str] = []
    for day, (version, factor) in enumerate((("0.3.36", 1.0), ("0.3.37", 1.2)), 1):
        trial_ids = again.evaluated(home, day, factor, version)
        writer.ingest(home)
        writer.publish(home)
    return home, trial_ids


def events(url: str, name: str, many: int, within_s: float = 60) -> list[dict[str, object]]:
    """The server writes one after another: until so many are there."""
    deadline, found = time.monotonic() + within_s, list[dict[str, object]]()
    while len(found) < many and time.monotonic() < deadline:
        time.sleep(0.5)
        answer = httpx.post(f"{url}/events/filter", json={"filter": {"event": {"name": [name]}}}, timeout=10)
        found = answer.raise_for_status().json()["events"]
    return found


@pytest.mark.engine
def test_a_measurement_that_was_not_foreseen_raises_an_event(tmp_path: Path) -> None:
    home = tmp_path / "home"
    measured(home, 1, 4, 8)
    with server.recorded(home) as url:
        first = calibrate(home)
        assert len(first.calibrations) == 1 and first.surprises == ()
        assert calibrate(home).calibrations == ()  # nothing new, nothing fitted
        measured(home, 6, slower=3.0)
        second = calibrate(home)
        assert {s.quantity for s in second.surprises} == {"tpot", "throughput", "ttft"}
        told = events(url, UNFORESEEN, 3)
        slower = flow(validate_parameters=False)(compared.fn)(*_slower(tmp_path / "other")).changed
        told_slower = events(url, SLOWER, 3)
        artifacts = httpx.post(f"{url}/artifacts/latest/filter", json={}, timeout=10).raise_for_status().json()
    assert {one.verdict for one in slower} == {"slower"} and len(told_slower) == len(slower) == 3
    assert {one["payload"]["text"] for one in told_slower} == {one.text for one in slower}  # type: ignore[index]
    assert "0.3.37" in next(one["data"] for one in artifacts if one["key"] == "changes")
    assert len(told) == 3
    assert {str(one["resource"]["prefect.resource.id"]) for one in told} == {  # type: ignore[index]
        f"dyno.trial.{second.surprises[0].trial_id}"}
    rows = reader.query(home, "select count(distinct run) as runs, count(*) as fits from calibrations").to_dicts()
    assert rows == [{"runs": 2, "fits": 6}]
    told_rows = reader.query(home, "from surprises").to_dicts()
    assert len(told_rows) == 3 and all(not r["low"] <= r["measured"] <= r["high"] for r in told_rows)
