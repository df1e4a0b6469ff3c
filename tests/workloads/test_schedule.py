"""Plans: fixed by the seed, the same everywhere, with the lengths and arrivals that were asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.frames import PHASES
from models.specs import Lengths, Load, Workload
from workloads import arrivals, catalogue
from workloads.schedule import generator, lengths, plan

CHAT = catalogue.load({"name": "chat", "scale": 0.1})
AGENT = catalogue.load({"name": "agent", "scale": 0.05})
OPEN = Load(request_rate=100, requests=2000)
FIXED = Workload(name="pin", input_tokens=Lengths(distribution="lognormal", mu=5, sigma=1, max=900),
                 output_tokens=Lengths(distribution="uniform", min=4, max=90), turns=2, shared_prefix_tokens=30)


def measured(workload: Workload, load: Load, seed: int = 0) -> pl.DataFrame:
    return plan(workload, load, seed).requests.filter(pl.col("phase") == "measured")


def test_the_same_seed_gives_the_same_plan_in_every_process() -> None:
    code = """
from workloads import catalogue, schedule
from models.specs import Load
for load in (Load(concurrency=3, requests=50), Load(request_rate=5, requests=50, arrivals="gamma", burstiness=3),
             Load(request_rate=1000, requests=5000), Load(request_rate=5, request_rate_end=50, requests=500)):
    for name in ("chat", "agent"):
        print(schedule.plan(catalogue.load({"name": name, "scale": 0.1}), load, 7).digest)
