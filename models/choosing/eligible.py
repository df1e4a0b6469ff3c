"""Which setups a question allows at all, before any measurement is looked at; and why not the others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from models.choosing.evidence import Evidence, Machine, PriceOf, Stack
from models.choosing.question import KINDS, RUNTIMES, Question
from models.errors import UserError
from models.prices import SPOT, names

Kind = Literal["hardware", "feature", "environment", "quality"]


class Refused(NamedTuple):
    """Why a setup is left out."""

    kind: Kind
    reason: str


def refused(stack: Stack, question: Question, evidence: Evidence) -> Refused | None:
    """The first thing asked that the setup does not have; None where it may be used."""
    machine = evidence.machine(stack.hardware_id)
    if question.hardware and not any(allows(word, machine) for word in question.hardware):
        return Refused("hardware", f"{machine.label} is not among the hardware allowed: {', '.join(question.hardware)}")
    for feature in question.needs:
        if reason := lacks(stack.server, feature, evidence):
            return Refused("feature", reason)
    if question.environment and (reason := _not_there(stack, question, evidence)):
        return Refused("environment", reason)
    if (most := question.kl_nats_max) is not None:
        if stack.kl_nats is None:
            return Refused("quality", "its divergence from the unquantised model was not measured")
        if stack.kl_nats > most:
            return Refused("quality", f"divergence {stack.kl_nats:.3g} nats, above the {most:g} allowed")
    return None


def allows(word: str, machine: Machine) -> bool:
    """Whether a word of `hardware` means a machine: its kind, its name, or words of its accelerator's name."""
    plain = word.strip().lower()
    kind = KINDS.get(plain)
    if kind is not None:
        return machine.kind == kind or (kind == "gpu" and machine.kind in ("cuda", "rocm"))
    return plain in (machine.name.lower(), machine.hardware_id) or bool(
        machine.accelerator and names(plain, machine.accelerator))


def lacks(server: str, feature: str, evidence: Evidence) -> str:
    """Why a server has not a feature; empty where it has. What it was seen to do counts before what it claims."""
    seen = next((o for o in evidence.observed if o.server == server and o.feature == feature), None)
    said = next((c for c in evidence.can(server) if c.kind == "feature" and c.name == feature), None)
    if said is None:
        works = seen is not None and bool(seen.share)
        return "" if works else f"whether {server} has {feature} is not known here: `dyno engines` publishes it"
    if said.supported:
        failed = seen is not None and seen.feature in ("structured_output", "tool_calls") and seen.share == 0
        return f"{server} should have {feature}, but none of its answers was valid in {seen.trials} trials" \
            if failed and seen else ""
    return said.reason or f"{server} has no {feature}"


def _not_there(stack: Stack, question: Question, evidence: Evidence) -> str:
    """Why a server cannot be provisioned in the environment asked for."""
    wanted = RUNTIMES[question.environment or "laptop"]
    said = [c for c in evidence.can(stack.server) if c.kind == "runtime" and c.name in wanted]
    if stack.runtime in wanted or any(c.supported for c in said):
        return ""
    why = next((c.reason for c in said if c.reason), "")
    return why or f"{stack.server} is not known to run in {question.environment} ({' or '.join(wanted)})"


def price(hardware_id: str, question: Question, evidence: Evidence) -> PriceOf | None:
    """The price used: the first of the tier asked for, else the first that cannot be taken away; times price_factor."""
    mine = sorted((p for p in evidence.prices if p.hardware_id == hardware_id), key=lambda p: p.choice)
    tier = question.price_tier and question.price_tier.lower()
    found = next((p for p in mine if (p.tier.lower() == tier if tier else p.tier != SPOT)), None)
    if found is None:
        return None
    factor = question.price_factor if question.price_factor_on in (None, hardware_id) else 1.0
    return found.model_copy(update={"price_usd_per_hour": found.price_usd_per_hour * factor})


def check(question: Question, evidence: Evidence) -> None:
    """Raises UserError for hardware, features or tiers that nothing here knows, naming those that are known."""
    for word in question.hardware:
        if word.lower() not in KINDS and evidence.machines and not any(allows(word, m) for m in evidence.machines):
            _unknown_hardware(word, evidence)
    known = sorted({c.name for c in evidence.capabilities if c.kind == "feature"} | {o.feature for o in
                                                                                     evidence.observed})
    if known and (odd := [n for n in question.needs if n not in known]):
        raise UserError(f"needs: no engine knows of {odd[0]!r}; features are {', '.join(known)}")
    tiers = _distinct(p.tier for p in evidence.prices)
    if question.price_tier and tiers and question.price_tier.lower() not in map(str.lower, tiers):
        raise UserError(f"price tier: no price is of tier {question.price_tier!r}; there are {', '.join(tiers)}"
                        " (`dyno prices` lists all)")


def _unknown_hardware(word: str, evidence: Evidence) -> None:
    from models.hardware import accelerators, lookup

    if lookup(word, accelerators()) is None:
        seen = _distinct(m.label for m in evidence.machines)
        raise UserError(f"hardware: {word!r} is neither a kind ({', '.join(KINDS)}), nor a machine that something was"
                        f" measured on ({', '.join(seen)}), nor an accelerator with a spec sheet")


def _distinct(words: Iterable[str]) -> list[str]:
    return sorted(set(words), key=lambda w: re.sub(r"\W", "", w.lower()))
