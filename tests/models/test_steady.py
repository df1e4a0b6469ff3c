"""A warm-up is cut where there is one, about as long as it is, and hardly ever where there is none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from models.frames import REQUESTS, empty
from models.steady import settled
from models.summary import summarise
from tests.models.frame import MS, frame, request

Floats = npt.NDArray[np.float64]
Rng = np.random.Generator
RUNS = 60


def steps(ttfts: Floats, itls: Floats | None = None, every_ms: float = 1000.0, tokens: int = 5) -> pl.DataFrame:
    """Requests one after another."""
    itls = np.full(len(ttfts), 10.0) if itls is None else itls
    return frame(*(request(i, sent_ms=i * every_ms, ttft_ms=t, itl_ms=g, tokens=tokens)
                   for i, (t, g) in enumerate(zip(ttfts, itls, strict=True))))


def lognormal(rng: Rng, count: int) -> Floats:
    return 20 * rng.lognormal(0, 0.6, count)


def correlated(rng: Rng, count: int) -> Floats:
    values = [0.0]
    for noise in rng.standard_normal(count + 20):
        values.append(0.6 * values[-1] + 0.8 * noise)
    return 100 + 10 * np.array(values[-count:])


def waves(rng: Rng, count: int) -> Floats:
    """Sixteen users in step: the prompts of a wave are read one after the other."""
    return 20 + 15 * (np.arange(count) % 16) + rng.standard_normal(count)


@pytest.mark.parametrize("kind", [lognormal, correlated, waves])
@pytest.mark.parametrize("count", [20, 60, 200, 1000])
def test_of_a_steady_run_hardly_anything_is_cut(kind: Callable[[Rng, int], Floats], count: int) -> None:
    cut, lost = 0.0, 0
    for seed in range(RUNS if count < 1000 else 15):
        rng = np.random.default_rng(seed)
        _, warmup = settled(steps(kind(rng, count), 10 * rng.lognormal(0, 0.05, count)))
        cut += warmup.requests / count
        lost += not warmup.found
    runs = RUNS if count < 1000 else 15
    assert cut / runs < 0.05 and lost / runs <= 0.10, (cut / runs, lost / runs)


def slow_start(share: Floats, rng: Rng) -> Floats:
    """How many times slower than in the steady state: decays over the first fifth."""
    return 1 + 2 * np.exp(-share / 0.07) + 0 * rng.random()


def step(share: Floats, rng: Rng) -> Floats:
    return np.where(share < 0.2, 2.0, 1.0)


def empty_at_first(share: Floats, rng: Rng) -> Floats:
    """Faster while the engine fills."""
    return np.where(share < 0.2, 0.5, 1.0)


@pytest.mark.parametrize("kind", [slow_start, step, empty_at_first])
@pytest.mark.parametrize("series", ["TTFT", "TPOT"])
@pytest.mark.parametrize("count", [100, 400])
def test_a_transient_is_cut_about_where_it_ends(kind: Callable[[Floats, Rng], Floats], series: str, count: int) -> None:
    cuts, named = [], 0
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        times = kind(np.arange(count) / count, rng)
        noise = rng.lognormal(0, 0.2, count)
        ttfts, itls = (20 * times * noise, None) if series == "TTFT" else (20 * noise, 10 * times * noise)
        _, warmup = settled(steps(ttfts, itls))
        assert warmup.found is False or warmup.requests <= count / 2
        cuts.append(warmup.requests / count)
        named += series in warmup.because
    assert 0.10 <= np.median(cuts) <= 0.25, np.quantile(cuts, [0.1, 0.5, 0.9])
    assert np.mean(np.array(cuts) >= 0.10) >= 0.75, np.quantile(cuts, [0.1, 0.5, 0.9])
    assert named >= 0.75 * RUNS


def test_what_is_cut_becomes_warm_up_and_the_figures_follow() -> None:
    ttfts = np.concatenate([np.full(30, 200.0), np.full(120, 20.0)])
    requests = steps(ttfts, every_ms=300)
    kept, warmup = settled(requests)
    assert (warmup.requests, warmup.failed, warmup.end_ns, warmup.found) == (30, 0, 30 * 300 * MS, True)
    assert (warmup.method, warmup.seconds) == ("MSER-5", 9.0)
    assert warmup.text.startswith("The first 30 measured requests, 9 s, were still warming up by TTFT (MSER-5)")
    assert kept["phase"].to_list() == ["warmup"] * 30 + ["measured"] * 120
    assert kept.drop("phase").equals(requests.drop("phase"))
    summary = summarise(kept)
    assert summary.requests_ok == 120 and summary.metrics["ttft_ms_p99"] == 20


def test_failures_of_the_warm_up_go_with_it_and_are_counted() -> None:
    rows = [request(i, sent_ms=i * 300, ttft_ms=200.0 if i < 30 else 20.0,
                    outcome="http_5xx" if i in (3, 8, 90) else "ok") for i in range(150)]
    kept, warmup = settled(frame(*rows))
    assert 30 <= warmup.requests <= 35 and warmup.failed == 2
    assert summarise(kept).requests_failed == 1


def test_what_was_planned_as_warm_up_or_tail_stays_so() -> None:
    rows = [request(i, sent_ms=i * 300, ttft_ms=200.0 if i < 40 else 20.0,
                    phase="warmup" if i < 10 else "measured" if i < 160 else "tail") for i in range(170)]
    kept, warmup = settled(frame(*rows))
    assert warmup.requests == 30 and kept["phase"].value_counts().sort("phase")["count"].to_list() == [120, 10, 40]


@pytest.mark.parametrize("change", [lambda s: 1 + 2 * s, lambda s: np.where(s > 0.7, 2.0, 1.0),
                                    lambda s: np.where(s < 0.6, 2.0, 1.0)], ids=["drift", "late step", "long warm-up"])
def test_where_there_is_no_steady_state_nothing_is_cut_and_it_says_so(change: Callable[[Floats], Floats]) -> None:
    rng = np.random.default_rng(4)
    requests = steps(20 * change(np.arange(300) / 300) * rng.lognormal(0, 0.1, 300))
    kept, warmup = settled(requests)
    assert not warmup.found and warmup.because == ("TTFT",) and kept.equals(requests)
    assert warmup.text.startswith("The warm-up was not over at the end, by TTFT")


def test_prompts_that_grow_with_a_conversation_are_no_transient() -> None:
    """TTFT follows the prompt: short at first, as every conversation begins, long later."""
    rng = np.random.default_rng(4)
    lengths = np.minimum(50 + 5 * np.arange(200), 300) + rng.integers(0, 20, 200)
    rows = [request(i, sent_ms=i * 300, ttft_ms=n * 0.2 * rng.lognormal(0, 0.05), input_tokens=int(n))
            for i, n in enumerate(lengths)]
    assert settled(frame(*rows))[1].requests == 0


def test_an_open_loop_that_fills_up_is_cut_where_it_is_full() -> None:
    """Answers take 40 gaps whatever the load: only the number in flight says that the first 40 found it emptier."""
    rows = [request(i, sent_ms=i * 10, ttft_ms=20, itl_ms=95, tokens=5) for i in range(400)]
    kept, warmup = settled(frame(*rows))
    assert 30 <= warmup.requests <= 50 and warmup.because == ("in flight",)
    full = summarise(kept).metrics["output_tokens_per_second"]
    assert full > summarise(frame(*rows)).metrics["output_tokens_per_second"]


def test_fewer_than_twenty_are_left_alone() -> None:
    requests = steps(np.concatenate([np.full(5, 200.0), np.full(14, 20.0)]))
    kept, warmup = settled(requests)
    assert kept.equals(requests) and warmup.found and warmup.requests == 0
    assert warmup.method is None and warmup.text.startswith("Too few requests")
    assert settled(empty(REQUESTS))[1].found


def test_answers_of_one_token_and_engines_without_noise_are_no_obstacle() -> None:
    assert settled(steps(np.full(100, 20.0), tokens=1))[1].requests == 0
    assert settled(steps(np.full(100, 20.0)))[1].found
