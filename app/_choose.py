"""What `dyno choose` answers: the sentence, what it rests on, what would change it, what was left out."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import click
from pydantic import ValidationError

from app._render import dump, emit, number
from models import slo
from models.choosing.answer import Answer, Choice, Estimate, Figure, needed
from models.choosing.evidence import Evidence
from models.choosing.question import Question
from models.choosing.sentence import money
from models.choosing.traffic import labelled
from models.errors import UserError
from warehouse import evidence as stored

FEW = 5
WIDTH = 118
_FLAGS = {"request_rate": "rate", "limits": "slo", "kl_nats_max": "kl-max", "budget_usd_per_month": "budget"}


class Shown(NamedTuple):
    """How much is printed, and in which form."""

    guided: bool
    everything: bool
    as_json: bool


def show(home: Path, options: Mapping[str, Any], how: Shown, here: Callable[[], str],
         standard: Callable[[str], tuple[float, float] | None]) -> None:
    """Asks the published warehouse and prints the answer.

    here: this machine's name; standard: mean lengths of a standard workload. Raises UserError for what cannot be read.
    """
    if options["model"] is None:
        from warehouse import reader

        known = reader.query(home, "select distinct name from models order by name")["name"].to_list()
        raise UserError(f"--model: say which; measured are {', '.join(known) or 'none'}. A size such as 8B will do")
    name = options["workload"] if options["input_tokens"] is None else None
    columns = needed(_limits(options["limits"]))
    with ThreadPoolExecutor(1) as pool:  # DuckDB reads for about as long as NumPy is imported
        reading = pool.submit(stored.read, home, options["model"], name and labelled(name), columns)
        from models.choosing.choose import choose

        evidence = reading.result()
    question = asked(options, evidence, here, standard)
    answer = choose(question, evidence)
    if how.as_json:
        _json(answer, evidence, how.guided)
        return
    for line in lines(answer, how.everything):
        click.echo(line)
    if how.guided:
        _guided(answer, evidence)


def asked(options: Mapping[str, Any], evidence: Evidence, here: Callable[[], str],
          standard: Callable[[str], tuple[float, float] | None]) -> Question:
    """The question that options make. Raises UserError naming the option."""
    found = dict(options)
    machines = _words(options["hardware"])
    found["hardware"] = tuple(here() if word == "this" else word for word in machines)
    found["needs"] = _words(options["needs"])
    name = options["workload"]
    known = {*evidence.workloads, *(c.workload_name for c in evidence.curves)}
    if name and labelled(name) not in known and options["input_tokens"] is None and (lengths := standard(name)):
        found["input_tokens"], found["output_tokens"] = lengths
    try:
        return Question.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = str(first["loc"][0]) if first["loc"] else ""
        flag = f"--{_FLAGS.get(where, where).replace('_', '-')}: " if where else ""
        raise UserError(f"{flag}{str(first['msg']).removeprefix('Value error, ')}") from None


def _limits(text: str) -> tuple[slo.Limit, ...]:
    try:
        return slo.parse(text)
    except UserError as error:
        raise UserError(f"--slo: {error}") from None


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


def _json(answer: Answer, evidence: Evidence, guided: bool) -> None:
    found = answer.model_dump(mode="json")
    if guided:
        from models.choosing.procedure import procedure
        from models.choosing.survey import table

        found["procedure"] = [s.model_dump(mode="json") for s in procedure(answer, evidence)]
        found["features"] = [c.model_dump(mode="json") for c in table(evidence)]
    dump(found)


def lines(answer: Answer, everything: bool = False) -> Iterator[str]:
    """The answer for people."""
    yield answer.sentence
    for note in answer.notes:
        yield f"  note: {note}"
    best = answer.best
    if best is None:
        yield from _unmeasured(answer)
    else:
        yield from _best(answer, best)
    yield from _left_out(answer, everything)
    if best is not None:
        if everything:
            yield from (f"  {i}. {one.label}: {_cost(one)}, {one.basis}" for i, one in enumerate(answer.ranked, 1))
        yield (f"  deploy: dyno deploy {best.stack.setup_id} --format compose"
               + (f" --instances {best.instances}" if best.instances > 1 else ""))
    elif answer.experiment:
        yield "\nThe experiment that would settle it:\n"
        yield answer.experiment.rstrip()


def _best(answer: Answer, best: Choice) -> Iterator[str]:
    interval = f" (interval {_range(best.carries_low, best.carries_high)})" if best.carries_low else ""
    text = f"carries {number(best.carries)} requests a second within the limits{interval}"
    if best.headroom is not None:
        text += f": {best.headroom:.0%} headroom"
    yield f"  {text}; {_down(best)}"
    yield from _wrapped("expected: ", ", ".join(f"{_name(n)} {_figure(f)}" for n, f in best.expected.items()
                                                if n.endswith(("_p95", "_p99", "_mean", "_p90")) or len(
                                                    best.expected) == 1))
    if len(answer.ranked) > 1 and best.probability_cheaper is not None:
        after = answer.ranked[1]
        yield from _wrapped("", f"{best.probability_cheaper:.0%} likely cheaper than {after.label} ({_cost(after)})")
    yield from _wrapped("basis: ", _basis(best))
    price = best.price
    yield from _wrapped("price: ", f"{number(price.price_usd_per_hour)} USD an hour ({price.tier}, {price.date}:"
                                   f" {price.source})")
    changes = "; ".join(f"{c.what} → {_winner(c.winner, c.usd_per_month)}" for c in answer.changes)
    same = f"not if {', '.join(answer.unchanged)}" if answer.unchanged else ""
    yield from _wrapped("it changes if: ", f"{changes or 'nothing that was tried'}{'; ' if same else ''}{same}")


def _winner(label: str | None, usd: float | None) -> str:
    return f"{label}{f' ({money(usd)} USD a month)' if usd else ''}" if label else "nothing measured fits any more"


def _down(best: Choice) -> str:
    if best.instances == 1:
        return "one instance down: none left"
    if best.load is None or best.with_one_down >= best.load:
        return f"one instance down: {number(best.with_one_down)}, still enough"
    return f"one instance down: {number(best.with_one_down)}, below your {number(best.load)}"


def _basis(best: Choice) -> str:
    more = len(best.trial_ids) - FEW
    ids = ", ".join(best.trial_ids[:FEW]) + (f" and {more} more" if more > 0 else "")
    levels = f"{best.levels} load level{'s' if best.levels != 1 else ''}"
    capacity = f"capacity {best.capacity.basis} {best.capacity.how}"
    latencies = Counter(f.basis for f in best.expected.values())
    said = ", ".join(f"latencies {basis}" for basis in latencies)
    return f"{capacity}{'; ' if said else ''}{said} ({levels} with {best.workload}; trials {ids})"


def _unmeasured(answer: Answer) -> Iterator[str]:
    if not answer.estimates:
        yield ("  no formula can be computed: the model's shape, the lengths or the hardware's spec sheet is unknown,"
               " or it does not fit")
    for one in answer.estimates:
        yield from _wrapped("estimate (formula): ", _estimate(one))
    if answer.estimates:
        yield from _wrapped("basis: ", answer.estimates[0].capacity.how)
    for one in answer.estimates[:1]:
        if one.learned:
            yield f"  learned from what was measured elsewhere: {one.learned}"


def _estimate(one: Estimate) -> str:
    usd = f"{money(one.usd_per_month)} USD a month, " if one.usd_per_month else "no price known, "
    latencies = ", ".join(f"{_name(n)} {number(f.value)} ms" for n, f in one.expected.items())
    text = f"{one.label}: {usd}{number(one.capacity.value)} requests a second an instance; {latencies}"
    if one.price is None:
        return text
    return f"{text}; at {number(one.price.price_usd_per_hour)} USD an hour ({one.price.tier}, {one.price.date})"


def _left_out(answer: Answer, everything: bool) -> Iterator[str]:
    if not answer.excluded:
        return
    if everything:
        yield "  left out:"
        for one in answer.excluded:
            yield from _wrapped("  ", f"{one.label}: {one.reason}")
        return
    kinds = Counter(one.kind for one in answer.excluded)
    parts = []
    for kind, count in kinds.most_common():
        first = next(one for one in answer.excluded if one.kind == kind)
        parts.append(f"{first.label} ({first.reason})" if count == 1 else
                     f"{count} by {kind}, such as {first.label} ({first.reason})")
    yield from _wrapped("left out: ", "; ".join(parts))


def _guided(answer: Answer, evidence: Evidence) -> None:
    """The six steps and the feature table."""
    from models.choosing.procedure import procedure
    from models.choosing.survey import table

    click.echo("\nThe selection procedure: a survey's rule, and what measurement says")
    for i, step in enumerate(procedure(answer, evidence), 1):
        verdict = {True: "they disagree", False: "they agree", None: "nothing to compare"}[step.disagrees]
        click.echo(f"{i}. {step.name}: {step.asked}")
        for part in (f"survey: {step.rule}", f"measured: {step.measured}", verdict):
            click.echo(textwrap.fill(part, WIDTH, initial_indent="   ", subsequent_indent="     "))
    click.echo("\nThe survey's feature table, where something was observed")
    rows = [c.model_dump() for c in table(evidence) if c.observed]
    emit(rows, [("feature", lambda r: str(r["feature"])), ("engine", lambda r: str(r["engine"])),
                ("claim", lambda r: str(r["claim"])), ("", lambda r: str(r["verdict"])),
                ("observed", lambda r: str(r["observed"]))], as_json=False)


def _cost(one: Choice) -> str:
    if one.load:
        return f"{money(one.usd_per_month)} USD a month"
    return f"{money(one.usd_per_million_output_tokens)} USD per million output tokens"


def _name(column: str) -> str:
    """`TTFT p95` of `ttft_from_schedule_ms_p95`."""
    metric, _, statistic = column.replace("_from_schedule", "").rpartition("_")
    return f"{metric.removesuffix('_ms').replace('_', ' ').upper()} {statistic}"


def _figure(one: Figure) -> str:
    interval = f" [{_range(one.low, one.high)}]" if one.low or one.high else ""
    return f"{number(one.value)} ms{interval} {one.basis}"


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return f"up to {number(high)}"
    return f"{number(low)}–{number(high)}" if high is not None else f"from {number(low)}"


def _wrapped(head: str, text: str) -> Sequence[str]:
    return textwrap.wrap(head + text, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
