"""Level 2: does it fit, how many sequences at once, how long a one: weights, KV cache and the engine's own share.

pool = utilisation × memory − weights − activation − non-torch − graphs, on each GPU; a sequence takes whole blocks of
it (models.planning.kv). Bytes are of one GPU; GPUs that share a model (tensor parallel) each hold 1/n of its weights.
"""

from __future__ import annotations

import math

from pydantic import Field

from models.concurrency import rough_max_concurrency
from models.identity import Identifier, Record
from models.memory import rough_kv_bytes
from models.planning.kv import Paging, bytes_per_token, sequence_bytes
from models.planning.overheads import GIB, Overheads, Rule, Tier, predicted, rule
from models.planning.weights import known, repacked_bytes, weight_bytes
from models.specs import Architecture

_POWERS = tuple(2**n for n in range(1, 11))


class Question(Record):
    """What is to fit where. memory_bytes is what one GPU (or the machine) offers to an engine."""

    architecture: Architecture
    engine: Identifier
    engine_version: str | None = None
    kind: str = "cuda"
    quantization: Identifier = "BF16"
    kv_type: Identifier = "f16"
    context_tokens: int = Field(gt=0, description="prompt and answer of one request together")
    concurrency: int = Field(default=1, gt=0)
    gpus: int = Field(default=1, gt=0)
    memory_bytes: float = Field(gt=0)
    utilisation: float | None = Field(default=None, gt=0, le=1, description="None: the engine's default")
    batched_tokens: int | None = Field(default=None, gt=0, description="computed in one step; None: its default")
    max_sequences: int | None = Field(default=None, gt=0, description="decoded together; None: its default")
    weights_bytes: float | None = Field(default=None, gt=0, description="of all GPUs together, where they are known")
    overheads: Overheads | None = Field(default=None, description="where they were measured")

    @property
    def rule(self) -> Rule:
        return rule(self.engine, self.engine_version, self.kind)

    @property
    def tier(self) -> Tier:
        found = self.rule.tier(self.memory_bytes)
        return Tier(batched_tokens=self.batched_tokens or found.batched_tokens,
                    sequences=self.max_sequences or found.sequences)

    @property
    def paging(self) -> Paging:
        return self.rule.paging(self.tier.batched_tokens)


class MemoryPlan(Record):
    """The answer, in bytes of one GPU. Where weights do not fit, pool_bytes is below 0 and nothing else is possible.

    max_concurrency and max_context_tokens are those of the memory: the model may be made for less.
    """

    weights_bytes: float
    kv_bytes_per_token: float
    sequence_bytes: float = Field(description="one request of the context asked for")
    overheads: Overheads
    usable_bytes: float
    pool_bytes: float
    needed_bytes: float = Field(description="weights, overheads and the requests asked for")
    kv_tokens: float = Field(description="tokens of cache in all")
    max_concurrency: float = Field(description="requests of that context at once; engines start whole ones")
    max_context_tokens: int = Field(description="longest request, at the concurrency asked for")
    fits: bool


def plan(question: Question) -> MemoryPlan:
    """Raises UserError for an engine, version, quantisation or KV type that is not known."""
    q, shape = question, question.architecture
    weights = _weights(q) / q.gpus
    beside = q.overheads or predicted(q.rule, shape, q.memory_bytes, q.gpus, q.tier, q.context_tokens * q.concurrency)
    usable = (q.utilisation or q.rule.utilisation) * q.memory_bytes
    pool = usable - weights - beside.total_bytes
    if q.rule.kv_gib is not None and q.utilisation is None:
        pool = min(pool, q.rule.kv_gib * GIB, q.memory_bytes / 4)
    one, token = _sequence(q, q.context_tokens), bytes_per_token(shape, q.kv_type, q.gpus)
    room = max(pool, 0.0)
    return MemoryPlan(
        weights_bytes=weights, kv_bytes_per_token=token, sequence_bytes=one, overheads=beside, usable_bytes=usable,
        pool_bytes=pool, needed_bytes=weights + beside.total_bytes + q.concurrency * one,
        kv_tokens=room / token if token else math.inf, max_concurrency=room / one if one else math.inf,
        max_context_tokens=_longest(q, room), fits=q.concurrency * one <= pool)


