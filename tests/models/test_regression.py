"""What counts as a change: on histories made by rule, with noise of requests, of whole runs, and none at all."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from models.intervals import Floats
from models.paired import FIGURES, Timed, pair, ratio
from models.regression import Compared, compare

REQUESTS, START = 40, dt.datetime(2026, 11, 1)


def times(rng: np.random.Generator, factor: float, scatter: float) -> dict[str, Floats]:
    """Requests that differ by a factor of ten, the same ones every time, and scatter from one time to the next."""
    long = np.geomspace(1, 10, REQUESTS)[np.random.default_rng(1).permutation(REQUESTS)]
    return {name: factor * unit * long * np.exp(scatter * rng.standard_normal(REQUESTS))
            for name, unit in zip(FIGURES, (20.0, 3.0, 100.0), strict=True)}


def measured(rng: np.random.Generator, day: int, factor: float = 1.0, version: str = "1.0", points: int = 6,
             scatter: float = 0.1) -> list[Timed]:
    """One evaluation: so many points of one engine and model."""
    return [Timed(series=f"s{i}", trial_id=f"t{i} {version}", launch=f"{version} {day}", engine="llama-server",
                  started_at=START + dt.timedelta(days=day, minutes=i), version=version, content="a", model="m",
                  hardware="h", setup=f"setup {i}", workload="chat", load="4 at once", trusted=True,
                  numbers=np.arange(REQUESTS), times=times(rng, factor, scatter)) for i in range(points)]


def told(runs: Sequence[Timed]) -> set[str]:
    return {one.verdict for one in Compared(at="", comparisons=tuple(compare(runs))).changed}


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.02])
def test_ten_unchanged_reruns_are_not_flagged_and_a_slowdown_by_a_tenth_is(noise: float) -> None:
    alarms, missed = 0, 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        runs: list[Timed] = []
        for day in range(11):
            runs += measured(rng, day, np.exp(noise * rng.standard_normal()))
            alarms += bool(told(runs))
        slow = runs + measured(rng, 11, 1.1 * np.exp(noise * rng.standard_normal()))
        missed += "slower" not in told(slow)
    assert alarms <= 2 and missed <= (3 if noise == 0.02 else 0)


def test_a_new_version_that_is_a_tenth_slower_is_flagged_once_and_for_all_points_together() -> None:
    rng = np.random.default_rng(3)
    runs = [one for day in range(4) for one in measured(rng, day)] + measured(rng, 4, 1.11, "1.1")
    found = Compared(at="", comparisons=tuple(compare(runs)))
    assert {one.figure for one in found.changed} == set(FIGURES) and {one.setup for one in found.changed} == {None}
    first = found.changed[0]
    assert first.verdict == "slower" and (first.before, first.after, first.points) == ("1.0", "1.1", 6)
    assert first.low < 11 < first.high and first.chance < 0.025 and "llama-server 1.0 → 1.1" in first.text


def test_one_point_that_changed_is_found_among_many() -> None:
    rng = np.random.default_rng(4)
    slow = measured(rng, 1, version="1.1")
    slow[2] = replace(slow[2], times=times(rng, 1.5, 0.1))
    found = [one for one in Compared(at="", comparisons=tuple(compare(measured(rng, 0) + slow))).changed if one.setup]
    assert {one.setup for one in found} == {"setup 2"} and all(one.before_ms and one.after_ms for one in found)


def test_a_noisy_machine_teaches_caution() -> None:
    rng = np.random.default_rng(5)
    runs = [t for day in range(9) for t in measured(rng, day, 1.1 if day % 2 else 1.0)]
    (quiet, noisy) = (compare(of + measured(rng, 9, version="1.1"))[0].noise_percent for of in (measured(rng, 0), runs))
    assert noisy > 1.5 * quiet
    assert told([*runs, *measured(rng, 9, 1.1, "1.1")]) == set() and told(measured(rng, 9, 1.1, "1.1")) == set()


def test_versions_are_compared_from_lower_to_higher_and_reruns_with_the_last() -> None:
    rng = np.random.default_rng(6)
    newer, older = measured(rng, 0, version="0.10", points=1), measured(rng, 1, version="0.9", points=1)
    found = pair(newer + older)
    assert found and (found.before[0].version, found.after[0].version, found.kind) == ("0.9", "0.10", "engine")
    again = measured(rng, 2, version="0.9", points=1)
    found = pair(newer + older + again)
    assert found and found.kind == "rerun" and (found.before, found.after) == (tuple(older), tuple(again))
    assert pair([]) is None and pair(older) is None
    distrusted = [replace(again[0], trusted=False)]
    found = pair(older + distrusted)
    assert found is None, "what something disturbed is compared with nothing"


def test_twins_tell_more_than_their_means_do() -> None:
    rng = np.random.default_rng(7)
    (old,), (new,) = measured(rng, 0, points=1, scatter=0.02), measured(rng, 1, 1.03, points=1, scatter=0.02)
    log, error = ratio([old], [new], "tpot_ms") or (0.0, 0.0)
    assert abs(log - np.log(1.03)) < 3 * error and error < 0.01
    few = replace(new, numbers=new.numbers[:4], times={name: each[:4] for name, each in new.times.items()})
    assert ratio([old], [few], "tpot_ms") is None


def test_what_else_changed_is_said() -> None:
    rng = np.random.default_rng(8)
    old = [replace(t, host="a", memory_bandwidth_gb_s=30.0) for t in measured(rng, 0)]
    new = [replace(t, host="b", memory_bandwidth_gb_s=24.0) for t in measured(rng, 1, 1.3, "1.1")]
    assert compare(old + new)[0].caveats == ("host a before, b now", "the machine's memory reads 20 % slower")
