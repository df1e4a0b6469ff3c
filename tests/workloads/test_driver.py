"""The driver over real sockets: who is sent when, what a run leaves behind, and how it can be stopped."""

from __future__ import annotations

import datetime as dt
import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import psutil
import pytest

from models.errors import EndpointError, UserError
from models.frames import OUTCOMES, REQUESTS
from models.records import Endpoint
from models.specs import Lengths, Load, Workload
from models.summary import summarise
from tests.workloads.truth import HOLD, Asked, Step, TruthServer, answer
from workloads import driver, prompts, reads, schedule
from workloads.driver import Drive
from workloads.vocabulary import COMMON, Vocabulary

WORDS = Vocabulary(tuple(w for w in COMMON if len(w) <= 4))


def workload(turns: int = 1, output: int = 3, **more: object) -> Workload:
    return Workload.model_validate({"name": "t", "input_tokens": Lengths(mean=12),
                                    "output_tokens": Lengths(mean=output), "turns": turns, **more})


def run(endpoint: Endpoint, load: Load, what: Workload | None = None, **more: object) -> Drive:
    what = what or workload()
    plan = schedule.plan(what, load, 0)
    return driver.drive(plan, prompts.bodies(plan, what, endpoint, WORDS), what, endpoint, load,
                        **more)  # type: ignore[arg-type]


def test_closed_loop_answers_every_measured_request() -> None:
    with TruthServer() as server:
        got = run(server.endpoint(), Load(concurrency=4, requests=20))
    frame = got.requests
    assert dict(frame.schema) == REQUESTS
    measured = frame.filter(pl.col("phase") == "measured")
    assert measured.height == 20 and set(measured["outcome"]) == {"ok"} and not got.truncated
    assert frame.filter(pl.col("phase") == "warmup").height == 4
    assert frame["request_index"].to_list() == sorted(frame["request_index"])
    assert (measured["output_tokens"] == measured["output_tokens_planned"]).all()
    assert set(measured["output_tokens_source"]) == {"usage"} and set(measured["cached_tokens"]) == {0}
    assert set(measured["finish_reason"]) == {"length"} and set(measured["http_status"]) == {200}
    assert 1 <= server.most_busy <= 4 and server.open == 0
    assert summarise(frame).requests_ok == 20
    assert abs(dt.datetime.fromisoformat(got.started_at) - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=5)
    assert got.duration_s > 0 and 0 < got.client_cpu_s < got.duration_s + 1


