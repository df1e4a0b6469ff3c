"""What a report says of an answer of models.choosing."""

from __future__ import annotations

from models.choosing.answer import Answer, Choice, Figure
from models.shown import LATENCIES, figure, within
from warehouse._blocks import Block, Code, Facts, Heading, Text, table

_CAPACITY = "capacity, requests a second of one"
_EXPLAINED = 3
"""Stacks whose every figure is told."""


def blocks(answer: Answer) -> list[Block]:
    """The sentence, what was asked, the ranked stacks with what each figure rests on, and what was left out."""
    asked = [(name.replace("_", " "), _said(value))
             for name, value in answer.question if value not in (None, (), 0.0, 1.0, 0)]
    found: list[Block] = [Text(text=answer.sentence, strong=True), *(Text(text=note) for note in answer.notes),
                          Heading(text="Asked"), Facts(rows=tuple(asked))]
    if answer.ranked:
        found += [Heading(text="What fits"), table([_choice(i, c) for i, c in enumerate(answer.ranked, 1)]),
                  Heading(text="Expected, and what each figure rests on"), table(_expected(answer))]
    if answer.estimates:
        found += [Heading(text="By formula: nobody measured this"), table([
            {"stack": e.label, "instances": figure(e.instances), "USD a month": figure(e.usd_per_month),
             "requests a second of one": _figure(e.capacity), "how": e.capacity.how} for e in answer.estimates])]
    if answer.experiment:
        found += [Text(text="This experiment would settle it (dyno evaluate FILE):"), Code(text=answer.experiment)]
    if answer.changes or answer.unchanged:
        found += [Heading(text="What would change it")]
        found += [table([{"if": c.what, "then": c.winner or "nothing fits", "USD a month": figure(c.usd_per_month)}
                         for c in answer.changes])] if answer.changes else []
        found += [Text(text=f"It stays with: {', '.join(answer.unchanged)}.")] if answer.unchanged else []
    if answer.excluded:
        found += [Heading(text="Left out"), table([{"stack": e.label, "why": e.reason} for e in answer.excluded])]
    return found


def _said(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _choice(rank: int, choice: Choice) -> dict[str, str]:
    chance = choice.probability_cheaper
    return {"": str(rank), "stack": choice.label, "USD a month": figure(choice.usd_per_month),
            "USD per M out": figure(choice.usd_per_million_output_tokens),
            "carries, requests a second": within(choice.carries, choice.carries_low, choice.carries_high),
            "headroom": "—" if choice.headroom is None else f"{choice.headroom:.0%}",
            "cheaper than the next": "—" if chance is None else f"{chance:.0%} likely", "basis": choice.basis,
            "price": f"{figure(choice.price.price_usd_per_hour)} USD/h, {choice.price.tier}, {choice.price.date}: "
                     f"{choice.price.source}"}


def _expected(answer: Answer) -> list[dict[str, str]]:
    return [{"stack": choice.label if name == _CAPACITY else "", "figure": _title(name), "value": _figure(one),
             "basis": one.basis, "how": one.how, "trials": " ".join(one.trial_ids)}
            for choice in answer.ranked[:_EXPLAINED]
            for name, one in ((_CAPACITY, choice.capacity), *choice.expected.items())]


def _title(name: str) -> str:
    """`ttft_from_schedule_ms_p95` → `TTFT p95, ms`."""
    latency, _, statistic = name.rpartition("_")
    return f"{LATENCIES[latency]} {statistic}, ms" if latency in LATENCIES else name


def _figure(one: Figure) -> str:
    return within(one.value, one.low, one.high)