"""
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                           cwd=Path(__file__).parents[2], env={**os.environ, "PYTHONHASHSEED": str(n)}).stdout
            for n in (1, 2)]
    assert runs[0] == runs[1] and len(set(runs[0].split())) == 8


def test_the_plan_is_the_same_on_every_machine() -> None:
    """The digest as it was first computed: another one means that a seed no longer names the same requests."""
    found = [plan(FIXED, load, 42).digest[:16] for load in (
        Load(concurrency=4, requests=40), Load(request_rate=8, requests=40),
        Load(request_rate=8, requests=40, arrivals="gamma", burstiness=2))]
    assert found == ["4e0cccd04daafc5e", "f5c4cf3c1590d3b3", "94ec4f500dd592e2"]


def test_seed_load_and_repeat_change_what_they_should() -> None:
    load = Load(concurrency=4, requests=40)
    first, again = plan(CHAT, load, 1), plan(CHAT, load, 1)
    assert first.digest == again.digest != plan(CHAT, load, 2).digest
    repeat = plan(CHAT, load, 1, repeat=1)
    assert repeat.requests.equals(first.requests) and repeat.text_seed != first.text_seed
    assert plan(CHAT, Load(concurrency=8, requests=40), 1).text_seed != first.text_seed


@pytest.mark.parametrize("workload", [CHAT, AGENT])
def test_every_load_answers_the_same_measured_requests(workload: Workload) -> None:
    columns = ["turn", "input_tokens_planned", "output_tokens_planned", "new_tokens"]
    loads = [Load(concurrency=1, requests=50), Load(concurrency=8, requests=50), Load(request_rate=3, requests=50),
             Load(concurrency=2, requests=50, warmup_requests=0)]
    first, *others = [measured(workload, load).select(columns) for load in loads]
    assert first.height == 50 and all(first.equals(other) for other in others)
    assert measured(workload, Load(concurrency=1, requests=20)).select(columns).equals(first.head(20))


@settings(max_examples=60, deadline=None)
@given(requests=st.integers(1, 60), users=st.integers(1, 12), rate=st.floats(0.1, 500), closed=st.booleans(),
       turns=st.integers(1, 4), warmup=st.one_of(st.none(), st.integers(0, 9)), scale=st.floats(0.001, 3))
def test_phases_sessions_and_turns(requests: int, users: int, rate: float, closed: bool, turns: int,
                                   warmup: int | None, scale: float) -> None:
    workload = catalogue.load({"name": "chat", "turns": turns, "scale": scale})
    load = Load(concurrency=users if closed else None, request_rate=None if closed else rate, requests=requests,
                warmup_requests=warmup)
    table = plan(workload, load, 3).requests
    assert table["request_index"].to_list() == list(range(table.height))
    runs = table["phase"].rle().struct.unnest()["value"].to_list()
    assert runs == [p for p in PHASES if p in runs] and "measured" in runs
    count = {p: table.filter(pl.col("phase") == p).height for p in PHASES}
    assert count["measured"] == requests and (warmup is None or count["warmup"] == warmup)
    assert count["tail"] <= requests + (users * turns if closed else 0)
    if closed and users > 1:
        assert count["tail"] >= min(requests, users)
    assert (table["new_tokens"] >= 1).all() and (table["output_tokens_planned"] >= 1).all()
    sessions = table.group_by("session", maintain_order=True).agg("turn", pl.col("phase").n_unique(), "offset_ns")
    assert sessions["session"].to_list() == list(range(sessions.height)) and set(sessions["phase"]) == {1}
    for turn, offsets in sessions.select("turn", "offset_ns").iter_rows():
        assert turn == list(range(len(turn))) and len(turn) <= turns
        assert (offsets[0] is None) == closed and set(offsets[1:]) <= {None}


def test_prompts_grow_by_what_was_said() -> None:
    table = plan(AGENT, Load(concurrency=2, requests=30), 0).requests
    prefix = round(4142 * 0.05)
    for rows in table.partition_by("session", maintain_order=True):
        said = 0
        for prompt, new, out in rows.select("input_tokens_planned", "new_tokens", "output_tokens_planned").iter_rows():
            assert prompt == prefix + said + new
            said += new + out
    whole = (table["input_tokens_planned"] + table["output_tokens_planned"]).max()
    assert plan(AGENT, Load(concurrency=2, requests=30), 0).longest_tokens == whole


def test_an_agent_s_prompts_are_mostly_seen_before() -> None:
    table = measured(catalogue.load("agent"), Load(concurrency=1, requests=6000))
    seen = 1 - table["new_tokens"].sum() / table["input_tokens_planned"].sum()
    assert seen == pytest.approx(0.64, abs=0.03)
    assert table["input_tokens_planned"].mean() == pytest.approx(15_325, rel=0.08)


@pytest.mark.parametrize(("kind", "burstiness", "variation"),
                         [("poisson", 1.0, 1.0), ("gamma", 2.0, 2.0), ("gamma", 0.5, 0.5), ("constant", 1.0, 0.0)])
def test_arrivals_have_the_rate_and_burstiness_asked_for(kind: str, burstiness: float, variation: float) -> None:
    load = Load.model_validate({**OPEN.model_dump(), "requests": 20_000, "arrivals": kind,
                                "burstiness": burstiness})
    due = plan(CHAT, load, 5).requests["offset_ns"].to_numpy()
    gaps = np.diff(due) / 1e9
    assert (gaps >= 0).all() and due[0] >= 0 and (due % 1000 == 0).all()
    assert gaps.mean() == pytest.approx(1 / 100, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(variation, abs=0.05)


def test_poisson_counts_are_dispersed_as_poisson_s() -> None:
    load = Load(request_rate=1000, requests=60_000, warmup_requests=0)
    due = plan(CHAT, load, 1).requests["offset_ns"].to_numpy() / 1e9
    counts = np.bincount((due[due < 100] * 10).astype(int))
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=0.1)


def test_poisson_counts_a_second_at_a_thousand_a_second_too() -> None:
    """The variance of a ratio of that many windows is 2/n: over 2000 seconds three sigma are 0.095."""
    rng = generator("dispersion")
    load = Load(request_rate=1000, requests=1)
    due = arrivals.offsets_ns(load, 1, 2_000_000, 0, rng)
    assert due is not None
    counts = np.bincount(due // 10**9)[:-1]
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=0.1)


RAMPS = st.tuples(st.floats(0.5, 2000), st.floats(0.5, 2000))


@settings(max_examples=60, deadline=None)
@given(rates=RAMPS, turns=st.integers(1, 3), warmup=st.integers(0, 50))
def test_a_ramp_s_rate_goes_straight_from_first_to_last(rates: tuple[float, float], turns: int, warmup: int) -> None:
    """In each tenth of its time as many come as the straight line has under it."""
    start, end = rates
    requests = 600 * turns
    workload = catalogue.load({"name": "chat", "turns": turns})
    load = Load(request_rate=start, request_rate_end=end, requests=requests, arrivals="constant",
                warmup_requests=warmup * turns)
    table = plan(workload, load, 0).requests.filter(pl.col("turn") == 0)
    due = table["offset_ns"].to_numpy() / 1e9
    assert (np.diff(due) >= 0).all()
    begin, length = warmup * turns / start, requests / ((start + end) / 2)
    assert due[:warmup] == pytest.approx(np.arange(warmup) * turns / start, abs=1e-5)
    edges = begin + np.linspace(0, length, 11)
    counts = turns * np.histogram(due, edges)[0]
    middles = start + (end - start) * (np.arange(10) + 0.5) / 10
    assert np.abs(counts - middles * length / 10).max() <= turns * 1.01
    tail = table.filter(pl.col("phase") == "tail")["offset_ns"].to_numpy() / 1e9
    assert len(tail) and tail == pytest.approx(begin + length + np.arange(len(tail)) * turns / end, rel=1e-6, abs=1e-5)


@pytest.mark.parametrize(("kind", "burstiness"), [("poisson", 1.0), ("gamma", 3.0), ("gamma", 0.4)])
@pytest.mark.parametrize("rates", [(20.0, 200.0), (200.0, 20.0)])
def test_random_arrivals_ramp_too_and_stay_as_bursty(kind: str, burstiness: float, rates: tuple[float, float]) -> None:
    load = Load.model_validate({"request_rate": rates[0], "request_rate_end": rates[1], "requests": 40_000,
                                "arrivals": kind, "burstiness": burstiness, "warmup_requests": 100})
    table = plan(CHAT, load, 3).requests
    due = table.filter(pl.col("phase") != "warmup")["offset_ns"].to_numpy() / 1e9
    assert (np.diff(due) >= 0).all()
    since, length = due - due[0], 40_000 / 110
    assert since[39_999] == pytest.approx(length, rel=0.05)
    counts = np.histogram(since, np.linspace(0, length, 11))[0]
    wanted = (rates[0] + (rates[1] - rates[0]) * (np.arange(10) + 0.5) / 10) * length / 10
    assert np.abs(counts / wanted - 1).max() < 0.12 * max(1, burstiness)
    gaps = np.diff(due)[:39_000]
    gaps *= rates[0] + (rates[1] - rates[0]) * since[1:39_001] / length  # now in units of the mean gap at the time
    assert gaps.std() / gaps.mean() == pytest.approx(burstiness, rel=0.06)
    warm = table.filter(pl.col("phase") == "warmup")["offset_ns"].to_numpy() / 1e9
    assert np.diff(warm).mean() == pytest.approx(1 / rates[0], rel=0.5 * max(1, burstiness))


def test_a_ramp_that_goes_nowhere_is_a_steady_rate() -> None:
    flat = Load(request_rate=10, request_rate_end=10, requests=200, arrivals="constant")
    steady = Load(request_rate=10, requests=200, arrivals="constant")
    one, other = (plan(CHAT, load, 0).requests["offset_ns"].to_numpy() for load in (flat, steady))
    assert np.abs(one[:200] - other[:200]).max() <= 1000


def test_the_ramped_plan_is_the_same_on_every_machine() -> None:
    ramp = Load(request_rate=2, request_rate_end=20, requests=300, burstiness=2)
    kinds = ({"arrivals": "constant"}, {"arrivals": "poisson"}, {"arrivals": "gamma"})
    found = [plan(FIXED, ramp.model_copy(update=kind), 42).digest[:16] for kind in kinds]
    assert found == ["f617389dc48a8ee7", "00f973fad95b8994", "b1fca2b0bb337d33"]


def test_requests_of_sessions_come_at_the_rate_asked_for() -> None:
    load = Load(request_rate=10, requests=3000, arrivals="constant", warmup_requests=0)
    table = plan(AGENT, load, 0).requests
    due = table["offset_ns"].drop_nulls().to_numpy()
    assert np.diff(due).tolist() == [300_000_000] * (len(due) - 1)
    assert len(due) == table["session"].n_unique()


@pytest.mark.parametrize(("wanted", "scale", "low", "high"), [
    (Lengths(mean=100), 1.0, 100, 100), (Lengths(mean=100), 0.001, 1, 1), (Lengths(mean=100, max=60), 1.0, 60, 60),
    (Lengths(distribution="uniform", min=10, max=20), 1.0, 10, 20),
    (Lengths(distribution="lognormal", mu=5, sigma=2, min=50, max=500), 0.1, 5, 50),
    (Lengths(distribution="lognormal", mu=5, sigma=2, min=50, max=500), 0.001, 1, 1),
])
def test_draws_are_scaled_then_cut(wanted: Lengths, scale: float, low: int, high: int) -> None:
    drawn = lengths(wanted, scale, 5000, generator("x"))
    assert (drawn.min(), drawn.max()) == (low, high)
    assert lengths(wanted, scale, 10, generator("x")).tolist() == drawn[:10].tolist()


def test_how_long_a_warm_up_and_a_tail_are_unless_told() -> None:
    def counts(load: Load, workload: Workload = CHAT) -> list[int]:
        table = plan(workload, load, 0).requests
        return [table.filter(pl.col("phase") == p).height for p in PHASES]
    assert counts(Load(concurrency=8, requests=20))[:2] == [8, 20]
    assert counts(Load(concurrency=8, requests=20), AGENT)[0] == 24
    assert counts(Load(concurrency=1, requests=20))[2] == 0
    assert counts(Load(concurrency=8, requests=100_000))[2] < 1000
    assert counts(Load(request_rate=10, requests=400))[:2] == [20, 400]
    assert counts(Load(request_rate=10, requests=20))[0] == 5
    assert counts(Load(request_rate=2, requests=400, timeout_s=10))[2] == 20
    assert counts(Load(request_rate=2, request_rate_end=9, requests=400, timeout_s=10)) == [4, 400, 90]
