"""The traffic asked about, and which measured curves speak of it: the workload's own, or other lengths carried over."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

from models.choosing.evidence import Curve, Evidence, Stack
from models.choosing.levels import Level, levels
from models.choosing.question import Question
from models.errors import UserError
from models.identity import Record

Found = TypeVar("Found")
SAME_LENGTHS = 0.05
"""A measured workload whose means are this near, relatively, is the lengths asked for."""


class Traffic(Record):
    """labels: measured workloads that are what was asked. The lengths are for carrying over, None where not known."""

    label: str | None
    labels: tuple[str, ...] = ()
    input_tokens: float | None = None
    output_tokens: float | None = None
    notes: tuple[str, ...] = ()


def of(question: Question, evidence: Evidence) -> Traffic:
    """Finds the workload. Raises UserError when it is neither measured nor its lengths given, naming those measured."""
    if question.workload is None and question.input_tokens is None:
        return _only(question, evidence)
    asked = Traffic(label=question.workload, input_tokens=question.input_tokens, output_tokens=question.output_tokens)
    if question.workload is None:
        label = f"{question.input_tokens:g} tokens in, {question.output_tokens:g} out"
        same = _alike(question, evidence)
        notes = (f"{', '.join(same)} has these lengths: its measurements are used",) if same else ()
        return asked.model_copy(update={"label": label, "labels": same, "notes": notes})
    wanted = labelled(question.workload)
    if wanted in evidence.workloads:
        return asked.model_copy(update={"label": wanted, "labels": (wanted,)})
    scaled = sorted({c.workload for c in own(question, evidence) if c.workload_name == wanted})
    if question.input_tokens is not None:
        return asked
    if len(scaled) == 1:
        return Traffic(label=scaled[0], labels=tuple(scaled),
                       notes=(f"{wanted} was measured as {scaled[0]} only: the answer is for these lengths",))
    if scaled:
        raise UserError(f"workload: {wanted!r} was measured at several scales, which are not comparable: say which of"
                        f" {', '.join(scaled)}")
    raise UserError(f"workload: {wanted!r} is not known here; measured are"
                    f" {', '.join(evidence.workloads) or 'none'}; or give mean lengths (input_tokens, output_tokens)")


def labelled(workload: str) -> str:
    """As the warehouse labels it: `chat ×0.05` of `chat x0.05`."""
    return workload.replace(" x", " ×").strip()


def own(question: Question, evidence: Evidence) -> list[Curve]:
    """The curves of the model asked for."""
    names = {name for name, size in evidence.models.items() if question.means(name, size)}
    return [c for c in evidence.curves if c.stack.model in names]


def _only(question: Question, evidence: Evidence) -> Traffic:
    """The one workload that the model was measured with."""
    seen = sorted({c.workload for c in own(question, evidence)})
    if len(seen) == 1:
        return Traffic(label=seen[0], labels=tuple(seen), notes=(f"workload {seen[0]}: the only one measured",))
    raise UserError("workload: say which, or mean lengths (input_tokens and output_tokens)"
                    + (f"; measured are {', '.join(seen)}" if seen else ""))


def _alike(question: Question, evidence: Evidence) -> tuple[str, ...]:
    """Measured workloads with these mean lengths."""
    found = []
    for curve in own(question, evidence):
        have = lengths(curve)
        if have and all(wanted and abs(math.log(one / wanted)) <= SAME_LENGTHS for one, wanted in
                        zip(have, (question.input_tokens, question.output_tokens), strict=True)):
            found.append(curve.workload)
    return tuple(dict.fromkeys(found))


def lengths(curve: Curve) -> tuple[float, float] | None:
    """Mean input and output tokens of its points; None where none was answered."""
    seen = [(p.input_tokens, p.output_tokens) for p in curve.points if p.input_tokens and p.output_tokens]
    if not seen:
        return None
    return (sum(i for i, _ in seen if i) / len(seen), sum(o for _, o in seen if o) / len(seen))


class Known:
    """Curves by stack and their levels, worked out once for a question and its what-ifs."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._stacks: dict[str, list[tuple[Stack, list[Curve]]]] = {}
        self._curves: dict[tuple[str, str | None], tuple[Curve, list[Level]] | str] = {}
        self._once: dict[Hashable, Any] = {}

    def by_stack(self, question: Question) -> list[tuple[Stack, list[Curve]]]:
        """The stacks of the model asked for, with their curves."""
        if question.model not in self._stacks:
            found: dict[str, tuple[Stack, list[Curve]]] = {}
            for curve in own(question, self._evidence):
                found.setdefault(curve.stack.setup_id, (curve.stack, []))[1].append(curve)
            self._stacks[question.model] = list(found.values())
        return self._stacks[question.model]

    def curve(self, of_stack: Sequence[Curve], asked: Traffic) -> tuple[Curve, list[Level]] | str:
        """The curve of a stack that speaks of the traffic, and its levels; else a reason."""
        key = of_stack[0].stack.setup_id, asked.label
        if key not in self._curves:
            self._curves[key] = _speaks(of_stack, asked)
        return self._curves[key]

    def once(self, key: Hashable, work: Callable[[], Found]) -> Found:
        """What `work` returned when this key was asked first."""
        if key not in self._once:
            self._once[key] = work()
        return self._once[key]  # type: ignore[no-any-return]


def _speaks(of_stack: Sequence[Curve], asked: Traffic) -> tuple[Curve, list[Level]] | str:
    same = [(c, levels(c)) for c in of_stack if c.workload in asked.labels]
    if same:
        return max(same, key=lambda pair: len(pair[1]))
    from models.choosing import lengths as other

    return other.carried_over(of_stack, asked.label or "", asked.input_tokens, asked.output_tokens)
