"""What a stack's time may depend on: the roofline's terms, whose coefficients are learnt, and numbers that tell stacks
apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.optimize import nnls

from models.identity import Identifier, Record
from models.planning.roofline import Stack, decode_step, prefill_step, running

Floats = npt.NDArray[np.float64]

TPOT_TERMS = ("dense weights", "experts' weights", "KV cache", "states", "decode arithmetic", "prefill arithmetic",
              "attention, decode", "attention, prefill", "exchange, decode", "exchange, prefill", "exchanges, each",
              "layers, each", "layers with experts, each", "sequences, each", "weights read for prefill", "constant")
"""In this order, ms at the data sheet's peaks; what is counted `each` has units of 10 µs, the constant is 1 ms."""
TTFT_TERMS = ("prefill arithmetic", "attention", "exchange", "weights", "layers, each", "constant", "a decode step",
              "prefill of all requests")
LOAD_FEATURES = 3
"""The first columns of `features`: sequences, input and output tokens."""
_EACH_MS, _FLOOR = 0.01, 0.02


class Setting(Record):
    """A stack on an engine in a closed loop: `concurrency` requests are always under way.

    precision names how weights are stored, as the caller likes to call it; version is the engine's.
    """

    stack: Stack
    engine: Identifier
    precision: Identifier
    version: str | None = None
    expert_parallel: bool = False
    concurrency: float = Field(gt=0)
    input_tokens: float = Field(gt=0)
    output_tokens: float = Field(gt=0)

    @property
    def model(self) -> str:
        """The same for two names of one shape, which take the same time."""
        shape = self.stack.architecture
        return f"{shape.layers}x{shape.hidden_size}:{shape.parameters}"

    @property
    def batch(self) -> float:
        """Sequences that decode together."""
        return running(self.stack, self.concurrency, self.input_tokens, self.output_tokens)

    @property
    def labels(self) -> dict[str, str]:
        """What is the same in two settings, by name; `curve` is all but the concurrency and the version."""
        stack = self.stack
        own = (self.engine, self.model, stack.chip.name, self.precision, stack.chips, stack.attention_groups,
               self.expert_parallel)
        return {"engine": self.engine, "model": self.model, "chip": stack.chip.name, "precision": self.precision,
                "version": f"{self.engine} {self.version or '?'}", "stack": repr(own),
                "curve": repr((*own, self.input_tokens, self.output_tokens))}


def tpot_terms(one: Setting) -> list[float]:
    """The parts of a decode step by TPOT_TERMS, with the prefill that goes on between a request's tokens."""
    stack, shape, batch = one.stack, one.stack.architecture, one.batch
    prompts = batch / one.output_tokens
    decode = decode_step(stack, batch, one.input_tokens + one.output_tokens / 2)
    prompt = prefill_step(stack, one.input_tokens, prompts)
    whole = prefill_step(stack, one.input_tokens)
    sparse = shape.layers - (shape.dense_layers or 0) if shape.experts else 0
    return [decode.weights_ms, decode.experts_ms, decode.kv_ms, decode.state_ms, decode.compute_ms, prompt.compute_ms,
            decode.attention_ms, prompt.attention_ms, decode.exchange_ms, prompt.exchange_ms,
            shape.layers * (stack.chips > 1) * _EACH_MS, shape.layers * _EACH_MS, sparse * _EACH_MS,
            batch / stack.attention_groups * _EACH_MS, prompts * (whole.weights_ms + whole.experts_ms), 1.0]


def ttft_terms(one: Setting) -> list[float]:
    """The parts of a prompt's time to first token by TTFT_TERMS; others' prompts queue before it in a closed loop."""
    whole = prefill_step(one.stack, one.input_tokens)
    decode = decode_step(one.stack, one.batch, one.input_tokens + one.output_tokens / 2)
    return [whole.compute_ms, whole.attention_ms, whole.exchange_ms, whole.weights_ms + whole.experts_ms,
            one.stack.architecture.layers * _EACH_MS, 1.0, decode.memory_ms,
            whole.arithmetic_ms * one.concurrency / one.stack.attention_groups]


def features(one: Setting, parts: Sequence[float]) -> list[float]:
    """Logarithms and yes/no by which settings are alike: the load (LOAD_FEATURES), the chips, the bytes of a weight,
    what is split how, the share of each of `parts` (terms times their coefficients, ms) in their sum, and that sum.

    Sizes of models and rates of chips are left out: the parts say what they do to a step, and a handful of each tells
    a model or a chip from another rather than what one never seen will do.
    """
    stack, total = one.stack, sum(parts)
    return [*map(math.log, (one.batch / stack.attention_groups, one.input_tokens, one.output_tokens, stack.chips,
                            stack.weight_bytes)),
            float(stack.attention_groups > 1), float(one.expert_parallel),
            *(math.log(part / total + _FLOOR) for part in parts), math.log(total)]


def coefficients(terms: Floats, values: Floats, rounds: int = 8) -> Floats:
    """Non-negative factors of the terms (rows × terms) whose sum is nearest to `values` in relative error.

    Least squares, reweighted by 1/√|error| each round so that it ends near the least absolute error (the median's),
    which rows that something else slowed down do not pull.
    """
    weights = np.ones(len(values))
    found: Floats = np.zeros(terms.shape[1])
    for _ in range(rounds):
        found, _residual = nnls(terms / values[:, None] * weights[:, None], weights)
        weights = 1 / np.sqrt(np.maximum(np.abs(terms @ found / values - 1), 0.03))
    return found
