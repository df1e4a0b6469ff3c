"""The survey's selection procedure as six steps, each beside what measurement says to the same question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from models.choosing import survey
from models.choosing.answer import Answer, Choice
from models.choosing.eligible import allows
from models.choosing.evidence import Evidence, Observed
from models.choosing.question import RUNTIMES, Question
from models.choosing.sentence import money
from models.identity import Record

SMALL = 7e9
"""Parameters under which the survey calls a model small."""
HIGH_USERS = 8
"""Users at once on one instance from which we read its "high concurrency"; the survey names no number."""
LOW_BITS = ("Q2", "Q3", "IQ1", "IQ2", "IQ3", "TQ", "Q4", "IQ4", "AWQ", "GPTQ", "NVFP4", "MXFP4", "INT4", "BNB")
"""How the names of formats of about four bits and fewer begin."""


class Step(Record):
    """asked: the question as the step sees it. engines: those that the rule names. disagrees: None where nothing was
    measured that speaks to it."""

    name: str
    asked: str
    rule: str
    engines: tuple[str, ...]
    measured: str
    disagrees: bool | None = None
    trial_ids: tuple[str, ...] = ()


class _Seen(NamedTuple):
    text: str
    disagrees: bool | None = None
    trial_ids: tuple[str, ...] = ()


def procedure(answer: Answer, evidence: Evidence) -> tuple[Step, ...]:
    """The six steps for an answer's question: hardware, size, interface, throughput, quantisation, environment."""
    question = answer.question
    asked = {"hardware": _hardware(question, evidence), "size": _size(question, evidence),
             "interface": _interface(question), "throughput": _throughput(question, answer),
             "quantisation": _quantisation(question), "environment": _environment(question)}
    steps = []
    for step in survey.said()["steps"]:
        case, text = asked[step["name"]]
        rule = next(r for r in step["rules"] if r["if"] == case)
        found = _held(step["name"], rule["engines"], answer, evidence)
        steps.append(Step(name=step["name"], asked=text, rule=rule["text"], engines=tuple(rule["engines"]),
                          measured=found.text, disagrees=found.disagrees, trial_ids=found.trial_ids))
    return tuple(steps)


def _hardware(question: Question, evidence: Evidence) -> tuple[str, str]:
    allowed = [m for m in evidence.machines if not question.hardware or any(allows(w, m) for w in question.hardware)]
    gpu = any(m.kind in ("cuda", "rocm") for m in allowed) or (not allowed and bool(question.hardware) and not any(
        w.lower() in ("cpu", "metal", "apple") for w in question.hardware))
    return ("gpu" if gpu else "cpu"), ", ".join(question.hardware) or "any hardware"


def _size(question: Question, evidence: Evidence) -> tuple[str, str]:
    known = (size for name, size in evidence.models.items() if size and question.means(name, size))
    size = question.parameters or next(known, None)
    text = f"{size / 1e9:.2g} billion parameters" if size else "size not known"
    return ("large" if size and size >= SMALL else "small"), f"{question.model}: {text}"


def _interface(question: Question) -> tuple[str, str]:
    structured = {"structured_output", "tool_calls"} & set(question.needs)
    return ("structured" if structured else "openai"), ", ".join(question.needs) or "no need named: an OpenAI API"


def _throughput(question: Question, answer: Answer) -> tuple[str, str]:
    best = answer.best
    users = (best.users if best else None) or question.concurrency or 0.0
    asked = (f"{question.request_rate:g} requests a second" if question.request_rate else
             f"{question.concurrency:g} users at once" if question.concurrency else "full load")
    return ("high" if users >= HIGH_USERS else "low"), f"{asked}, {users:.3g} at once on an instance"


def _quantisation(question: Question) -> tuple[str, str]:
    floor = question.kl_nats_max
    return ("plain" if floor is not None and floor < 0.01 else "extreme"), (
        "any quantisation" if floor is None else f"divergence up to {floor:g} nats")


def _environment(question: Question) -> tuple[str, str]:
    where = question.environment
    return ("container" if where in ("container", "kubernetes") else "local"), where or "no environment named: local"


def _held(name: str, engines: Sequence[str], answer: Answer, evidence: Evidence) -> _Seen:
    if name == "interface":
        return _features(answer.question, engines, evidence)
    if name == "environment":
        return _runtimes(answer, engines, evidence)
    if name == "throughput":
        return _fastest(engines, answer)
    if name == "quantisation":
        return _low_bits(engines, answer)
    return _cheapest(engines, answer)


