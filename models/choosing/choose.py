"""choose(question, evidence): which stack, how many, for how much, how sure; from measured points first."""

from __future__ import annotations

from collections.abc import Sequence

from models.choosing import carried as carry
from models.choosing import eligible, sentence, stacks, traffic
from models.choosing.answer import BASES, Answer, Choice, Excluded
from models.choosing.evidence import Evidence
from models.choosing.expected import expected
from models.choosing.likely import Priced, cheaper
from models.choosing.question import Question
from models.choosing.stacks import Usable
from models.errors import UserError
from models.planning.cost import HOURS_PER_MONTH, Request, per_million

EXACT = 10
"""How many of the ranked get everything: curves between levels, expected latencies, the probability of being cheaper
than the next. The others are as their levels were measured."""


def choose(question: Question, evidence: Evidence, what_if: bool = True) -> Answer:
    """Answers from measured points that keep the limits; between them by calibrated curves; from other workloads'
    lengths where this one was not measured; and where nothing measured fits, says so, with a formula's estimate.

    what_if: ask again with other traffic, limits and prices, to tell what would change the answer. A point with a
    fatal verdict never feeds an answer. Raises UserError for a model, workload, hardware, feature or price tier that
    nothing here knows, naming those that are known.
    """
    eligible.check(question, evidence)
    _known(question, evidence)
    asked, known = traffic.of(question, evidence), traffic.Known(evidence)
    found, excluded = stacks.usable(question, asked, evidence, known)
    ordered = stacks.ranked(found, question, EXACT)
    choices = [_choice(one, question, evidence, i < EXACT) for i, one in enumerate(ordered)]
    kept = [i for i, c in enumerate(choices) if not c.over_budget]
    excluded += [_over_budget(c, question) for c in choices if c.over_budget]
    answer = Answer(question=question, workload=asked.label, sentence="", excluded=tuple(excluded), notes=asked.notes,
                    ranked=tuple(_likely([(choices[i], ordered[i]) for i in kept], question)))
    if what_if and kept:
        from models.choosing import sensitivity

        answer = sensitivity.added(answer, evidence, known)
    elif what_if:
        from models.choosing import unmeasured  # spec sheets and prices: read only where they are needed

        answer = unmeasured.added(answer, asked, evidence)
    return answer.model_copy(update={"sentence": sentence.of(answer)})


def winner(question: Question, evidence: Evidence, known: traffic.Known) -> Choice | None:
    """The best alone, without what is said about it: what choose() would put first."""
    found, _ = stacks.usable(question, traffic.of(question, evidence), evidence, known, why=False)
    if not found:
        return None
    best = _choice(stacks.ranked(found, question, 1)[0], question, evidence, full=False)
    return None if best.over_budget else best


def _known(question: Question, evidence: Evidence) -> None:
    """Raises UserError for a model that was not measured and whose shape is not known either."""
    if any(question.means(name, size) for name, size in evidence.models.items()):
        return
    from models.choosing.unmeasured import shape_of

    if shape_of(question, evidence) is None:
        measured = ", ".join(evidence.models) or "none"
        raise UserError(f"model: {question.model!r} was not measured, and its shape is not known without a network;"
                        f" measured are {measured}. `dyno evaluate` measures another")


def _choice(one: Usable, question: Question, evidence: Evidence, full: bool) -> Choice:
    count, capacity, price = one.count, one.capacity, one.price
    users, rate, load = _operation(one, question)
    latencies = expected(one.curve, one.levels, question.bounds, rate, users) if full else {}
    each = capacity.capacity
    ids = tuple(dict.fromkeys((*each.trial_ids, *(t for f in latencies.values() for t in f.trial_ids))))
    tokens = Request(input_tokens=0.0, output_tokens=capacity.output_tokens)
    usd_per_hour = count * price.price_usd_per_hour
    most = question.budget_usd_per_month
    return Choice(
        stack=one.stack, machine=evidence.machine(one.stack.hardware_id), workload=one.curve.workload, instances=count,
        price=price, usd_per_month=usd_per_hour * HOURS_PER_MONTH,
        usd_per_million_output_tokens=per_million(usd_per_hour, load or each.value, tokens).output,
        usd_per_million_output_tokens_full=per_million(price.price_usd_per_hour, each.value, tokens).output,
        capacity=each, users=capacity.users, carries=count * each.value,
        carries_low=each.low and count * each.low, carries_high=each.high and count * each.high, load=load,
        headroom=_headroom(one, question, load), with_one_down=(count - 1) * each.value, expected=latencies,
        basis=max((each.basis, *(f.basis for f in latencies.values())), key=BASES.index), trial_ids=ids,
        levels=len(one.levels), over_budget=most is not None and usd_per_hour * HOURS_PER_MONTH > most)


def _operation(one: Usable, question: Question) -> tuple[float | None, float, float | None]:
    """Users and rate of one instance, and the rate of all, with every instance up."""
    if question.request_rate is not None:
        return None, question.request_rate / one.count, question.request_rate
    if question.concurrency is not None:
        users = question.concurrency / one.count
        rate = carry.rate_at(users, one.levels)
        return users, rate, rate * one.count
    return one.capacity.users, one.capacity.capacity.value, None


def _headroom(one: Usable, question: Question, load: float | None) -> float | None:
    """Share of the load that fits on top."""
    if question.concurrency is not None and one.capacity.users:
        return one.count * one.capacity.users / question.concurrency - 1
    return one.count * one.capacity.capacity.value / load - 1 if load else None


def _likely(pairs: Sequence[tuple[Choice, Usable]], question: Question) -> list[Choice]:
    """With how likely each of the first really is cheaper than the next."""
    priced = [_priced(choice, one, question) for choice, one in pairs[:EXACT + 1]]
    found = [choice.model_copy(update={"probability_cheaper": cheaper(mine, after, question.request_rate)})
             for (choice, _), mine, after in zip(pairs, priced, priced[1:], strict=False)]
    return found + [choice for choice, _ in pairs[len(found):]]


def _priced(choice: Choice, one: Usable, question: Question) -> Priced:
    """So many users need so many instances, however fast these are; of a rate, capacity decides how many."""
    whole = question.concurrency is not None and choice.load
    return Priced(capacity=choice.load if whole and choice.load else choice.capacity.value, spread=one.capacity.spread,
                  usd_per_hour=one.price.price_usd_per_hour * (choice.instances if whole else 1),
                  output_tokens=one.capacity.output_tokens, down=question.down)


def _over_budget(choice: Choice, question: Question) -> Excluded:
    most = question.budget_usd_per_month or 0.0
    return Excluded(setup_id=choice.stack.setup_id, label=choice.label, kind="budget", trial_ids=choice.trial_ids,
                    reason=f"{choice.usd_per_month:.0f} USD a month, {choice.usd_per_month - most:.0f} over the budget")
