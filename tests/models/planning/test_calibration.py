"""What is fitted again, and what counts as not foreseen."""

from __future__ import annotations

from models.planning.calibration import CurveKey, Seen, news
from models.planning.points import Slots, point

KEY = CurveKey(setup_id="s", setup="llama-server Q8_0", workload="chat")


def seen(concurrency: float, slower: float = 1.0, started_at: str = "2026-11-20") -> Seen:
    return Seen(trial_id=f"t{concurrency:g}", started_at=started_at,
                point=point(concurrency, 20 * slower, (8 + concurrency) * slower, 50))


def test_only_what_has_new_points_is_fitted_again() -> None:
    points = [seen(1), seen(4), seen(8)]
    (first,), unforeseen = news({}, {KEY: (points, Slots())})
    assert unforeseen == [] and [f.quantity for f in first.fits] == ["tpot", "throughput", "ttft"]
    assert news({KEY: first}, {KEY: (points, Slots())}) == ([], [])
    assert news({}, {KEY: ([seen(1), seen(1, started_at="2026-11-21")], Slots())}) == ([], [])  # no curve


def test_what_turned_out_to_be_served_otherwise_is_fitted_again() -> None:
    points = [seen(1), seen(4), seen(8)]
    (first,), _ = news({}, {KEY: (points, Slots(most=8))})
    (again,), unforeseen = news({KEY: first}, {KEY: (points, Slots(most=8, apart=True))})
    assert unforeseen == [] and all(one.slots.apart for one in again.fits)


def test_a_point_as_expected_is_no_surprise_and_a_slower_one_is() -> None:
    points = [seen(1), seen(4), seen(8)]
    (first,), _ = news({}, {KEY: (points, Slots())})
    (again,), unforeseen = news({KEY: first}, {KEY: ([*points, seen(6)], Slots())})
    assert len(again.seen) == 4 and unforeseen == []
    _, unforeseen = news({KEY: first}, {KEY: ([*points, seen(6, slower=2)], Slots())})
    assert {s.quantity for s in unforeseen} >= {"tpot", "throughput"}
    assert unforeseen[0].text.startswith("llama-server Q8_0 · chat · 6 at once: tpot 28 ms, predicted 14")


def test_the_same_trial_measured_again_is_compared_with_what_it_was() -> None:
    points = [seen(1), seen(4), seen(8)]
    (first,), _ = news({}, {KEY: (points, Slots())})
    again = [seen(1), seen(4, slower=2, started_at="2026-11-25"), seen(8)]
    _, unforeseen = news({KEY: first}, {KEY: (again, Slots())})
    assert {s.trial_id for s in unforeseen} == {"t4"}
