"""Each verdict is provoked once, and a clean point has none."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from models.frames import TELEMETRY, empty
from models.records import EngineRun, Verdict, Warmup
from models.specs import Lengths, Load, Workload
from models.summary import summarise
from models.verdicts import judge, of_run
from tests.models.frame import MS, frame, request

WORKLOAD = Workload(name="chat", input_tokens=Lengths(mean=100), output_tokens=Lengths(mean=5))
CLEAN = [request(i, sent_ms=i * 60) for i in range(100)]
SLOWER = [request(i, sent_ms=i * 60, itl_ms=14) for i in range(50, 100)]
LATER = [request(i, sent_ms=i * 60, ttft_ms=26) for i in range(50, 100)]
OPEN = Load(request_rate=20, requests=100)
OVERLOADED = [
    *(request(i, sent_ms=i * 50, ttft_ms=20 + i * 10) for i in range(100)),  # due every 50 ms, answered every 60 ms
    *(request(i, sent_ms=i * 50, phase="tail", outcome="cancelled", done_ns=6010 * MS) for i in range(100, 120)),
]


def verdicts(rows: list[dict[str, object]], load: Load | None = None, telemetry: pl.DataFrame | None = None,
             workload: Workload = WORKLOAD, client_cpu_s: float = 0.1, **more: Any) -> dict[str, str]:
    return {v.name: v.severity for v in judged(rows, load, telemetry, workload, client_cpu_s, **more)}


def judged(rows: list[dict[str, object]], load: Load | None = None, telemetry: pl.DataFrame | None = None,
           workload: Workload = WORKLOAD, client_cpu_s: float = 0.1, **more: Any) -> tuple[Verdict, ...]:
    requests = frame(*rows)
    return judge(requests, empty(TELEMETRY) if telemetry is None else telemetry, summarise(requests), workload,
                 load or Load(concurrency=1), client_cpu_s, duration_s=6.0, **more)


def test_a_clean_point_has_no_verdict() -> None:
    assert verdicts(CLEAN) == {}


def cpu(host: float, engine: float, client: float) -> pl.DataFrame:
    rows = [{"at_ns": 0, "source": s, "metric": "cpu_percent", "value": v}
            for s, v in (("host", host), ("engine", engine), ("client", client))]
    return pl.DataFrame(rows, schema=TELEMETRY)


def counters(**values: list[float]) -> pl.DataFrame:
    rows = [{"at_ns": at, "source": "gauges", "metric": name, "value": v}
            for name, each in values.items() for at, v in enumerate(each)]
    return pl.DataFrame(rows, schema=TELEMETRY)


@pytest.mark.parametrize(("name", "severity", "case"), [
    ("engine_died", "fatal", {"engine_died": True}),
    ("stopped_early", "warning", {"stopped_early": True}),
    ("all_failed", "fatal", {"rows": [r | {"outcome": "reset"} for r in CLEAN]}),
    ("requests_failed", "warning", {"rows": [CLEAN[0] | {"outcome": "timeout"}, *CLEAN[1:]]}),
    ("requests_failed", "fatal", {"rows": [r | {"outcome": "timeout"} for r in CLEAN[:20]] + CLEAN[20:]}),
    ("client_bound", "fatal", {"client_cpu_s": 5.5}),
    ("client_bound", "fatal", {"late_share": 0.06}),
    ("client_bound", "fatal", {"waited_s": 2.4}),
    ("client_bound", "fatal", {"rows": [r | {"planned_ns": r["sent_ns"] - 6 * MS} for r in CLEAN]}),  # type: ignore[operator]
    ("below_rate", "warning", {"rows": OVERLOADED, "load": OPEN}),
    ("backlog_grows", "fatal", {"rows": OVERLOADED, "load": OPEN}),
    ("backlog_grows", "warning", {"rows": OVERLOADED, "load": OPEN,
                                  "workload": WORKLOAD.model_copy(update={"offline": True})}),
    ("prefix_cached", "fatal", {"rows": [r | {"cached_tokens": 50} for r in CLEAN]}),
    ("prefix_cached", "fatal", {"telemetry": counters(prefix_cache_hit_tokens=[900, 1000, 1300],
                                                      prefix_cache_queried_tokens=[2000, 6000, 10000])}),
    ("prefix_cached", "fatal", {"telemetry": counters(prefix_cache_hit_tokens=[0, 500], prompt_tokens=[0, 9500])}),
    ("output_lengths_missed", "warning", {"rows": [r | {"output_tokens_planned": 8} for r in CLEAN]}),
    ("input_lengths_missed", "warning", {"rows": [r | {"input_tokens_planned": 80} for r in CLEAN]}),
    ("invalid_outputs", "warning", {"rows": [r | {"output_valid": i > 1} for i, r in enumerate(CLEAN)]}),
    ("chunks_coalesced", "warning", {"rows": [r | {"output_tokens": 10, "output_tokens_planned": 10} for r in CLEAN]}),
    ("tokens_counted", "note", {"rows": [r | {"output_tokens_source": "chunks"} for r in CLEAN]}),
    ("few_samples_p95", "warning", {"rows": CLEAN[:19]}),
    ("few_samples_p99", "note", {"rows": CLEAN[:99]}),
    ("not_stationary", "warning", {"rows": CLEAN[:50] + SLOWER}),
    ("not_stationary", "warning", {"rows": CLEAN[:50] + LATER}),
    ("not_stationary", "warning", {"warmup": Warmup(found=False, because=("TTFT",))}),
    ("not_stationary", "note", {"rows": CLEAN[:50] + SLOWER, "load": Load(request_rate=10, request_rate_end=20)}),
    ("failed_in_warmup", "warning", {"warmup": Warmup(requests=9, failed=2, end_ns=5)}),
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


def test_a_plan_drawn_below_its_rate_is_not_held_against_the_engine() -> None:
    """Due every 60 ms and answered at once, where 20 a second were asked for: chance, not a queue."""
    assert verdicts(CLEAN, load=OPEN) == {}


def test_a_steady_open_loop_at_random_has_no_verdict() -> None:
    """Poisson arrivals, ten in flight on average, in a run that begins empty and has no tail."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        due = np.cumsum(rng.exponential(50, 200))
        rows = [request(i, sent_ms=t, tokens=5, itl_ms=120 * rng.lognormal(0, 0.3)) for i, t in enumerate(due)]
        found = verdicts(rows, load=Load(request_rate=20, requests=200))
        assert found == {}, f"seed {seed}"


