"""Whether an engine's new version, new weights or a rerun changed what was measured: more than noise, and by enough.

A change is said to be one when both hold:
- it is beyond noise: scatter of the requests (models.paired) and of whole measurements from one run to the next, which
  is common to all points of a run and learned from reruns of what did not change; Student's t with as many degrees of
  freedom as that rests on, and Holm's correction (Scandinavian Journal of Statistics 6, 1979) for all that is compared
  in one go, half of the chance of a false alarm for the figures of whole engines, half for single points;
- it is of a size that matters: at least LEAST.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from models.identity import Record
from models.paired import FIGURES, Kind, Pair, Timed, mean_ms, pair, ratio, unchanged
from models.shown import LATENCIES

FALSE_ALARM = 0.05
"""Chance of one false alarm or more in one look, if nothing changed at all."""
LEAST = 0.05
"""A smaller change is not worth a word."""
NOISE, NOISE_RUNS = 0.02, 4
"""Belief before any rerun: standard deviation from one run to the next, and how many pairs of runs it counts as. Few:
machines differ, and some shared ones move by a tenth, so that a change of a tenth is told only after some reruns."""
NOISE_LEAST = 0.005
BANDWIDTH_SHARE = 0.05
"""Of the machine's memory bandwidth: a greater change of it is said beside whatever else changed."""

Verdict = Literal["slower", "faster", "unchanged", "unclear"]


class Comparison(Record):
    """One figure before and after a change, over all points of an engine and model, or at one point.

    percent: by which the mean time is longer now, with its 95 % interval; chance: of being seen although nothing
    changed, after the correction for how much was compared. unclear: neither a change nor its absence could be shown.
    """

    kind: Kind = Field(description="what changed: the engine's version, the model's weights, or nothing (rerun)")
    model: str
    engine: str = Field(description="name of the server")
    hardware: str
    before: str = Field(description="version, weights or instant of what it is compared with")
    after: str
    setup: str | None = Field(default=None, description="label; None: over all points")
    workload: str | None = None
    load: str | None = None
    figure: str
    percent: float
    low: float
    high: float
    chance: float
    verdict: Verdict
    noise_percent: float = Field(description="from one run to the next, standard deviation")
    before_ms: float | None = Field(default=None, description="mean, of one point")
    after_ms: float | None = None
    points: int
    trials_before: tuple[str, ...]
    trials_after: tuple[str, ...]
    caveats: tuple[str, ...] = Field(default=(), description="what else changed")

    @property
    def text(self) -> str:
        """One sentence for people."""
        what = {"engine": f"{self.engine} {self.before} → {self.after}", "rerun": f"{self.engine} {self.after}, again",
                "model": f"{self.engine} with other weights ({self.before} → {self.after})"}[self.kind]
        where = f"{self.setup} · {self.workload} · {self.load}" if self.setup else f"over {self.points} points"
        name = LATENCIES.get(self.figure, self.figure)
        size = f"{abs(self.percent):.1f} % {'longer' if self.percent > 0 else 'shorter'}"
        also = f"; {', '.join(self.caveats)}" if self.caveats else ""
        return (f"{self.model} on {self.hardware}: {what}: {name} {size} ({self.low:+.1f} to {self.high:+.1f} %), "
                f"{where}{also}")


class Compared(Record):
    """All comparisons of one look."""

    schema_version: int = 1
    at: str
    dyno_version: str = ""
    comparisons: tuple[Comparison, ...]

    @property
    def changed(self) -> list[Comparison]:
        """What is to be told: whole engines first, then points of those whose engine as a whole says nothing."""
        told = [one for one in self.comparisons if one.setup is None and one.verdict in ("slower", "faster")]
        said = {(_whole(one), one.figure, one.verdict) for one in told}
        return told + [one for one in self.comparisons if one.setup and one.verdict in ("slower", "faster")
                       and (_whole(one), one.figure, one.verdict) not in said]


def _whole(one: Comparison) -> tuple[str, ...]:
    return (one.kind, one.model, one.engine, one.hardware, *((one.before, one.after) if one.kind != "rerun" else ()))


@dataclass(frozen=True)
class _Noise:
    """Variance from one run to the next, of ln of a figure; free: degrees of freedom it is known with."""

    variance: float
    free: float


@dataclass(frozen=True)
class _Seen:
    """A figure's ln of the ratio, its variance by the requests' scatter, and what it is of."""

    figure: str
    pairs: tuple[Pair, ...]
    log: float
    variance: float


def compare(runs: Iterable[Timed], least: float = LEAST) -> list[Comparison]:
    """Compares the newest measurements of each series with the last before them. `runs` holds the whole history of each
    series; `least`: the smallest change to be told, as a share."""
    series: dict[str, list[Timed]] = defaultdict(list)
    for run in runs:
        series[run.series].append(run)
    pairs = {name: found for name, of in series.items() if (found := pair(of))}
    noise = {figure: _noise(series, pairs, figure) for figure in FIGURES}
    groups: dict[tuple[str, ...], list[Pair]] = defaultdict(list)
    for one in pairs.values():
        groups[_group(one)].append(one)
    points = [_Seen(figure, (one,), log, error**2) for one in pairs.values()
              for figure, (log, error) in one.ratios.items()]
    whole = [seen for group in groups.values() for figure in FIGURES if (seen := _pooled(group, figure, noise[figure]))]
    return [*_judged(whole, noise, least), *_judged(points, noise, least)]


def _group(one: Pair) -> tuple[str, ...]:
    """What changed together: an engine's version with one model on one machine."""
    old, new = one.before[0], one.after[0]
    return one.kind, new.model, new.engine, new.hardware, *old.identity, *new.identity


