"""What is sampled beside a load, and instants that are kept."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import polars as pl
import psutil
import pytest

from models.frames import TELEMETRY
from workloads import alarm as alarms
from workloads.telemetry import Sampler


def means(frame: pl.DataFrame) -> dict[tuple[str, str], float]:
    rows = frame.group_by("source", "metric").agg(pl.col("value").mean()).iter_rows()
    return {(source, metric): value for source, metric, value in rows}


def test_a_busy_engine_is_seen_in_its_cpu_and_memory() -> None:
    code = "data = bytearray(64 << 20)\nprint('up', flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as engine:
        try:
            assert engine.stdout and engine.stdout.readline() == b"up\n"
            used_before = sum(psutil.Process(engine.pid).cpu_times()[:2])
            start = time.perf_counter_ns()
            with Sampler(lambda: [engine.pid], lambda: {"requests_running": 3.0}, 0.2, start) as sampler:
                while sum(psutil.Process(engine.pid).cpu_times()[:2]) < used_before + 0.5:
                    time.sleep(0.02)
            took_s = (time.perf_counter_ns() - start) / 1e9
        finally:
            engine.kill()
    frame = sampler.frame()
    assert dict(frame.schema) == TELEMETRY
    got = means(frame)
    assert got["engine", "cpu_percent"] > 0 and got["engine", "rss_bytes"] > 64 << 20
    assert got["gauges", "requests_running"] == 3.0
    assert 0 < got["host", "memory_used_bytes"] < got["host", "memory_total_bytes"]
    assert 0 <= got["host", "cpu_percent"] <= 100 * (psutil.cpu_count() or 1) * 1.5
    assert got["client", "cpu_percent"] >= 0
    assert frame["at_ns"].is_sorted() and 0 < frame["at_ns"].max() <= took_s * 1e9  # type: ignore[operator]


def test_a_short_load_has_a_sample_and_no_engine_none_of_an_engine() -> None:
    with Sampler(list, None) as sampler:
        pass
    assert set(sampler.frame()["source"]) == {"host", "client"} and sampler.frame()["at_ns"].min() >= 0  # type: ignore[operator]


def test_gauges_that_fail_and_engines_that_go_end_nothing() -> None:
    def gauges() -> dict[str, float]:
        raise ConnectionError("gone")
    with subprocess.Popen([sys.executable, "-c", ""]) as engine:
        engine.wait()
        with Sampler(lambda: [engine.pid, 2**22 - 1], gauges, 0.02) as sampler:
            time.sleep(0.1)
    assert sampler.frame().filter(pl.col("source") == "gauges").is_empty()
    assert sampler.frame().filter(pl.col("source") == "host").height > 0


@pytest.mark.parametrize("kind", [alarms._TimerFd, alarms._Spinner])
@pytest.mark.skipif(sys.platform != "linux", reason="timerfd is Linux's")
def test_an_alarm_rings_once_for_its_last_instant_and_never_early(kind: type[alarms._TimerFd]) -> None:
    async def ring_at(offsets_ns: list[int]) -> list[int]:
        rung: list[int] = []
        alarm = kind(asyncio.get_running_loop(), lambda: rung.append(time.perf_counter_ns()))
        start = time.perf_counter_ns()
        for offset in offsets_ns:
            alarm.set(start + offset)
        await asyncio.sleep(0.1)
        alarm.close()
        return [at - start for at in rung]
    late, again, past = (asyncio.run(ring_at(o)) for o in ([20_000_000], [90_000_000, 5_000_000], [-5]))
    assert len(late) == 1 and late[0] >= 20_000_000
    assert len(again) == 1 and again[0] >= 5_000_000
    assert len(past) == 1