@pytest.mark.skipif(sys.platform != "linux", reason="its sockets are read past the loop on Linux only")
@pytest.mark.parametrize("compiled", [True, False])
def test_both_receive_loops_give_the_same_answers(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr(reads, "_reads", None)
    assert reads.compiled() == compiled, "the compiled loop is missing: see `pip install -v -e .`"
    with TruthServer(lambda asked: answer(asked, 0.01, 0.002)) as server:
        frame = run(server.endpoint(), Load(concurrency=8, requests=60), workload(output=9)).requests
    ok = frame.filter(pl.col("outcome") == "ok", pl.col("phase") == "measured")
    assert ok.height == 60
    assert (ok["output_tokens"] == ok["chunk_ns"].list.len()).all()
    assert (ok["first_token_ns"] - ok["sent_ns"]).min() > 9e6  # type: ignore[operator]


def test_stamps_are_in_the_order_of_what_happened() -> None:
    with TruthServer(lambda asked: answer(asked, 0.02, 0.005)) as server:
        frame = run(server.endpoint(), Load(concurrency=2, requests=6)).requests
    ok = frame.filter(pl.col("outcome") == "ok")
    order = ["planned_ns", "sent_ns", "first_byte_ns", "first_token_ns", "last_token_ns", "done_ns"]
    for earlier, later in itertools.pairwise(order):
        assert (ok[earlier] <= ok[later]).all(), f"{later} before {earlier}"
    assert (ok["planned_ns"] >= 0).all() and (ok["first_content_ns"] == ok["first_token_ns"]).all()
    assert ok["first_reasoning_ns"].null_count() == ok.height
    for chunks, sent, first, last in ok.select("chunk_ns", "sent_ns", "first_token_ns", "last_token_ns").iter_rows():
        assert chunks == sorted(chunks) and len(chunks) == 3
        assert (sent + chunks[0], sent + chunks[-1]) == (first, last)
    assert (ok["first_token_ns"] - ok["sent_ns"] >= 20_000_000).all()  # the server waits that long before it
    assert (ok["last_token_ns"] - ok["sent_ns"] >= 30_000_000).all()


def test_a_user_sends_the_instant_it_is_free_and_keeps_its_connection() -> None:
    with TruthServer() as server:
        frame = run(server.endpoint(), Load(concurrency=1, requests=5, warmup_requests=1)).requests
    assert frame["planned_ns"][0] == 0
    assert frame["planned_ns"].to_list()[1:] == frame["done_ns"].to_list()[:-1]
    assert server.connections == 1 and {a.headers["host"] for a in server.asked} == {f"127.0.0.1:{server.port}"}


def test_tail_requests_keep_the_load_up_and_are_cancelled() -> None:
    def script(asked: Asked) -> Iterator[Step]:
        """Three of four measured requests are answered at once, the last when three more came, and those never."""
        number = len(server.asked)
        if number > 4:
            yield from list(answer(asked))[:3]
            yield HOLD
        while number == 4 and len(server.asked) < 7:
            yield 0.005
        yield from answer(asked)
    with TruthServer(script) as server:
        load = Load(concurrency=4, requests=4, warmup_requests=0, timeout_s=20)
        got = run(server.endpoint(), load)
        deadline = time.monotonic() + 10
        while server.open and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.open == 0
    frame = got.requests
    assert set(frame.filter(pl.col("phase") != "tail")["outcome"]) == {"ok"} and not got.truncated
    tail = frame.filter(pl.col("phase") == "tail")
    assert tail.height == 3 and set(tail["outcome"]) == {"cancelled"} and server.left == 3
    assert (tail["done_ns"] >= frame.filter(pl.col("phase") == "measured")["done_ns"].max()).all()


def test_turns_of_a_session_follow_one_another_with_growing_prompts() -> None:
    with TruthServer() as server:
        what = workload(turns=3, think_time_s=0.02)
        frame = run(server.endpoint(), Load(concurrency=2, requests=6, warmup_requests=0), what).requests
    for session in range(2):
        turns = frame.filter((pl.col("session") == session) & (pl.col("phase") == "measured"))
        assert turns["turn"].to_list() == [0, 1, 2]
        for i in (1, 2):
            assert turns["planned_ns"][i] == turns["done_ns"][i - 1] + 20_000_000
            assert turns["sent_ns"][i] >= turns["planned_ns"][i]
    texts = [a.body["prompt"] for a in server.asked]
    grown = [any(t != s and t.startswith(s) for t in texts) for s in texts]
    assert sum(grown) == frame.filter(pl.col("turn") > 0).height >= 4  # each but a session's last so far


def test_open_loop_keeps_its_absolute_schedule_behind_a_server_that_stalls() -> None:
    def script(asked: Asked) -> Iterator[Step]:
        yield 0.3 if len(server.asked) == 1 else 0.0
        yield from answer(asked)
    with TruthServer(script) as server:
        load = Load(request_rate=200, requests=20, warmup_requests=2)
        what = workload()
        plan = schedule.plan(what, load, 0)
        t0_ns = time.perf_counter_ns()
        got = driver.drive(plan, prompts.bodies(plan, what, server.endpoint(), WORDS), what, server.endpoint(), load,
                           t0_ns=t0_ns)
    frame = got.requests
    ran = plan.requests["offset_ns"].gather(frame["request_index"])
    start = frame["planned_ns"] - ran
    assert start.n_unique() == 1 and start[0] > 0  # one anchor, and it is t0
    assert (frame["sent_ns"] >= frame["planned_ns"]).all()
    measured = frame.filter(pl.col("phase") == "measured")
    assert measured.height == 20 and set(measured["outcome"]) == {"ok"}
    assert server.most_busy > 1  # nobody waited for the stalled one
    assert 2 <= server.connections <= 2 * server.most_busy + 1  # kept, with some to spare


def test_the_longest_duration_leaves_the_rest_unsent() -> None:
    with TruthServer(lambda asked: answer(asked, 0.05)) as server:
        got = run(server.endpoint(), Load(concurrency=1, requests=1000, warmup_requests=0, duration_s_max=0.6))
        opened = run(server.endpoint(), Load(request_rate=20, requests=1000, warmup_requests=0, duration_s_max=0.6))
    for drive in (got, opened):
        assert drive.truncated and 1 <= drive.requests.height < 1000
        assert set(drive.requests["outcome"]) == {"ok"}


def test_an_engine_that_died_ends_the_run_with_what_there_is() -> None:
    stop = threading.Event()

    def script(asked: Asked) -> Iterator[Step]:
        if len(server.asked) > 3:
            stop.set()
            yield HOLD
        yield from answer(asked)
    with TruthServer(script) as server:
        got = run(server.endpoint(), Load(concurrency=1, requests=100, warmup_requests=0), should_stop=stop.is_set)
    assert got.truncated and got.requests["outcome"].to_list() == ["ok", "ok", "ok", "cancelled"]


def test_progress_is_told_and_its_errors_end_the_run() -> None:
    told: list[tuple[int, int, int]] = []
    with TruthServer(lambda asked: answer(asked, 0.05)) as server:
        run(server.endpoint(), Load(concurrency=2, requests=10), on_progress=lambda *now: told.append(now))
        assert told[-1][:2] == (12, 12) and told[-1][2] > 0
        assert [n for n, _, _ in told] == sorted(n for n, _, _ in told)

        def broken(done: int, total: int, tokens: int) -> None:
            raise RuntimeError("the terminal is gone")
        with pytest.raises(RuntimeError, match="terminal is gone"):
            run(server.endpoint(), Load(concurrency=2, requests=1000), on_progress=broken)


def test_it_works_in_another_thread_and_leaves_the_process_as_it_was() -> None:
    files, interval = psutil.Process().num_fds(), sys.getswitchinterval()
    drives: list[Drive] = []
    with TruthServer() as server:
        one = threading.Thread(target=lambda: drives.append(run(server.endpoint(), Load(concurrency=3, requests=9))))
        one.start()
        one.join()
    assert drives[0].requests.height >= 9
    assert gc.isenabled() and sys.getswitchinterval() == interval
    assert psutil.Process().num_fds() <= files
    assert [t.name for t in threading.enumerate() if t.name.startswith("dyno")] == []


def test_bodies_that_are_not_the_plan_s_are_refused() -> None:
    what, load = workload(), Load(concurrency=1, requests=2)
    with pytest.raises(ValueError, match="1 bodies for 3 planned requests"):
        driver.drive(schedule.plan(what, load, 0), [b"{}"], what, Endpoint(url="http://127.0.0.1:1", model="m"), load)


def test_a_host_that_does_not_resolve_is_an_error_before_the_run() -> None:
    with pytest.raises(EndpointError, match=r"http://no-such-host\.invalid.*does not resolve"):
        run(Endpoint(url="http://no-such-host.invalid", model="m"), Load(concurrency=1, requests=1))


def test_more_connections_than_files_allowed_are_refused_before_the_run() -> None:
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    code = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 1024))
from workloads.pool import allow_connections
limits = lambda: resource.getrlimit(resource.RLIMIT_NOFILE)
allow_connections(500, 500)
print(limits()[0] >= 500)
allow_connections(1, 100_000)
print(*limits())
try:
    allow_connections(5000, 5000)
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.startswith("True\n1024 1024\nUserError concurrency: 5000 connections need")
    assert (soft, hard) == resource.getrlimit(resource.RLIMIT_NOFILE)


ROOT = Path(__file__).parents[2]
INTERRUPTED = """
import sys
from models.records import Endpoint
from models.specs import Load
from tests.workloads.test_driver import run
try:
    run(Endpoint(url=sys.argv[1], model="m"), Load(concurrency=4, requests=100))
except KeyboardInterrupt:
    import threading
    print("interrupted", threading.active_count(), flush=True)
"""


def test_ctrl_c_closes_everything() -> None:
    with TruthServer(lambda asked: [HOLD]) as server:
        child = subprocess.Popen([sys.executable, "-W", "error", "-c", INTERRUPTED, server.url], cwd=ROOT,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 30
        while len(server.asked) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGINT)
        out, err = child.communicate(timeout=30)
        while server.open and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (out, err, server.open) == ("interrupted 1\n", "", 0)


def test_every_outcome_is_a_known_one() -> None:
    assert {"ok", "refused", "reset", "timeout", "malformed", "cancelled", "truncated", "error_event"} <= set(OUTCOMES)
    with pytest.raises(UserError):
        run(Endpoint(url="ftp://127.0.0.1", model="m"), Load(concurrency=1, requests=1))