def _pooled(group: Sequence[Pair], figure: str, noise: _Noise) -> _Seen | None:
    """The mean change of several points, each weighted by how well it is known."""
    seen = [(one, *one.ratios[figure]) for one in group if figure in one.ratios]
    if len(seen) < 2:
        return None
    weights = [1 / (error**2 + 2 * noise.variance) for _, _, error in seen]
    total = sum(weights)
    log = sum(w * one[1] for w, one in zip(weights, seen, strict=True)) / total
    variance = sum((w * one[2])**2 for w, one in zip(weights, seen, strict=True)) / total**2
    return _Seen(figure, tuple(one[0] for one in seen), log, variance)


def _noise(series: Mapping[str, Sequence[Timed]], pairs: Mapping[str, Pair], figure: str) -> _Noise:
    """Learned from reruns of what did not change, beside the belief NOISE. Points of one launch move together, so that
    each pair of launches counts once, by their mean; and the less, the more of what it shows may be the requests'
    scatter (moment estimate weighted by information, as for between-study variance in meta-analysis)."""
    launches: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for name, runs in series.items():
        for old, new in unchanged(runs, pairs.get(name)):
            if found := ratio([old], [new], figure):
                launches[old.launch, new.launch].append(found)
    believed, seen, free = 2 * NOISE**2, 0.0, float(NOISE_RUNS)
    for ratios in launches.values():
        mean = sum(log for log, _ in ratios) / len(ratios)
        scatter = sum(error**2 for _, error in ratios) / len(ratios)**2
        weight = (believed / (believed + scatter))**2
        seen += weight * (mean**2 - scatter) / 2
        free += weight
    return _Noise(max(NOISE_LEAST**2, (NOISE_RUNS * NOISE**2 + seen) / free), free)


def _judged(seen: Sequence[_Seen], noise: Mapping[str, _Noise], least: float) -> list[Comparison]:
    """Holm's procedure over all of them."""
    chances = [_chance(one, noise[one.figure]) for one in seen]
    found: dict[int, Comparison] = {}
    worst = 0.0
    for rank, i in enumerate(sorted(range(len(seen)), key=chances.__getitem__)):
        worst = max(worst, min(1.0, chances[i] * (len(seen) - rank)))
        found[i] = _comparison(seen[i], noise[seen[i].figure], worst, least)
    return [found[i] for i in range(len(seen))]


def _error(one: _Seen, noise: _Noise) -> float:
    return math.sqrt(one.variance + 2 * noise.variance)


def _chance(one: _Seen, noise: _Noise) -> float:
    from scipy.special import stdtr  # the warehouse imports this module, and most commands compare nothing

    return float(2 * stdtr(noise.free, -abs(one.log) / _error(one, noise)))


def _comparison(one: _Seen, noise: _Noise, chance: float, least: float) -> Comparison:
    from scipy.special import stdtrit

    half = float(stdtrit(noise.free, 0.975)) * _error(one, noise)
    low, high = math.expm1(one.log - half), math.expm1(one.log + half)
    old, new = one.pairs[0].before[0], one.pairs[0].after[0]
    kind = one.pairs[0].kind
    names = {"engine": (old.version, new.version), "model": (old.content[:12], new.content[:12]),
             "rerun": (f"{old.started_at:%Y-%m-%d %H:%M}", f"{new.started_at:%Y-%m-%d %H:%M}")}[kind]
    point = {"setup": new.setup, "workload": new.workload, "load": new.load,
             "before_ms": mean_ms(one.pairs[0].before, one.figure), "after_ms": mean_ms(one.pairs[0].after, one.figure),
             } if len(one.pairs) == 1 else {}
    return Comparison.model_validate({
        "kind": kind, "model": new.model, "engine": new.engine, "hardware": new.hardware, "before": names[0],
        "after": names[1], **point, "figure": one.figure, "percent": 100 * math.expm1(one.log), "low": 100 * low,
        "high": 100 * high, "chance": chance, "verdict": _verdict(math.expm1(one.log), low, high, chance, least),
        "noise_percent": 100 * math.sqrt(noise.variance), "points": len(one.pairs),
        "trials_before": tuple(t.trial_id for p in one.pairs for t in p.before),
        "trials_after": tuple(t.trial_id for p in one.pairs for t in p.after), "caveats": _caveats(one.pairs)})


def _verdict(share: float, low: float, high: float, chance: float, least: float) -> Verdict:
    if chance <= FALSE_ALARM / 2 and abs(share) >= least:
        return "slower" if share > 0 else "faster"
    return "unchanged" if -least < low and high < least else "unclear"


def _caveats(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """What changed beside: the host, its memory bandwidth, dyno itself."""
    old, new = [t for p in pairs for t in p.before], [t for p in pairs for t in p.after]
    said = []
    for what, name in (("host", "host"), ("dyno", "dyno_version")):
        was, now = ({getattr(t, name) for t in side} for side in (old, new))
        if was != now:
            said.append(f"{what} {', '.join(sorted(was))} before, {', '.join(sorted(now))} now")
    was_gb, now_gb = ([t.memory_bandwidth_gb_s for t in side if t.memory_bandwidth_gb_s] for side in (old, new))
    if was_gb and now_gb:
        share = (sum(now_gb) / len(now_gb)) / (sum(was_gb) / len(was_gb)) - 1
        if abs(share) > BANDWIDTH_SHARE:
            said.append(f"the machine's memory reads {100 * abs(share):.0f} % {'faster' if share > 0 else 'slower'}")
    return tuple(said)
