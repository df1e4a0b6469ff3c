"""Levels of a stack at lengths that it was not measured with, carried over from the workloads that it was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from models.choosing.answer import Basis
from models.choosing.evidence import Curve
from models.choosing.levels import Z_90, Interval, Level, levels
from models.planning.points import Prediction
from models.planning.priors import CurveQuantity

QUANTITIES: tuple[CurveQuantity, ...] = ("throughput", "tpot", "ttft")


def carried_over(curves: Sequence[Curve], label: str, input_tokens: float | None, output_tokens: float | None,
                 ) -> tuple[Curve, list[Level]] | str:
    """A curve without calibration and its levels, at the concurrencies that every mix has; else why not.

    Means come from models.planning.transfer. A percentile is the mean there times what that percentile was of the mean
    at the nearest mix and concurrency. Extrapolated where a length is beyond those measured.
    """
    measured = ", ".join(c.workload for c in curves)
    if input_tokens is None or output_tokens is None:
        return f"was measured with {measured} only, and the lengths of {label} are not known"
    known = [(c, found, _mean(found)) for c in curves if (found := [x for x in levels(c) if x.users])]
    usable = [(c, x, m) for c, x, m in known if all(c.fit(q) for q in QUANTITIES)]
    if len(usable) < 2:
        return (f"was not measured with {label}, only with {measured}; carrying lengths over takes two workloads with"
                " two load levels each")
    from models.planning.transfer import Mix, transfer_many  # SciPy takes long to import

    near, near_levels, _ = min(usable, key=lambda one: abs(math.log(one[2][0] / input_tokens))
                               + abs(math.log(one[2][1] / output_tokens)))
    mixes = {q: [Mix(input_tokens=m[0], output_tokens=m[1], fit=fit) for c, _, m in usable if (fit := c.fit(q))]
             for q in QUANTITIES}
    ids = tuple(dict.fromkeys(t for _, found, _ in usable for one in found for t in one.trial_ids))
    how = f"carried over from {', '.join(c.workload for c, _, _ in usable)}"
    users = [one.users or 1.0 for one in near_levels]
    there = {q: transfer_many(mixes[q], input_tokens, output_tokens, users) for q in QUANTITIES}
    out = [_level(one, {q: there[q][i] for q in QUANTITIES}, input_tokens, output_tokens, ids, how)
           for i, one in enumerate(near_levels)]
    return replace(near, workload=label, fits_json={}), out


def _mean(found: Sequence[Level]) -> tuple[float, float]:
    return (sum(x.input_tokens for x in found) / len(found) or 1.0, sum(x.output_tokens for x in found) / len(found))


def _level(one: Level, there: dict[CurveQuantity, Prediction], input_tokens: float, output_tokens: float,
           ids: tuple[str, ...], how: str) -> Level:
    ttft, tpot, rate = there["ttft"], there["tpot"], there["throughput"]
    means = {"ttft": ttft.value, "tpot": tpot.value, "itl": tpot.value,
             "e2e": ttft.value + tpot.value * (output_tokens - 1)}
    wide = {"ttft": ttft, "tpot": tpot, "itl": tpot, "e2e": max(ttft, tpot, key=lambda p: p.high / p.value)}
    values: dict[str, float] = {}
    intervals: dict[str, Interval] = {}
    for name, value in one.values.items():
        kind, mean = name.split("_")[0], one.values.get(f"{name.rpartition('_')[0]}_mean")
        if kind in means and mean:
            values[name] = means[kind] * value / mean
            half = wide[kind].high / wide[kind].value
            intervals[name] = (values[name] / half, values[name] * half)
    basis: Basis = "extrapolated" if any(p.extrapolates for p in there.values()) else "interpolated"
    return Level(users=one.users, requests_per_second=rate.value / output_tokens, input_tokens=input_tokens,
                 output_tokens=output_tokens, spread=math.log(rate.high / rate.value) / Z_90, values=values,
                 intervals=intervals, trial_ids=ids, basis=basis, how=f"{how}, at {one.load}")
