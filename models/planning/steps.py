"""How long one step of a continuous-batching engine takes, fitted on what requests of closed loops (or others) showed.

A step decodes one token of each running sequence and computes some prompt tokens. Its seconds are linear in the work:

    step = base + sequence · n^exponent + kv · tokens held + prompt · prompts + prefill token · tokens
           + attended token · Σ tokens each prompt token attends to

`base` is reading the weights once, `prompt` what a prompt in the batch costs whatever its length (llama-server, whose
slots have caches of their own, computes it in a pass apart). No step is seen from outside, but a request's seconds from
first to last token are the sum of its steps: one equation a request, whose terms count what the engine did meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.optimize import nnls

from models.errors import UserError
from models.identity import Record

Floats = npt.NDArray[np.float64]
Prefill = Literal["mixed", "first"]
"""mixed: prompts share steps with decoding (llama-server, vLLM); first: steps of prompts alone before (TGI, SGLang)."""
EXPONENTS = (0.5, 0.75, 1.0, 1.25)
"""Tried for `n^exponent`, the best by the error left out."""
IDLE_SHARE = 0.02
"""Of a request's time to first token that another may overlap, and it still counts as alone."""


class StepTimes(Record):
    """Seconds of the parts of a step. overhead_s: of a request before the engine knows of it (network, tokenising): it
    delays its first token and keeps no step busy."""

    base_s: float = Field(ge=0)
    per_sequence_s: float = Field(default=0.0, ge=0)
    exponent: float = Field(default=1.0, gt=0, description="of the sequences that decode")
    per_kv_token_s: float = Field(default=0.0, ge=0, description="each token held by a sequence that decodes")
    per_prompt_s: float = Field(default=0.0, ge=0, description="each prompt in the step, whatever its length")
    per_prefill_token_s: float = Field(default=0.0, ge=0)
    per_attended_token_s: float = Field(default=0.0, ge=0, description="each pair of a prompt token and one before it")
    overhead_s: float = Field(default=0.0, ge=0)

    def decode_s(self, sequences: int) -> float:
        """Seconds of a step in which so many sequences decode, without what reading their KV cache takes."""
        return float(self.base_s + (self.per_sequence_s * sequences**self.exponent if sequences else 0.0))


@dataclass(frozen=True)
class Seen:
    """Answered requests of one load, warm-up and all, arrays of one length: seconds on one clock at which each was sent
    and had its first and last token, and its tokens. chunks_s: when each of its chunks came; None: not known. `label`
    names the load."""

    label: str
    sent_s: Floats
    first_s: Floats
    last_s: Floats
    input_tokens: Floats
    output_tokens: Floats
    chunks_s: tuple[Floats, ...] | None = None


class Fitted(Record):
    """Step times and how far they were off. error_left_out: mean absolute share by which the seconds of a load's
    requests were missed when that load was left out (decoding, and first tokens of requests that were alone)."""

    times: StepTimes
    loads: tuple[str, ...]
    equations: int
    error: float
    error_left_out: float | None = Field(description="None: one load only, nothing could be left out")
    notes: tuple[str, ...] = ()


def fit(points: Sequence[Seen], prefill: Prefill = "mixed") -> Fitted:
    """Fits step times by non-negative least squares of relative errors, every load with the same weight.

    The exponent is the one with the least error on loads left out in turn. Raises UserError where no request had two
    tokens.
    """
    usable = [one for one in points if (one.output_tokens >= 2).any()]
    if not usable:
        raise UserError("points: no answered request with two output tokens: nothing shows how long a step takes")
    tried = {exponent: [_equations(one, exponent, prefill) for one in usable]
             for exponent in (EXPONENTS if len(usable) > 2 else (1.0,))}
    errors = {exponent: _left_out(equations) for exponent, equations in tried.items()} if len(usable) > 1 else {}
    exponent = min(errors, key=lambda one: errors[one], default=1.0)
    equations = tried[exponent]
    found = _solved(equations)
    alone = sum(int((rows[:, -1] > 0).sum()) for rows, _, _ in equations)
    notes = () if alone else ("no request was ever alone: the overhead before the first token is taken as nothing",)
    return Fitted(times=_times(found, exponent), loads=tuple(one.label for one in usable),
                  equations=sum(len(y) for _, y, _ in equations), error=_missed(equations, found),
                  error_left_out=errors.get(exponent), notes=notes)


Equations = tuple[Floats, Floats, Floats]
"""Terms [equations, 7], seconds [equations], weights [equations]."""


def _equations(seen: Seen, exponent: float, prefill: Prefill) -> Equations:
    """Decoding of every request, and the first token of those that were alone; both kinds with a weight of 1 in all."""
    decoding, seconds = _decoding(seen, exponent, prefill)
    first, ttft = _alone(seen)
    weights = np.concatenate([np.full(len(part), 1 / max(1, len(part))) for part in (seconds, ttft)])
    return np.vstack([decoding, first]), np.concatenate([seconds, ttft]), weights