def _cheapest(engines: Sequence[str], answer: Answer) -> _Seen:
    """Does the cheapest that keeps the limits run on an engine of the rule?"""
    best = answer.best
    if best is None:
        return _Seen("nothing measured keeps the limits")
    each = _by_engine(answer.ranked)
    text = "cheapest by engine: " + ", ".join(
        f"{survey.NAMES.get(e, e)} {money(c.usd_per_million_output_tokens)}" for e, c in each.items())
    return _against(f"{text} USD per million output tokens", best, engines, len(each))


def _fastest(engines: Sequence[str], answer: Answer) -> _Seen:
    """Does the engine that carries most on an instance, within the limits, stand in the rule?"""
    if not answer.ranked:
        return _Seen("nothing measured keeps the limits")
    most = sorted(answer.ranked, key=lambda c: -c.capacity.value)
    each = _by_engine(most)
    text = "most an instance by engine: " + ", ".join(
        f"{survey.NAMES.get(e, e)} {c.capacity.value:.3g}" for e, c in each.items())
    return _against(f"{text} requests a second", most[0], engines, len(each))


def _low_bits(engines: Sequence[str], answer: Answer) -> _Seen:
    """Does the cheapest low-bit stack run on an engine of the rule; and is it cheaper than the unquantised?"""
    low = [c for c in answer.ranked if c.stack.quantization.upper().startswith(LOW_BITS)]
    wide = next((c for c in answer.ranked if c not in low), None)
    if not low:
        return _Seen("no format of four bits or fewer was measured within the limits")
    best = low[0]
    quality = f", divergence {best.stack.kl_nats:.2g} nats" if best.stack.kl_nats is not None else ""
    text = (f"{survey.NAMES.get(best.stack.engine, best.stack.engine)} {best.stack.quantization}:"
            f" {money(best.usd_per_million_output_tokens)} USD per million output tokens{quality}")
    if wide:
        text += f"; {wide.stack.quantization}: {money(wide.usd_per_million_output_tokens)}"
    return _against(text, best, engines, len(_by_engine(low)))


def _against(text: str, best: Choice, engines: Sequence[str], compared: int) -> _Seen:
    """Of one engine alone nothing can be said against a rule that prefers another."""
    outside = best.stack.engine not in engines
    return _Seen(text + (" (no other engine was measured)" if compared == 1 else ""),
                 None if compared == 1 and outside else outside, best.trial_ids[:1])


def _features(question: Question, engines: Sequence[str], evidence: Evidence) -> _Seen:
    """Were the features seen on engines of the rule only?"""
    wanted = question.needs or ("openai_api",)
    seen: list[Observed] = [o for o in evidence.observed if o.feature in wanted]
    if not seen:
        claimed = sorted({c.variant or c.engine for c in evidence.capabilities
                          if c.kind == "feature" and c.supported and c.name in wanted})
        return _Seen("not observed" + (f"; adapters say that {', '.join(claimed)} have it" if claimed else ""))
    wrong = [o for o in seen if survey.holds(o) != (o.engine in engines)]
    return _Seen("; ".join(map(survey.text, seen)), bool(wrong), tuple(o.trial_id for o in seen))


def _runtimes(answer: Answer, engines: Sequence[str], evidence: Evidence) -> _Seen:
    """Which servers can be provisioned so, by their adapters; and is the cheapest one of the rule's?"""
    wanted = RUNTIMES[answer.question.environment or "laptop"]
    can = sorted({c.variant or c.engine for c in evidence.capabilities
                  if c.kind == "runtime" and c.supported and c.name in wanted})
    text = f"can be had as {' or '.join(wanted)}: {', '.join(can)}" if can else "no adapter's abilities are published"
    if answer.best is None:
        return _Seen(text)
    cheapest = f"; the cheapest is {answer.best.stack.server}"
    return _against(text + cheapest, answer.best, engines, len(_by_engine(answer.ranked)))


def _by_engine(choices: Sequence[Choice]) -> dict[str, Choice]:
    """The first of each engine, in order."""
    found: dict[str, Choice] = {}
    for one in choices:
        found.setdefault(one.stack.engine, one)
    return found
