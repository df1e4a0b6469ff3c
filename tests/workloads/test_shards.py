"""One load from several processes, and runs that a judge ends."""

from __future__ import annotations

import multiprocessing
import time

import polars as pl
import pytest

from models.errors import DynoError, UserError
from models.frames import REQUESTS
from models.specs import Load, Workload
from models.summary import summarise
from tests.workloads.test_driver import WORDS, run, workload
from tests.workloads.truth import TruthServer, answer
from workloads import prompts, schedule, shards
from workloads.driver import Drive
from workloads.interim import Now


def sharded(server: TruthServer, load: Load, processes: int = 2, what: Workload | None = None, **more: object) -> Drive:
    what = what or workload()
    plan = schedule.plan(what, load, 0)
    bodies = prompts.bodies(plan, what, server.endpoint(), WORDS)
    return shards.drive(processes, plan, bodies, what, server.endpoint(), load, **more)  # type: ignore[arg-type]


def test_a_closed_loop_in_two_processes_is_one_point() -> None:
    with TruthServer(lambda asked: answer(asked, 0.01)) as server:
        got = sharded(server, Load(concurrency=5, requests=30))
        most = server.most_busy
    frame = got.requests
    measured = frame.filter(pl.col("phase") == "measured")
    assert dict(frame.schema) == REQUESTS and got.processes == 2 and not got.truncated
    assert measured.height == 30 and set(measured["outcome"]) == {"ok"} and most <= 5
    assert frame["request_index"].to_list() == sorted(frame["request_index"])
    assert frame["request_index"].is_unique().all()
    assert frame["planned_ns"].min() == 0 and summarise(frame).requests_ok == 30
    assert multiprocessing.active_children() == []


def test_an_open_loop_in_three_processes_keeps_the_one_schedule() -> None:
    load = Load(request_rate=100, requests=60, warmup_requests=3)
    with TruthServer() as server:
        frame = sharded(server, load, 3).requests
    offsets = schedule.plan(workload(), load, 0).requests["offset_ns"].gather(frame["request_index"])
    assert (frame["planned_ns"] - offsets).n_unique() == 1  # one start for all
    assert (frame["sent_ns"] >= frame["planned_ns"]).all()


def test_turns_of_a_session_stay_in_one_process() -> None:
    with TruthServer() as server:
        frame = sharded(server, Load(concurrency=2, requests=12, warmup_requests=0), what=workload(turns=3)).requests
    measured = frame.filter(pl.col("phase") == "measured").sort("session", "turn")
    for turns in measured.partition_by("session"):
        assert turns["turn"].to_list() == [0, 1, 2]
        assert (turns["planned_ns"][1:] == turns["done_ns"][:-1]).all()


def test_more_processes_than_users_and_a_host_unknown_are_errors_before_the_run() -> None:
    with TruthServer() as server:
        with pytest.raises(UserError, match="processes: 3 are more than the 2 users"):
            sharded(server, Load(concurrency=2, requests=4), 3)
        what, load = workload(), Load(concurrency=2, requests=4)
        plan = schedule.plan(what, load, 0)
        endpoint = server.endpoint().model_copy(update={"url": "http://no-such-host.invalid"})
        with pytest.raises(DynoError, match="does not resolve"):
            shards.drive(2, plan, prompts.bodies(plan, what, endpoint, WORDS), what, endpoint, load)
    assert multiprocessing.active_children() == []


def test_all_processes_stop_when_told_to() -> None:
    with TruthServer(lambda asked: answer(asked, 0.05)) as server:
        start = time.monotonic()
        got = sharded(server, Load(concurrency=2, requests=5000), should_stop=lambda: time.monotonic() > start + 3)
    assert got.truncated and 0 < got.requests.height < 5000 and multiprocessing.active_children() == []


def test_processes_stop_sending_when_the_time_is_over() -> None:
    load, start = Load(concurrency=2, requests=5000, duration_s_max=1), time.monotonic()
    with TruthServer(lambda asked: answer(asked, 0.05)) as server:
        got = sharded(server, load, should_stop=lambda: time.monotonic() > start + 20)
    measured = got.requests.filter(pl.col("phase") == "measured")
    assert got.truncated and 0 < measured.height < 500 and set(measured["outcome"]) == {"ok"}
    assert got.duration_s < 10 and multiprocessing.active_children() == []


def test_what_is_sent_after_enough_is_not_measured() -> None:
    def judge(now: Now) -> str:
        return "enough" if now.requests.filter(pl.col("phase") == "measured").height >= 10 else "go on"
    with TruthServer(lambda asked: answer(asked, 0.03)) as server:
        got = run(server.endpoint(), Load(concurrency=2, requests=2000), judge=judge)
    phases = got.requests["phase"]
    assert got.judged == "enough" and not got.truncated
    assert 10 <= (phases == "measured").sum() < 1900
    measured, tail = (got.requests.filter(pl.col("phase") == p) for p in ("measured", "tail"))
    assert set(measured["outcome"]) == {"ok"} and tail["sent_ns"].min() > measured["sent_ns"].max()  # type: ignore[operator]


def test_a_hopeless_run_ends_at_once_and_says_what_was_in_flight() -> None:
    seen: list[Now] = []

    def judge(now: Now) -> str:
        seen.append(now)
        return "hopeless" if now.in_flight.height and now.now_ns > 300_000_000 else "go on"
    with TruthServer(lambda asked: answer(asked, 30.0)) as server:
        start = time.monotonic()
        got = run(server.endpoint(), Load(concurrency=3, requests=10, warmup_requests=1), judge=judge)
        assert time.monotonic() - start < 10
    flying = seen[-1].in_flight
    assert got.judged == "hopeless" and got.truncated and set(got.requests["outcome"]) == {"cancelled"}
    assert flying.height == 3 and flying["first_ns"].null_count() == 3
    assert set(flying["phase"]) == {"warmup", "measured"}
