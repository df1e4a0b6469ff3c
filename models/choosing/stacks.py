"""The stacks that a question allows and what an instance of each carries; the exact figures only where they matter."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, replace

from models.choosing import carried as carry
from models.choosing import eligible, traffic
from models.choosing.answer import Excluded
from models.choosing.carried import Carried
from models.choosing.eligible import Refused
from models.choosing.evidence import Curve, Evidence, PriceOf, Stack
from models.choosing.levels import Level
from models.choosing.question import Question
from models.choosing.traffic import Traffic
from models.planning import fleet
from models.slo import Limit

MORE = 1.1
"""How much more than a straight line of logarithms a curve over concurrency may carry between two levels."""


@dataclass(frozen=True)
class Usable:
    """A stack that keeps the limits: its levels, price, capacity, and the instances that the load takes.

    fewest: instances that it cannot do with fewer of, however the curve between its levels goes; as many as `count`
    where the capacity is final.
    """

    stack: Stack
    curve: Curve
    levels: Sequence[Level]
    price: PriceOf
    capacity: Carried
    count: int
    fewest: int

    def cost(self, load_asked: bool, count: int) -> tuple[bool, float, float]:
        """What is ranked by: what rests on lengths far from those asked for last; then USD an hour of all, and of the
        work of one instance at full load."""
        each = self.capacity
        usd = self.price.price_usd_per_hour
        return (each.capacity.basis == "extrapolated", count * usd if load_asked else 0.0,
                usd / (each.capacity.value * each.output_tokens))


def usable(question: Question, asked: Traffic, evidence: Evidence, known: traffic.Known, why: bool = True,
           ) -> tuple[list[Usable], list[Excluded]]:
    """Every stack of the model, as it was measured, or (with `why`) the reason that it is left out for."""
    found: list[Usable] = []
    excluded: list[Excluded] = []
    prices = {m.hardware_id: eligible.price(m.hardware_id, question, evidence) for m in evidence.machines}
    for stack, curves in known.by_stack(question):
        refusal = eligible.refused(stack, question, evidence)
        speaks = refusal or known.curve(curves, asked)
        price = prices[stack.hardware_id]
        if one := _one(stack, speaks, price, question, known):
            found.append(one)
        elif why:
            excluded.append(_excluded(stack, speaks, price, question, evidence))
    return found, excluded


def ranked(found: Sequence[Usable], question: Question, exact: int) -> list[Usable]:
    """The cheapest first. Calibrated curves are asked only as long as they may still change which `exact` come first:
    a stack is passed over when even its fewest instances cost more."""
    asked = question.request_rate is not None or question.concurrency is not None
    waiting = sorted(found, key=lambda u: u.cost(asked, u.fewest))
    done: list[Usable] = []
    best: list[tuple[bool, float, float]] = []
    for i, one in enumerate(waiting):
        if len(best) >= exact and best[exact - 1] <= one.cost(asked, one.fewest):
            done += waiting[i:]
            break
        final = _final(one, question)
        done.append(final)
        insort(best, final.cost(asked, final.count))
    return sorted(done, key=lambda u: u.cost(asked, u.count))


def needed(question: Question, capacity: float, users: float | None) -> int:
    """Whole instances for the load and its headroom, and those that may be down; 1 and those where no load is asked."""
    more = 1 + question.headroom
    if question.concurrency is not None:
        count = fleet.instances(question.concurrency * more, users or 1.0)
    else:
        count = fleet.instances((question.request_rate or 0.0) * more, capacity)
    return max(1, count) + question.down


_Speaks = Refused | str | tuple[Curve, list[Level]]
"""The curve that speaks of the traffic, or why none may."""


def _one(stack: Stack, speaks: _Speaks, price: PriceOf | None, question: Question, known: traffic.Known,
         ) -> Usable | None:
    if isinstance(speaks, Refused | str) or price is None or not speaks[1]:
        return None
    curve, levels = speaks
    load_asked = question.request_rate is not None or question.concurrency is not None
    key = stack.setup_id, curve.workload, question.limits, question.concurrency is None
    capacity = known.once(key, lambda: carry.measured(levels, question.bounds, question.concurrency is not None))
    if capacity is None:
        return None
    fewest = count = needed(question, capacity.capacity.value, capacity.users)
    users = None
    if load_asked and count > 1 + question.down and "throughput" in curve.fits_json:
        users = known.once(("users", *key), lambda: carry.users_within(levels, question.bounds))
    if users is not None:  # with what it would carry where it just breaks a limit
        most = max(capacity.capacity.value, carry.rate_at(users, levels) * MORE)
        fewest = min(count, needed(question, most, max(users, capacity.users or 0.0)))
    return Usable(stack, curve, levels, price, capacity, count, fewest)


def _excluded(stack: Stack, speaks: _Speaks, price: PriceOf | None, question: Question, evidence: Evidence) -> Excluded:
    """Why _one() found nothing."""
    kind: str
    trial_ids: Sequence[str] = ()
    if isinstance(speaks, Refused):
        kind, reason = speaks.kind, speaks.reason
    elif isinstance(speaks, str):
        kind, reason = "workload", speaks
    elif not speaks[1]:
        seen = sorted({p.trust for p in speaks[0].points if p.fatal}) or ["nothing was answered"]
        kind, reason = "verdict", f"no point can be trusted: {', '.join(seen)}"
        trial_ids = [p.trial_id for p in speaks[0].points]
    elif price is None:
        tier = f" of tier {question.price_tier}" if question.price_tier else ""
        kind, reason = "price", f"no price{tier} of this hardware: dyno price --usd-per-hour …"
    else:
        nearest, reason = _missed(speaks[1], question.bounds)
        kind, trial_ids = "limit", nearest.trial_ids
    machine = evidence.machine(stack.hardware_id).label
    label = f"{f'{stack.model}: ' if question.parameters else ''}{stack.setup} on {machine}"
    return Excluded.model_validate({"setup_id": stack.setup_id, "label": label, "kind": kind, "reason": reason,
                                    "trial_ids": tuple(trial_ids)})


def _final(one: Usable, question: Question) -> Usable:
    """With the curve between levels, where that surely needs fewer instances."""
    if one.fewest == one.count:
        return one
    between = carry.interpolated(one.curve, one.levels, question.bounds)
    count = one.count if between is None else needed(question, between.capacity.value, between.users)
    if between is None or count >= one.count:
        return replace(one, fewest=one.count)
    return replace(one, capacity=between, count=count, fewest=count)


def _missed(levels: Sequence[Level], bounds: tuple[Limit, ...]) -> tuple[Level, str]:
    """The level that is nearest to the limits, and by how much it misses which."""
    def worst(one: Level) -> float:
        return max(one.values.get(x.column, math.inf) / x.at_most for x in bounds)
    nearest = min(levels, key=worst)
    parts = []
    for limit in bounds:
        value = nearest.values.get(limit.column)
        if value is None:
            parts.append(f"{limit.metric} was not measured")
        elif value > limit.at_most:
            share = value / limit.at_most
            by = f"{share - 1:.0%} above" if share < 2 else f"{share:.3g} times"
            parts.append(f"{limit.metric} is {value:.3g} ms, {by} the {limit.at_most:g} allowed")
    return nearest, f"misses the limits at every load; nearest at {nearest.load}: {' and '.join(parts)}"