def test_the_verdicts_on_an_overload_say_what_happened() -> None:
    found = {v.name: v.detail for v in judged(OVERLOADED, OPEN)}
    assert found["below_rate"].startswith("16.") and "requests a second were answered" in found["below_rate"]
    assert "in flight, median TTFT went from" in found["backlog_grows"]


def test_counters_that_do_not_grow_or_start_again_are_no_contamination() -> None:
    still = counters(prefix_cache_hit_tokens=[900, 900], prefix_cache_queried_tokens=[2000, 10000])
    restarted = counters(prefix_cache_hit_tokens=[900, 0, 5], prefix_cache_queried_tokens=[2000, 0, 10000])
    assert verdicts(CLEAN, telemetry=still) == verdicts(CLEAN, telemetry=restarted) == {}


def test_chance_is_no_drift() -> None:
    """Halves of 20 heavy-tailed TTFTs differ by more than a fifth more often than not."""
    flagged = 0
    for seed in range(40):
        ttfts = 20 * np.random.default_rng(seed).lognormal(0, 1, 40)
        flagged += "not_stationary" in verdicts([request(i, sent_ms=i * 60, ttft_ms=t) for i, t in enumerate(ttfts)])
    assert flagged <= 2


def test_one_late_request_of_few_is_no_slow_client_and_two_in_a_hundred_are() -> None:
    late = {"planned_ns": CLEAN[9]["sent_ns"] - 50 * MS}  # type: ignore[operator]
    assert "client_bound" not in verdicts([*CLEAN[:9], CLEAN[9] | late, *CLEAN[10:25]])
    twice = [r | {"planned_ns": r["sent_ns"] - 50 * MS} if i in (9, 70) else r for i, r in enumerate(CLEAN)]  # type: ignore[operator]
    assert "client_bound" in verdicts(twice)


def test_being_late_counts_beside_what_it_delays() -> None:
    """6 ms is much where the first token comes after tens of ms, and nothing where it comes after seconds."""
    late = [r | {"planned_ns": r["sent_ns"] - 6 * MS} for r in CLEAN]  # type: ignore[operator]
    slow = [r | {k: r[k] + 500 * MS for k in ("first_token_ns", "last_token_ns", "done_ns")} for r in late]  # type: ignore[operator]
    assert "client_bound" in verdicts(late) and "client_bound" not in verdicts(slow)


def test_the_client_s_processor_time_is_shared_by_its_processes() -> None:
    assert "client_bound" in verdicts(CLEAN, client_cpu_s=9)
    assert verdicts(CLEAN, client_cpu_s=9, processes=2) == {}


def test_an_engine_that_only_functions_feeds_no_answer() -> None:
    run = EngineRun(engine="e", variant=None, engine_version="1", argv=(), ready_s=1.0)
    assert of_run(run) == ()
    verdict, = of_run(run.model_copy(update={"functional_only": "it has no kernels here"}))
    assert (verdict.name, verdict.severity) == ("functional_only", "fatal")
    assert "no kernels here" in verdict.detail
