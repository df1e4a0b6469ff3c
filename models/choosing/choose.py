"""choose(question, evidence): which stack, how many, for how much, how sure; from measured points first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from models.choosing import carried as carry
from models.choosing import eligible, sentence, traffic
from models.choosing.answer import BASES, Answer, Choice, Excluded
from models.choosing.carried import Carried
from models.choosing.evidence import Curve, Evidence, PriceOf, Stack
from models.choosing.levels import Level, column
from models.choosing.likely import Priced, cheaper
from models.choosing.question import Question
from models.choosing.traffic import Traffic
from models.errors import UserError
from models.planning import fleet
from models.planning.cost import HOURS_PER_MONTH, Request, per_million
from models.slo import Limit


class Candidate(NamedTuple):
    """A choice with what its cost is uncertain in."""

    choice: Choice
    priced: Priced


def choose(question: Question, evidence: Evidence, what_if: bool = True) -> Answer:
    """Answers from measured points that keep the limits; between them by calibrated curves; from other workloads'
    lengths where this one was not measured; and where nothing measured fits, says so, with a formula's estimate.

    what_if: ask again with other traffic, limits and prices, to tell what would change the answer. A point with a
    fatal verdict never feeds an answer. Raises UserError for a model, workload, hardware, feature or price tier that
    nothing here knows, naming those that are known.
    """
    eligible.check(question, evidence)
    _known(question, evidence)
    asked = traffic.of(question, evidence)
    found: dict[str, Candidate] = {}
    excluded: list[Excluded] = []
    for stack, curves in _by_stack(question, evidence):
        one = _one(stack, curves, question, asked, evidence)
        if isinstance(one, Excluded):
            excluded.append(one)
        else:
            found[stack.setup_id] = one
    ranked = _ranked(list(found.values()), question)
    kept = [c for c in ranked if not c.over_budget]
    excluded += [_over_budget(c, question) for c in ranked if c.over_budget]
    answer = Answer(question=question, workload=asked.label, sentence="", ranked=tuple(kept), excluded=tuple(excluded),
                    notes=asked.notes)
    if what_if:
        from models.choosing import sensitivity, unmeasured

        answer = sensitivity.added(answer, evidence) if kept else unmeasured.added(answer, asked, evidence)
    return answer.model_copy(update={"sentence": sentence.of(answer)})


def _known(question: Question, evidence: Evidence) -> None:
    """Raises UserError for a model that was not measured and whose shape is not known either."""
    if any(question.means(name, size) for name, size in evidence.models.items()):
        return
    from models.choosing.unmeasured import shape_of

    if shape_of(question, evidence) is None:
        measured = ", ".join(evidence.models) or "none"
        raise UserError(f"model: {question.model!r} was not measured, and its shape is not known without a network;"
                        f" measured are {measured}. `dyno evaluate` measures another")


def _by_stack(question: Question, evidence: Evidence) -> list[tuple[Stack, list[Curve]]]:
    found: dict[str, tuple[Stack, list[Curve]]] = {}
    for curve in traffic.own(question, evidence):
        found.setdefault(curve.stack.setup_id, (curve.stack, []))[1].append(curve)
    return list(found.values())


def _one(stack: Stack, curves: Sequence[Curve], question: Question, asked: Traffic, evidence: Evidence,
         ) -> Candidate | Excluded:
    """The stack at the question, or why not."""
    label = f"{stack.setup} on {evidence.machine(stack.hardware_id).label}"
    if len(evidence.models) > 1 and question.parameters:
        label = f"{stack.model}: {label}"

    def out(kind: str, reason: str, trial_ids: Sequence[str] = ()) -> Excluded:
        return Excluded.model_validate({"setup_id": stack.setup_id, "label": label, "kind": kind, "reason": reason,
                                        "trial_ids": tuple(trial_ids)})
    if (refusal := eligible.refused(stack, question, evidence)) is not None:
        return out(refusal.kind, refusal.reason)
    usable = traffic.curves(curves, asked)
    if isinstance(usable, str):
        return out("workload", usable)
    curve, found = usable
    if not found:
        reasons = sorted({p.trust for p in curve.points if p.fatal}) or ["nothing was answered"]
        return out("verdict", f"no point can be trusted: {', '.join(reasons)}", [p.trial_id for p in curve.points])
    price = eligible.price(stack.hardware_id, question, evidence)
    if price is None:
        tier = f" of tier {question.price_tier}" if question.price_tier else ""
        return out("price", f"no price{tier} of this hardware: dyno price --usd-per-hour …")
    bounds = question.bounds
    capacity = _capacity(question, curve, found, bounds)
    if capacity is None:
        nearest, reason = _missed(found, bounds)
        return out("limit", reason, nearest.trial_ids)
    return _candidate(stack, curve, found, capacity, price, question, evidence)


def _capacity(question: Question, curve: Curve, found: Sequence[Level], bounds: tuple[Limit, ...]) -> Carried | None:
    """Of a measured level, unless the curve between levels surely needs fewer instances."""
    users_asked = question.concurrency is not None
    seen = carry.measured(found, bounds, closed_only=users_asked)
    between = carry.interpolated(curve, found, bounds) if question.request_rate or users_asked else None
    if seen is None or between is None:
        return seen or between
    return between if _needed(question, between) < _needed(question, seen) else seen


def _needed(question: Question, capacity: Carried) -> int:
    """Whole instances for the load and its headroom, none of them down; 1 where no load is asked."""
    more = 1 + question.headroom
    if question.concurrency is not None:
        return max(1, fleet.instances(question.concurrency * more, capacity.users or 1.0))
    return max(1, fleet.instances((question.request_rate or 0.0) * more, capacity.capacity.value))


def _candidate(stack: Stack, curve: Curve, found: Sequence[Level], capacity: Carried, price: PriceOf,
               question: Question, evidence: Evidence) -> Candidate:
    count = _needed(question, capacity) + question.down
    users, rate, load = _operation(question, count, capacity, found, curve)
    latencies = carry.expected(curve, found, question.bounds, rate, users)
    each = capacity.capacity
    ids = tuple(dict.fromkeys((*each.trial_ids, *(t for f in latencies.values() for t in f.trial_ids))))
    tokens = Request(input_tokens=0.0, output_tokens=capacity.output_tokens)
    usd_per_hour = count * price.price_usd_per_hour
    most = question.budget_usd_per_month
    bases = [each.basis, *(f.basis for f in latencies.values())]
    choice = Choice(
        stack=stack, machine=evidence.machine(stack.hardware_id), workload=curve.workload, instances=count, price=price,
        usd_per_month=usd_per_hour * HOURS_PER_MONTH,
        usd_per_million_output_tokens=per_million(usd_per_hour, load or each.value, tokens).output,
        usd_per_million_output_tokens_full=per_million(price.price_usd_per_hour, each.value, tokens).output,
        capacity=each, users=capacity.users, carries=count * each.value,
        carries_low=each.low and count * each.low, carries_high=each.high and count * each.high, load=load,
        headroom=_headroom(question, count, capacity, load), with_one_down=(count - 1) * each.value,
        expected=latencies, basis=max(bases, key=BASES.index), trial_ids=ids, levels=len(found),
        over_budget=most is not None and usd_per_hour * HOURS_PER_MONTH > most)
    priced = Priced(capacity=each.value, spread=capacity.spread, output_tokens=capacity.output_tokens,
                    usd_per_hour=price.price_usd_per_hour, down=question.down)
    if question.concurrency is not None and load:  # so many users need so many instances; what they get done varies
        priced = priced.model_copy(update={"capacity": load, "usd_per_hour": usd_per_hour})
    return Candidate(choice, priced)


def _operation(question: Question, count: int, capacity: Carried, found: Sequence[Level], curve: Curve,
               ) -> tuple[float | None, float, float | None]:
    """Users and rate of one instance, and the rate of all, with every instance up."""
    if question.request_rate is not None:
        return None, question.request_rate / count, question.request_rate
    if question.concurrency is not None:
        users = question.concurrency / count
        rate = carry.rate_at(users, found, curve)
        return users, rate, rate * count
    return capacity.users, capacity.capacity.value, None


def _headroom(question: Question, count: int, capacity: Carried, load: float | None) -> float | None:
    """Share of the load that fits on top."""
    if question.concurrency is not None and capacity.users:
        return count * capacity.users / question.concurrency - 1
    return count * capacity.capacity.value / load - 1 if load else None


def _ranked(candidates: Sequence[Candidate], question: Question) -> list[Choice]:
    """The cheapest first; what rests on other lengths than those asked for comes after what was measured."""
    def key(one: Candidate) -> tuple[bool, float, float]:
        choice = one.choice
        month = choice.usd_per_month if choice.load else 0.0
        return choice.capacity.basis == "extrapolated", month, choice.usd_per_million_output_tokens_full
    ordered = sorted(candidates, key=key)
    ranked = []
    for one, after in zip(ordered, [*ordered[1:], None][:len(ordered)], strict=True):
        likely = None if after is None else cheaper(one.priced, after.priced, question.request_rate)
        ranked.append(one.choice.model_copy(update={"probability_cheaper": likely}))
    return ranked


def _missed(found: Sequence[Level], bounds: tuple[Limit, ...]) -> tuple[Level, str]:
    """The level that is nearest to the limits, and by how much it misses which."""
    def worst(one: Level) -> float:
        return max(one.values.get(column(x), math.inf) / x.at_most for x in bounds)
    nearest = min(found, key=worst)
    parts = []
    for limit in bounds:
        value = nearest.values.get(column(limit))
        if value is None:
            parts.append(f"{limit.metric} was not measured")
        elif value > limit.at_most:
            share = value / limit.at_most
            by = f"{share - 1:.0%} above" if share < 2 else f"{share:.3g} times"
            parts.append(f"{limit.metric} is {value:.3g} ms, {by} the {limit.at_most:g} allowed")
    return nearest, f"misses the limits at every load; nearest at {nearest.load}: {' and '.join(parts)}"


def _over_budget(choice: Choice, question: Question) -> Excluded:
    most = question.budget_usd_per_month or 0.0
    return Excluded(setup_id=choice.stack.setup_id, label=choice.label, kind="budget", trial_ids=choice.trial_ids,
                    reason=f"{choice.usd_per_month:.0f} USD a month, {choice.usd_per_month - most:.0f} over the budget")
