"""How long one step of a continuous-batching engine takes.

A step decodes one token of each running sequence and computes some prompt tokens. Its seconds are linear in the work:

    step = decode(n) + kv · tokens held + prompt · prompts + prefill token · tokens
           + attended token · Σ tokens each prompt token attends to

decode(n) of n sequences is base + sequence · n^exponent, or a table: kernels are chosen by n, so that llama-server on
a CPU may take less for 8 than for 5. `prompt` is what a prompt in the batch costs whatever its length (llama-server,
whose slots have caches of their own, computes it in a pass apart).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from models.identity import Record

Floats = npt.NDArray[np.float64]
Prefill = Literal["mixed", "first"]
"""mixed: prompts share steps with decoding (llama-server, vLLM); first: steps of prompts alone before (TGI, SGLang)."""


class StepTimes(Record):
    """Seconds of the parts of a step. overhead_s: of a request before the engine knows of it (network, tokenising): it
    delays its first token and keeps no step busy."""

    base_s: float = Field(ge=0)
    per_sequence_s: float = Field(default=0.0, ge=0)
    exponent: float = Field(default=1.0, gt=0, description="of the sequences that decode")
    table: tuple[tuple[int, float], ...] = Field(default=(), description="sequences, ascending, and what they add to"
                                                 " the base, s: in place of the last two; 0 of them in steps of prompts"
                                                 " alone; straight lines between rows, beyond the last in proportion")
    per_kv_token_s: float = Field(default=0.0, ge=0, description="each token held by a sequence that decodes")
    per_prompt_s: float = Field(default=0.0, ge=0, description="each prompt in the step, whatever its length")
    per_prefill_token_s: float = Field(default=0.0, ge=0)
    per_attended_token_s: float = Field(default=0.0, ge=0, description="each pair of a prompt token and one before it")
    overhead_s: float = Field(default=0.0, ge=0)

    def decode_s(self, sequences: int) -> float:
        """Seconds of a step in which so many sequences decode, without what reading their KV cache takes."""
        if not self.table:
            return float(self.base_s + (self.per_sequence_s * sequences**self.exponent if sequences else 0.0))
        nothing = () if self.table[0][0] == 0 else ((0, 0.0),)
        counts, seconds = zip(*nothing, *self.table, strict=True)
        beyond = max(1.0, sequences / counts[-1])
        return float(self.base_s + np.interp(sequences, counts, seconds) * beyond)


def held_tokens(first_s: Floats, last_s: Floats, input_tokens: Floats, output_tokens: Floats, at: Floats) -> Floats:
    """KV tokens of the sequences that decode at those instants: the prompt and the first token at first, then as many
    more, evenly, as the answer has."""
    rate = (output_tokens - 1) / np.maximum(last_s - first_s, 1e-12)
    since, until = (np.argsort(x) for x in (first_s, last_s))
    begun, ended = (np.searchsorted(x[order], at, "right") for x, order in ((first_s, since), (last_s, until)))
    level = input_tokens + 1 - rate * first_s

    def difference(values: Floats) -> Floats:
        totals = [np.concatenate([[0.0], np.cumsum(values[order])]) for order in (since, until)]
        return np.asarray(totals[0][begun] - totals[1][ended])

    return difference(level) + difference(rate) * at


def steps_until(gap_s: float, step_s: float, slope_s: float) -> int:
    """The least whole n with n·step + slope·n² >= gap, all in seconds: the positive root, rounded up."""
    steps = math.ceil(2 * gap_s / (step_s + math.sqrt(step_s * step_s + 4 * slope_s * gap_s)))
    return max(1, steps)
