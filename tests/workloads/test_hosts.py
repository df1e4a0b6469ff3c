"""One load from several machines: processes of their own, also with clocks and networks of their own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client

import polars as pl
import pytest

from models.errors import DynoError, UserError
from models.frames import REQUESTS
from models.records import Endpoint
from models.specs import Load
from models.summary import summarise
from models.verdicts import of_hosts
from tests.workloads.test_driver import WORDS, workload
from tests.workloads.truth import TruthServer, answer
from workloads import hosts, peers, prompts, schedule
from workloads.driver import Drive
from workloads.peers import Host

PART = "import sys; from workloads import hosts; hosts.take_part((sys.argv[1], int(sys.argv[2])), sys.argv[3])"
AHEAD_S = 7200
OTHER_CLOCK = ("unshare", "--time", "--monotonic", str(AHEAD_S), "--fork", "--kill-child")


@contextlib.contextmanager
def gathered(number: int, *prefix: str) -> Iterator[tuple[list[Host], list[subprocess.Popen[bytes]]]]:
    """So many hosts; the first is started by the command `prefix`."""
    with peers.gathering("127.0.0.1") as gathering:
        argv = [sys.executable, "-c", PART, *map(str, gathering.address), gathering.ticket]
        started = [subprocess.Popen([*(prefix if not n else ()), *argv]) for n in range(number)]
        try:
            come = gathering.hosts(number, 60)
            yield come, started
        finally:
            for one in started:
                one.kill()
                one.wait()


def drive(come: Sequence[Host], endpoint: Endpoint, load: Load, **more: object) -> Drive:
    plan = schedule.plan(workload(), load, 0)
    return hosts.drive(come, plan, prompts.bodies(plan, workload(), endpoint, WORDS), workload(), endpoint, load,
                       **more)  # type: ignore[arg-type]


def test_one_load_after_another_from_two_hosts_is_one_point_each() -> None:
    with gathered(2) as (come, started), TruthServer(lambda asked: answer(asked, 0.01)) as server:
        closed = drive(come, server.endpoint(), Load(concurrency=5, requests=30))
        most = server.most_busy
        load = Load(request_rate=100, requests=60, warmup_requests=3)
        opened = drive(come, server.endpoint(), load)
        for host in come:
            host.end()
        assert [one.wait(20) for one in started] == [0, 0], "they leave when the coordinator hangs up"
    measured = closed.requests.filter(pl.col("phase") == "measured")
    assert dict(closed.requests.schema) == REQUESTS and closed.requests["request_index"].is_unique().all()
    assert measured.height == 30 and set(measured["outcome"]) == {"ok"} and most <= 5
    assert closed.processes == 2 and not closed.truncated and summarise(closed.requests).requests_ok == 30
    assert len(closed.hosts) == 2 and sum(one.requests for one in closed.hosts) == closed.requests.height
    assert all(0 < one.clock_error_ms < 50 for one in closed.hosts)
    assert [v.name for v in of_hosts(closed.hosts)] == ["load_hosts"]
    offsets = schedule.plan(workload(), load, 0).requests["offset_ns"].gather(opened.requests["request_index"])
    apart_ms = (opened.requests["planned_ns"] - offsets) / 1e6
    assert apart_ms.max() - apart_ms.min() <= sum(one.clock_error_ms for one in opened.hosts)  # type: ignore[operator]
    assert (opened.requests["sent_ns"] >= opened.requests["planned_ns"]).all()


def test_a_host_with_a_clock_two_hours_ahead_keeps_the_one_schedule() -> None:
    if os.geteuid() != 0 or subprocess.run([*OTHER_CLOCK, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a clock of its own takes root and a kernel with time namespaces")
    with gathered(2, *OTHER_CLOCK) as (come, _), TruthServer() as server:
        apart_s = {round(host.related().offset_ns / 1e9) for host in come}
        got = drive(come, server.endpoint(), load := Load(request_rate=100, requests=60, warmup_requests=3))
    assert apart_s == {0, AHEAD_S}
    offsets = schedule.plan(workload(), load, 0).requests["offset_ns"].gather(got.requests["request_index"])
    apart_ms = (got.requests["planned_ns"] - offsets) / 1e6
    error_ms = sum(one.clock_error_ms for one in got.hosts)
    assert error_ms < 50 and apart_ms.max() - apart_ms.min() <= error_ms  # type: ignore[operator]
    assert (got.requests["sent_ns"] - got.requests["planned_ns"]).max() < 2e9  # type: ignore[operator]


def test_a_host_that_dies_is_named_and_the_others_stop() -> None:
    with gathered(2) as (come, started), TruthServer(lambda asked: answer(asked, 0.05)) as server:
        start = time.monotonic()

        def kill() -> bool:
            if time.monotonic() > start + 1.5:
                started[0].kill()
            return False

        with pytest.raises(DynoError, match=r"load host .* is gone"):
            drive(come, server.endpoint(), Load(concurrency=4, requests=5000), should_stop=kill)
        for host in come:
            host.end()
        assert started[1].wait(20) in (0, 1)
        asked = len(server.asked)
        time.sleep(0.5)
        assert len(server.asked) == asked, "nobody sends any more"


def test_what_goes_wrong_on_a_host_is_told_as_its_own() -> None:
    with gathered(2) as (come, _), TruthServer() as server:
        endpoint = server.endpoint().model_copy(update={"url": "http://no-such-host.invalid"})
        with pytest.raises(DynoError, match=r"load host .* does not resolve"):
            drive(come, endpoint, Load(concurrency=2, requests=4))
        with pytest.raises(UserError, match="load_hosts: 2 are more than the 1 users"):
            drive(come, server.endpoint(), Load(concurrency=1, requests=4))


def test_strangers_are_turned_away_and_hosts_that_do_not_come_are_an_error() -> None:
    with peers.gathering("127.0.0.1") as gathering:
        assert gathering.ticket not in repr(gathering)
        stranger = subprocess.Popen([sys.executable, "-c", PART, *map(str, gathering.address), "wrong"],
                                    stderr=subprocess.PIPE, text=True)
        with pytest.raises(UserError, match="0 of 1 came within 2 s"):
            gathering.hosts(1, 2)
        _, said = stranger.communicate(timeout=30)
    assert "is not the coordinator of this load" in said or "does not answer" in said
    with pytest.raises((AuthenticationError, OSError)):
        Client(gathering.address, authkey=b"x")
