"""Arrivals, what is said of a run, and the simulation against textbook queues."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import UserError
from models.planning import outcome, traffic
from models.planning.simulation import Scheduling, Simulated, closed_loop, open_loop
from models.planning.steps import StepTimes

TIMES = StepTimes(base_s=0.010, per_sequence_s=0.002, per_prompt_s=0.001, per_prefill_token_s=0.0001)


def generator(seed: int = 1) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def test_arrivals_come_at_their_rate() -> None:
    for kind, cv, expected in (("poisson", 1.0, 1.0), ("gamma", 2.0, 2.0), ("constant", 1.0, 0.0)):
        came = traffic.arrivals(5.0, 4000.0, generator(), kind, cv)  # type: ignore[arg-type]
        gaps = np.diff(came)
        assert len(came) == pytest.approx(20_000, rel=0.05) and came[0] >= 0 and came[-1] < 4000
        assert gaps.std() / gaps.mean() == pytest.approx(expected, abs=0.06)


def test_a_profile_moves_arrivals_and_keeps_their_number() -> None:
    """Twice the mean in the second quarter, none in the third; the period of 100 s is repeated ten times."""
    came = traffic.arrivals(10.0, 1000.0, generator(), profile=[1, 2, 0, 1], period_s=100.0)
    quarters = np.bincount((came % 100 // 25).astype(int), minlength=4)
    assert quarters == pytest.approx([2500, 5000, 0, 2500], abs=200) and len(came) == pytest.approx(10_000, rel=0.03)
    even = traffic.arrivals(2.0, 12.0, generator(), "constant", profile=[1, 3], period_s=8.0)
    # 0.5 · 2 a second for 4 s, then 1.5 · 2 for 4 s, and the first part again: 4, 12 and 4 requests
    assert even[:5] == pytest.approx([0, 1, 2, 3, 4]) and even[5] == pytest.approx(4 + 1 / 3) and len(even) == 20


@pytest.mark.parametrize("profile", [[], [0, 0], [1, -1], [float("nan")]])
def test_no_profile(profile: list[float]) -> None:
    with pytest.raises(UserError, match="profile"):
        traffic.arrivals(1.0, 10.0, generator(), profile=profile)
    with pytest.raises(UserError, match="rate"):
        traffic.arrivals(0.0, 10.0, generator())


def test_what_is_said_of_a_run() -> None:
    """Two requests of 5 tokens in one slot, each 64 ms: 10 tokens in 128 ms, full for all of it; the second, which came
    a millisecond later, waits for 63 ms."""
    run = open_loop(TIMES, Scheduling(slots=1), [0.0, 0.001], [50, 50], [5, 5])
    said = outcome.metrics(run, slots=1, kv_tokens=110)
    assert said["ttft_ms_p50"] == pytest.approx((16 + 79) / 2) and said["tpot_ms_p99"] == pytest.approx(12)
    assert said["output_tokens_per_second"] == pytest.approx(10 / 0.128) and said["full_share"] == pytest.approx(1)
    assert said["requests_per_second"] == pytest.approx(2 / 0.128)
    assert said["waiting_mean"] == pytest.approx(63 / 128) and said["busy_mean"] == pytest.approx(1)
    assert said["kv_pressure_peak"] == 0.5 and said["kv_tokens_mean"] == pytest.approx(53 * 96 / 128)
    second = outcome.metrics(run, slots=1, measured=np.array([False, True]))
    assert second["ttft_ms_p50"] == pytest.approx(79) and second["requests"] == 1
    assert second["output_tokens_per_second"] == pytest.approx(10 / 0.127)


def test_a_timeline() -> None:
    run = open_loop(TIMES, Scheduling(slots=1), [0.0, 0.04], [50, 50], [5, 5])
    start, end = outcome.timeline(run, 2)
    assert start == {"at_s": 0.0, "busy": 1.0, "waiting": 0.0, "kv_tokens": 0.0}
    assert end == pytest.approx({"at_s": 0.04, "busy": 1.0, "waiting": 1.0, "kv_tokens": 51 + 4 * 24 / 48})


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), slots=st.integers(1, 8), kv=st.one_of(st.none(), st.integers(120, 400)),
       preempts=st.booleans())
def test_every_token_asked_for_comes_once(seed: int, slots: int, kv: int | None, preempts: bool) -> None:
    rng = generator(seed)
    how = Scheduling(slots=slots, kv_tokens=kv, kv_full="preempts" if preempts else "waits", step_tokens=50)
    outputs = rng.integers(1, 40, 60)
    run = open_loop(TIMES, how, np.cumsum(rng.exponential(0.05, 60)), rng.integers(1, 80, 60), outputs)
    said = outcome.metrics(run, slots)
    seconds = run.last_s.max() - run.arrived_s.min()
    assert said["output_tokens_per_second"] * seconds == pytest.approx(outputs.sum())
    assert (run.admitted_s >= run.arrived_s - 1e-12).all() and (run.first_s > run.admitted_s).all()
    assert (run.last_s >= run.first_s).all() and run.kv_tokens_peak <= (kv or 10**9)
    inside = [(run.admitted_s <= t).sum() - (run.last_s <= t).sum() for t in run.admitted_s]
    assert preempts or max(inside) <= slots


def test_littles_law() -> None:
    """Sequences inside = rate × time inside, over a window in which all came and went."""
    rng = generator()
    run = open_loop(TIMES, Scheduling(slots=4), np.cumsum(rng.exponential(0.2, 2000)), [50] * 2000, [20] * 2000)
    said = outcome.metrics(run, slots=4)
    inside = said["busy_mean"] + said["waiting_mean"]
    assert inside == pytest.approx(said["requests_per_second"] * said["e2e_ms_mean"] / 1e3, rel=1e-6)


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_one_slot_is_the_queue_m_d_1(load: float) -> None:
    """Every request of one slot takes 16 + 4 · 12 = 64 ms: the mean wait is load·service / 2(1 − load) (Pollaczek and
    Khinchine)."""
    service = 0.064
    waits = []
    for seed in range(4):
        came = np.cumsum(generator(seed).exponential(service / load, 20_000))
        run = open_loop(TIMES, Scheduling(slots=1), came, [50] * 20_000, [5] * 20_000)
        waits.append(float(run.queued_s.mean()))
    assert np.mean(waits) == pytest.approx(load * service / (2 * (1 - load)), rel=0.06)


def test_more_load_never_serves_sooner() -> None:
    gaps, lengths = generator().exponential(1.0, 3000), [30] * 3000

    def said(rate: float) -> dict[str, float]:
        return outcome.metrics(open_loop(TIMES, Scheduling(slots=4), np.cumsum(gaps) / rate, [50] * 3000, lengths), 4)

    rates = [said(rate) for rate in (0.5, 1, 2, 4, 6, 7)]
    for name in ("ttft_ms_p50", "ttft_ms_p95", "tpot_ms_p50", "e2e_ms_mean", "busy_mean", "full_share"):
        values = [one[name] for one in rates]
        assert values == sorted(values), name


def test_a_full_closed_loop_decodes_at_the_speed_of_its_batch() -> None:
    """Four users, long answers: four tokens every 10 + 4 · 2 ms, but for the prompts."""
    run = closed_loop(TIMES, Scheduling(slots=4), 4, [1] * 40, [500] * 40)
    assert outcome.metrics(run, 4)["tpot_ms_p50"] == pytest.approx(18, rel=0.02)
    assert isinstance(run, Simulated) and outcome.metrics(run, 4)["full_share"] > 0.95