def _decoding(seen: Seen, exponent: float, prefill: Prefill) -> tuple[Floats, Floats]:
    """What the engine did between the first and the last token of each request that had two, a row each. Steps that
    prompts ended in are known by their first tokens."""
    steps, middle, weight, of = _steps(seen)
    seconds = np.maximum(seen.last_s - seen.first_s, 1e-9)
    running = np.searchsorted(np.sort(seen.first_s), middle) - np.searchsorted(np.sort(seen.last_s), middle)
    sharing = np.bincount(of, np.maximum(running, 1)**exponent * weight, len(steps))
    held = np.bincount(of, held_tokens(seen.first_s, seen.last_s, seen.input_tokens, seen.output_tokens, middle)
                       * weight, len(steps))
    order = np.argsort(seen.first_s)
    half_step = seconds / np.maximum(steps, 1) / 2
    low, high = (np.searchsorted(seen.first_s[order], at + half_step, "right") for at in (seen.first_s, seen.last_s))
    prompt = seen.input_tokens[order]
    sums = [np.concatenate([[0.0], np.cumsum(of)]) for of in (np.ones_like(prompt), prompt, prompt * (prompt + 1) / 2)]
    prompts, tokens, attended = (total[high] - total[low] for total in sums)
    bases = steps + (prompts if prefill == "first" else 0.0)
    rows = np.column_stack([bases, sharing, held, prompts, tokens, attended, np.zeros_like(steps)])
    return rows[steps > 0], seconds[steps > 0]


def _steps(seen: Seen) -> tuple[Floats, Floats, Floats, npt.NDArray[np.int64]]:
    """Steps of each request after its first token; an instant within each step that was seen, how many steps it stands
    for (tokens may share a chunk), and whose it is. Without stamps of chunks the tokens are spread evenly."""
    steps = np.maximum(seen.output_tokens - 1, 0)
    stamps = seen.chunks_s or tuple(np.linspace(f, last, int(n) + 1) for f, last, n in
                                    zip(seen.first_s, seen.last_s, steps, strict=True))
    gaps = np.array([max(0, len(one) - 1) for one in stamps])
    steps = np.where(gaps > 0, steps, 0.0)
    of = np.repeat(np.arange(len(stamps)), gaps)
    middle = [np.asarray((one[1:] + one[:-1]) / 2) for one in stamps if len(one) > 1]
    return steps, np.concatenate(middle) if middle else np.zeros(0), (steps / np.maximum(gaps, 1))[of], of


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


def _alone(seen: Seen) -> tuple[Floats, Floats]:
    """Requests that no other overlapped until their first token, a row each."""
    order = np.argsort(seen.sent_s)
    sent, first = seen.sent_s[order], seen.first_s[order]
    before = np.concatenate([[-np.inf], np.maximum.accumulate(seen.last_s[order])[:-1]])
    after = np.concatenate([sent[1:], [np.inf]])
    ttft = first - sent
    alone = (before <= sent + IDLE_SHARE * ttft) & (after >= first) & (ttft > 0)
    prompt = seen.input_tokens[order][alone]
    ones, none = np.ones_like(prompt), np.zeros_like(prompt)
    return np.column_stack([ones, none, none, ones, prompt, prompt * (prompt + 1) / 2, ones]), ttft[alone]


def _solved(equations: Sequence[Equations]) -> Floats:
    """The coefficients of a row's terms."""
    rows, seconds, weights = (np.concatenate(parts) for parts in zip(*equations, strict=True))
    weighted = rows * (np.sqrt(weights) / seconds)[:, None]
    scale = np.maximum(np.abs(weighted).max(axis=0), 1e-300)
    found, _ = nnls(weighted / scale, np.sqrt(weights))
    return np.asarray(found / scale)


def _missed(equations: Sequence[Equations], found: Floats) -> float:
    """Mean absolute relative error, every load with the same weight."""
    each = [np.average(np.abs(rows @ found / seconds - 1), weights=weights) for rows, seconds, weights in equations]
    return float(np.mean(each))


def _left_out(equations: Sequence[Equations]) -> float:
    return float(np.mean([_missed([one], _solved([*equations[:i], *equations[i + 1:]]))
                          for i, one in enumerate(equations)]))


def _times(found: Floats, exponent: float) -> StepTimes:
    base, sequence, kv, prompt, token, attended, overhead = (max(0.0, float(one)) for one in found)
    return StepTimes(base_s=base, per_sequence_s=sequence, exponent=exponent, per_kv_token_s=kv, per_prompt_s=prompt,
                     per_prefill_token_s=token, per_attended_token_s=attended, overhead_s=overhead)
