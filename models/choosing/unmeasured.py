"""Where nothing measured fits: what a formula says of stacks that nobody measured.

models.choosing.experiment writes the file that would settle it.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator

from models import catalogue, prices
from models.choosing import experiment
from models.choosing.answer import Answer, Estimate, Figure
from models.choosing.eligible import allows
from models.choosing.evidence import Evidence, Machine, PriceOf
from models.choosing.question import KINDS, Question
from models.choosing.traffic import Traffic
from models.hardware import Accelerator, accelerators, lookup
from models.planning import fleet, roofline
from models.planning.cost import HOURS_PER_MONTH, Request, per_million
from models.planning.roofline import Chip, Stack
from models.slo import Limit
from models.specs import Architecture, HardwareSpec

GPUS = (1, 2, 4, 8)
SHOWN = 3
COMPUTE_SHARE, LAYER_MS = 0.5, 0.08
"""Of the peak rate, that prefill is taken to reach, and what a layer costs besides: as roofline.tpot_ms takes them."""
MOST_USERS = 256
"""Sequences at once that vLLM takes by default."""
MEMORY_SHARE = 0.9
HOW = ("roofline at fixed shares of the data sheet's peaks, 16-bit weights, no queue; means are compared with the"
       " limits; the high end is what no engine can exceed, a low end is not known")


def shape_of(question: Question, evidence: Evidence) -> tuple[str, Architecture] | None:
    """A model that is meant, and its shape: of what was measured, else of those known without a network."""
    for name in evidence.shapes:
        if (shape := evidence.shape(name)) and question.means(name, shape.parameters):
            return name, shape
    if question.parameters is None:
        shape_known = catalogue.shape(question.model)
        return (question.model, shape_known) if shape_known else None
    sizes = [(abs(math.log(found.parameters / question.parameters)), name, found) for name in catalogue.names()
             if (found := catalogue.shape(name)) and question.means(name, found.parameters)]
    nearest = min(sizes, default=None, key=lambda one: one[:2])
    return nearest and (nearest[1], nearest[2])


def added(answer: Answer, asked: Traffic, evidence: Evidence) -> Answer:
    """The answer with estimates, the cheapest first, and the experiment file."""
    question = answer.question
    known = shape_of(question, evidence)
    name = known[0] if known else question.model
    inputs, outputs = _lengths(asked, evidence)
    found: list[Estimate] = []
    if known and inputs and outputs:
        for sheet in _sheets(question, evidence):
            each = (_estimate(question, known, sheet, gpus, inputs, outputs) for gpus in GPUS
                    if gpus == 1 or (gpus <= sheet.links_gpus and sheet.link_bytes_per_s))
            found += sorted(filter(None, each), key=_cost)[:1]
    text = experiment.settling(answer, name, asked, evidence)
    found.sort(key=_cost)
    return answer.model_copy(update={"estimates": tuple(found[:SHOWN]), "experiment": text})


def _cost(one: Estimate) -> tuple[bool, float, int, str]:
    """Without a price, the fewest accelerators."""
    return one.usd_per_month is None, one.usd_per_month or 0.0, one.instances * one.accelerators, one.label


def _lengths(asked: Traffic, evidence: Evidence) -> tuple[float | None, float | None]:
    """As given, else as the workload had them wherever it was measured."""
    if asked.input_tokens:
        return asked.input_tokens, asked.output_tokens
    seen = [p for c in evidence.curves if c.workload in asked.labels for p in c.points if p.output_tokens]
    if not seen:
        return None, None
    return (sum(p.input_tokens or 0.0 for p in seen) / len(seen), sum(p.output_tokens or 0.0 for p in seen) / len(seen))


def _sheets(question: Question, evidence: Evidence) -> Iterator[Accelerator]:
    """Spec sheets of the hardware allowed; where nothing is named, those that have a price."""
    known = accelerators()
    kinds = [w.lower() for w in question.hardware if w.lower() in KINDS]
    words = [w for w in question.hardware if w.lower() not in KINDS]
    words += [m.accelerator for m in evidence.machines if m.accelerator and m.name.lower() in map(str.lower, words)]
    if not question.hardware:
        words = sorted({p.hardware for p in prices.catalogue()})
    named = {sheet.name for word in words if (sheet := lookup(word, known))}
    for sheet in known:
        machine = Machine(hardware_id=sheet.name, name=sheet.name, kind=_kind(sheet))
        if sheet.name in named or any(allows(kind, machine) for kind in kinds):
            yield sheet


def _kind(sheet: Accelerator) -> str:
    if sheet.kind == "cpu":
        return "cpu"
    return "rocm" if sheet.name.startswith("mi") else "cuda"


def _estimate(question: Question, known: tuple[str, Architecture], sheet: Accelerator, gpus: int, inputs: float,
              outputs: float) -> Estimate | None:
    """`gpus` share the model. None where the weights do not fit, or a limit cannot be kept."""
    name, shape = known
    stack = Stack(architecture=shape, chips=gpus, chip=Chip(
        name=sheet.name, memory_bandwidth_bytes_per_s=sheet.memory_bandwidth_bytes_per_s,
        flops_per_s=sheet.bf16_flops_per_s, attention_flops_per_s=sheet.bf16_flops_per_s,
        memory_bytes=sheet.memory_bytes, link_bytes_per_s=sheet.link_bytes_per_s))
    if 2.0 * shape.parameters > MEMORY_SHARE * sheet.memory_bytes * gpus:
        return None
    ttft = roofline.ttft_bound_ms(stack, inputs) / COMPUTE_SHARE + LAYER_MS * shape.layers
    users = _users(question, stack, inputs, outputs, ttft)
    if users is None:
        return None
    tpot = roofline.tpot_ms(stack, users, inputs, outputs)
    rate = users / ((ttft + (outputs - 1) * tpot) / 1e3)
    least = roofline.tpot_bound_ms(stack, users, inputs, outputs)
    bound = users / ((roofline.ttft_bound_ms(stack, inputs) + (outputs - 1) * least) / 1e3)
    count = _count(question, rate, users) + question.down
    price = _price(question, sheet, gpus)
    hourly = price.price_usd_per_hour * count if price else None
    load, tokens = question.request_rate or rate * count, Request(input_tokens=0.0, output_tokens=outputs)
    millions = None if hourly is None else per_million(hourly, load, tokens).output
    one = Figure(value=rate, high=max(rate, bound), basis="formula", how=f"{users:g} at once: {HOW}")
    label = f"{count} × {sheet.name}" if gpus == 1 else f"{count} × ({gpus} × {sheet.name} together)"
    return Estimate(
        label=f"{label}, 16-bit weights", instances=count, accelerators=gpus, capacity=one, price=price,
        usd_per_month=None if hourly is None else hourly * HOURS_PER_MONTH, usd_per_million_output_tokens=millions,
        learned=_learned(name, sheet, gpus, users, inputs, outputs),
        expected={"ttft_ms_mean": Figure(value=ttft, basis="formula", how="one prompt, no queue"),
                  "tpot_ms_mean": Figure(value=tpot, basis="formula", how=f"{users:g} at once")})


def _learned(name: str, sheet: Accelerator, gpus: int, users: float, inputs: float, outputs: float) -> str | None:
    if sheet.kind != "gpu":
        return None
    together = f" --tensor-parallel {gpus}" if gpus > 1 else ""
    return (f"dyno plan latency {shlex.quote(name)} --hardware {sheet.name}{together} --concurrency {users:g}"
            f" --input-tokens {inputs:.0f} --output-tokens {max(outputs, 2.0):.0f}")


def _count(question: Question, rate: float, users: float) -> int:
    more = 1 + question.headroom
    if question.concurrency:
        return max(1, fleet.instances(question.concurrency * more, users))
    return max(1, fleet.instances((question.request_rate or 0.0) * more, rate))


def _users(question: Question, stack: Stack, inputs: float, outputs: float, ttft: float) -> float | None:
    """The most at once, by powers of two, that keep the limits and fit into memory; None where not even one does."""
    most = None
    for users in (2.0**n for n in range(int(math.log2(MOST_USERS)) + 1)):
        if roofline.running(stack, users, inputs, outputs, MEMORY_SHARE) < users:
            break
        tpot = roofline.tpot_ms(stack, users, inputs, outputs)
        if not all(_mean(x, ttft, tpot, outputs) <= x.at_most for x in question.bounds):
            break
        most = users
    return most


def _mean(limit: Limit, ttft: float, tpot: float, outputs: float) -> float:
    if limit.latency.startswith(("ttft", "first_content")):
        return ttft
    if limit.latency.startswith("e2e"):
        return ttft + (outputs - 1) * tpot
    return tpot if limit.latency in ("tpot_ms", "itl_ms") else 0.0


def _price(question: Question, sheet: Accelerator, gpus: int) -> PriceOf | None:
    """Of the bundled prices."""
    named = " ".join((sheet.name.replace("_", " "), *sheet.matches))
    spec = HardwareSpec(name=f"{gpus} of them", kind="cuda", accelerator=named, accelerators=gpus)
    found = prices.choose(prices.applying(prices.catalogue(), spec), question.price_tier)
    if found is None:
        return None
    return PriceOf(hardware_id=sheet.name, tier=found.tier, date=found.date, source=found.source,
                   region=found.region, price_usd_per_hour=found.price_usd_per_hour * question.price_factor)
