"""The same question asked twice: measurements of equal setups under equal loads, paired request by request.

Two measurements of one workload ask for the same lengths in the same order, whatever the words. So each request has a
twin, and what differs between requests (a long prompt, a short answer) falls out of the ratio of their times: twenty
requests that scatter by a factor of ten may still tell 3 % apart.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.intervals import Floats, effective

Ints = npt.NDArray[np.int64]
Kind = Literal["engine", "model", "rerun"]
FIGURES = ("ttft_from_schedule_ms", "tpot_ms", "e2e_from_schedule_ms")
"""Times of a request that are compared, each by its mean; the last is throughput turned about where users wait."""
REQUESTS_MIN = 5
"""Twins; fewer do not tell how much they scatter."""


@dataclass(frozen=True)
class Timed:
    """One measurement: when, of what, and FIGURES of its requests that were answered: their numbers, ascending, and a
    time each (NaN: it has none). `series`: equal for what is equal in all but engine version, weights and words of the
    prompts; `launch`: for what one process of an engine answered.
    """

    series: str
    trial_id: str
    launch: str
    started_at: dt.datetime
    engine: str
    version: str
    content: str
    model: str
    hardware: str
    setup: str
    workload: str
    load: str
    trusted: bool
    numbers: Ints
    times: Mapping[str, Floats]
    host: str = ""
    memory_bandwidth_gb_s: float | None = None
    dyno_version: str = ""

    @property
    def identity(self) -> tuple[str, str]:
        """What ran: two measurements with the same one are reruns."""
        return self.version, self.content


@dataclass(frozen=True)
class Pair:
    """What is compared in one series: measurements before (the newest of each trial) and after."""

    before: tuple[Timed, ...]
    after: tuple[Timed, ...]

    @property
    def kind(self) -> Kind:
        if self.before[0].version != self.after[0].version:
            return "engine"
        return "rerun" if self.before[0].content == self.after[0].content else "model"

    @cached_property
    def ratios(self) -> dict[str, tuple[float, float]]:
        """By figure: ln(after / before) and its standard error."""
        found = {figure: ratio(self.before, self.after, figure) for figure in FIGURES}
        return {figure: one for figure, one in found.items() if one}


def pair(series: Iterable[Timed]) -> Pair | None:
    """Returns the newest measurements of a series beside the last before them; None where nothing came before.

    The last may be of the same version (a rerun) or of another. Of two versions the lower number is `before`, whichever
    was measured first.
    """
    trusted = sorted((one for one in series if one.trusted), key=lambda one: one.started_at)
    if not trusted:
        return None
    newest = _latest(trusted, trusted[-1].identity)
    started = {(one.trial_id, one.started_at) for one in newest}
    rest = [one for one in trusted if (one.trial_id, one.started_at) not in started]
    if not rest:
        return None
    last = _latest(rest, rest[-1].identity)
    if _order(last[0].version) > _order(newest[0].version):
        last, newest = newest, last
    return Pair(last, newest)


def _latest(ordered: Sequence[Timed], identity: tuple[str, str]) -> tuple[Timed, ...]:
    """The newest measurement of each trial with that identity."""
    found = {one.trial_id: one for one in ordered if one.identity == identity}
    return tuple(found.values())


def _order(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


def ratio(before: Sequence[Timed], after: Sequence[Timed], figure: str) -> tuple[float, float] | None:
    """Returns ln of the ratio of the means over twins, after to before, and its standard error from their scatter.

    Repeats count as their mean. Linearised as a ratio estimator (Cochran, "Sampling Techniques", 3rd ed. 1977, 6.4),
    for as many independent twins as models.intervals.effective counts. None where there are too few.
    """
    (places, old), (others, new) = _means(before, figure), _means(after, figure)
    _, left, right = np.intersect1d(places, others, assume_unique=True, return_indices=True)
    old, new = old[left], new[right]
    if len(old) < REQUESTS_MIN or old.sum() <= 0 or new.sum() <= 0:
        return None
    rest = new / new.mean() - old / old.mean()
    error = float(rest.std(ddof=1)) / math.sqrt(max(2.0, effective(rest)))
    return math.log(new.mean() / old.mean()), error


def _means(runs: Sequence[Timed], figure: str) -> tuple[Ints, Floats]:
    """Requests by number, and the mean of their times over some measurements."""
    numbers = np.concatenate([one.numbers for one in runs])
    values = np.concatenate([one.times[figure] for one in runs])
    there = ~np.isnan(values)
    if len(runs) == 1:
        return numbers[there], values[there]
    places, which = np.unique(numbers[there], return_inverse=True)
    return places, np.bincount(which, values[there]) / np.bincount(which)


def unchanged(series: Iterable[Timed], besides: Pair | None) -> list[tuple[Timed, Timed]]:
    """Returns measurements of one trial that followed one another with nothing changed, but for those in question."""
    new = {(one.trial_id, one.started_at) for one in besides.after} if besides and besides.kind == "rerun" else set()
    trials: dict[tuple[str, str, str], list[Timed]] = defaultdict(list)
    for one in sorted(series, key=lambda one: one.started_at):
        if one.trusted and (one.trial_id, one.started_at) not in new:
            trials[one.trial_id, *one.identity].append(one)
    return [two for runs in trials.values() for two in itertools.pairwise(runs)]


def mean_ms(runs: Sequence[Timed], figure: str) -> float:
    """The mean of a figure over all requests of some measurements, ms."""
    return float(np.nanmean(np.concatenate([one.times[figure] for one in runs])))
