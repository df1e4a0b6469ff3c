"""Each verdict is provoked once, and a clean point has none."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from models.frames import TELEMETRY, empty
from models.specs import Lengths, Load, Workload
from models.summary import summarise
from models.verdicts import judge
from tests.models.frame import MS, frame, request

WORKLOAD = Workload(name="chat", input_tokens=Lengths(mean=100), output_tokens=Lengths(mean=5))
CLEAN = [request(i, sent_ms=i * 60) for i in range(100)]
SLOWER = [request(i, sent_ms=i * 60, itl_ms=14) for i in range(50, 100)]


def verdicts(rows: list[dict[str, object]], load: Load | None = None, telemetry: pl.DataFrame | None = None,
             workload: Workload = WORKLOAD, client_cpu_s: float = 0.1, **more: Any) -> dict[str, str]:
    requests = frame(*rows)
    found = judge(requests, empty(TELEMETRY) if telemetry is None else telemetry, summarise(requests), workload,
                  load or Load(concurrency=1), client_cpu_s, duration_s=6.0, **more)
    return {v.name: v.severity for v in found}


def test_a_clean_point_has_no_verdict() -> None:
    assert verdicts(CLEAN) == {}


def cpu(host: float, engine: float, client: float) -> pl.DataFrame:
    rows = [{"at_ns": 0, "source": s, "metric": "cpu_percent", "value": v}
            for s, v in (("host", host), ("engine", engine), ("client", client))]
    return pl.DataFrame(rows, schema=TELEMETRY)


@pytest.mark.parametrize(("name", "severity", "case"), [
    ("engine_died", "fatal", {"engine_died": True}),
    ("stopped_early", "warning", {"stopped_early": True}),
    ("all_failed", "fatal", {"rows": [r | {"outcome": "reset"} for r in CLEAN]}),
    ("requests_failed", "warning", {"rows": [CLEAN[0] | {"outcome": "timeout"}, *CLEAN[1:]]}),
    ("requests_failed", "fatal", {"rows": [r | {"outcome": "timeout"} for r in CLEAN[:20]] + CLEAN[20:]}),
    ("client_bound", "fatal", {"client_cpu_s": 5.5}),
    ("client_bound", "fatal", {"rows": [r | {"planned_ns": r["sent_ns"] - 6 * MS} for r in CLEAN]}),  # type: ignore[operator]
    ("below_rate", "warning", {"load": Load(request_rate=20)}),
    ("prefix_cached", "fatal", {"rows": [r | {"cached_tokens": 50} for r in CLEAN]}),
    ("output_lengths_missed", "warning", {"rows": [r | {"output_tokens_planned": 8} for r in CLEAN]}),
    ("input_lengths_missed", "warning", {"rows": [r | {"input_tokens_planned": 80} for r in CLEAN]}),
    ("invalid_outputs", "warning", {"rows": [r | {"output_valid": i > 1} for i, r in enumerate(CLEAN)]}),
    ("chunks_coalesced", "warning", {"rows": [r | {"output_tokens": 10, "output_tokens_planned": 10} for r in CLEAN]}),
    ("tokens_counted", "note", {"rows": [r | {"output_tokens_source": "chunks"} for r in CLEAN]}),
    ("few_samples_p95", "warning", {"rows": CLEAN[:19]}),
    ("few_samples_p99", "note", {"rows": CLEAN[:99]}),
    ("not_stationary", "warning", {"rows": CLEAN[:50] + SLOWER}),
    ("host_busy", "warning", {"telemetry": cpu(host=190, engine=100, client=5)}),
])
def test_each_is_provoked(name: str, severity: str, case: dict[str, Any]) -> None:
    assert verdicts(**{"rows": CLEAN, **case}).get(name) == severity


def test_answers_that_the_model_ends_have_no_planned_length_but_a_validity() -> None:
    free = WORKLOAD.model_copy(update={"json_schema": {"type": "object"}})
    shorter = [r | {"output_tokens_planned": 50, "output_valid": i > 0} for i, r in enumerate(CLEAN)]
    assert verdicts(shorter, workload=free) == {}
    assert verdicts([r | {"input_tokens_planned": 80} for r in shorter], workload=free) == {
        "input_lengths_missed": "warning"}


def test_a_cached_prefix_is_fine_where_the_workload_shares_one() -> None:
    shared = WORKLOAD.model_copy(update={"shared_prefix_tokens": 50})
    assert verdicts([r | {"cached_tokens": 50} for r in CLEAN], workload=shared) == {}


def test_a_server_of_unknown_processes_is_no_busy_host() -> None:
    assert verdicts(CLEAN, telemetry=cpu(host=198, engine=0, client=8)) == {}


def test_the_first_error_is_quoted() -> None:
    requests = frame(*(r | {"outcome": "http_400", "error": "the prompt is too long"} for r in CLEAN))
    found = judge(requests, empty(TELEMETRY), summarise(requests), WORKLOAD, Load(concurrency=1), 0.1, 6.0)
    assert "100 http_400 (the prompt is too long)" in found[0].detail


def test_a_busy_engine_is_no_busy_host() -> None:
    assert verdicts(CLEAN, telemetry=cpu(host=198, engine=185, client=8)) == {}