def _weights(q: Question) -> float:
    if q.weights_bytes is not None:
        return q.weights_bytes
    copies = repacked_bytes(q.architecture, q.quantization) if q.engine == "llama_cpp" and q.kind == "cpu" else 0
    return weight_bytes(q.architecture, q.quantization) + copies


def _sequence(q: Question, tokens: int) -> float:
    return sequence_bytes(q.architecture, tokens, q.kv_type, q.gpus, q.paging)


def _longest(q: Question, room: float) -> int:
    """Bisects over tokens: a sequence's bytes never fall with its length. 0 when not even one token fits."""
    if q.concurrency * _sequence(q, 1) > room:
        return 0
    low, high = 1, 2 * q.architecture.context_tokens
    if q.concurrency * _sequence(q, high) <= room:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if q.concurrency * _sequence(q, middle) <= room else (low, middle)
    return low


def rough(question: Question) -> dict[str, float]:
    """The mission's formulas on the same question: KV bytes a token, of all requests, and the largest concurrency, of
    all GPUs' memory together and weights of 16 bits."""
    q, hidden = question, question.architecture.hidden_size
    weights = 2.0 * q.architecture.parameters
    requests = rough_kv_bytes(q.concurrency, q.context_tokens, hidden)
    return {"weights_bytes": weights, "kv_bytes_per_token": rough_kv_bytes(1, 1, hidden), "requests_bytes": requests,
            "needed_bytes": weights + requests,
            "max_concurrency": rough_max_concurrency(q.memory_bytes * q.gpus, weights, q.context_tokens, hidden)}


def nearest(question: Question, most_gpus: int = 1024) -> list[str]:
    """In sentences, what comes nearest to a question whose answer is no; empty where it fits.

    What would do: more GPUs (up to `most_gpus`), fewer bits, a shorter context, fewer requests at once.
    """
    found = plan(question)
    if found.fits:
        return []
    ways = [_more_gpus(question, most_gpus), _fewer_bits(question)]
    if found.pool_bytes > 0 and found.max_context_tokens:
        at = f" at {question.concurrency} at once" if question.concurrency > 1 else ""
        ways.append(f"the longest request that fits{at} has {found.max_context_tokens} tokens")
    if question.concurrency > 1 and found.max_concurrency >= 1:
        ways.append(f"{math.floor(found.max_concurrency)} requests of {question.context_tokens} tokens fit at once")
    short = found.needed_bytes - found.usable_bytes
    where = "GPU" if question.kind != "cpu" else "machine"
    why = ("the weights alone do not fit" if found.pool_bytes <= 0 else
           "not one request of that context fits" if found.max_concurrency < 1 else "not so many requests fit")
    head = f"{why}: {found.needed_bytes / GIB:.1f} GiB a {where} are needed, {max(short, 0) / GIB:.1f} GiB too many"
    return [head, *filter(None, ways)] if any(ways) else [head, "nothing known here makes it fit"]


def _more_gpus(q: Question, most: int) -> str:
    counts = [n for n in _POWERS if q.gpus < n <= most] if q.kind != "cpu" and q.overheads is None else []
    for gpus in counts:
        if plan(q.model_copy(update={"gpus": gpus})).fits:
            return f"{gpus} such GPUs hold it"
    return ""


def _fewer_bits(q: Question) -> str:
    """The quantisation with the most bits that fits on the same GPUs, of those that the engine reads."""
    now = weight_bytes(q.architecture, q.quantization)
    for name in known(gguf=q.engine == "llama_cpp"):
        fewer = q.model_copy(update={"quantization": name, "weights_bytes": None})
        if weight_bytes(q.architecture, name) < now and plan(fewer).fits:
            return f"{name} weights fit as it is ({weight_bytes(q.architecture, name) / q.gpus / GIB:.1f} GiB a GPU)"
    return ""
