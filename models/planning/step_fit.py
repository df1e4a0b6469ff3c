"""Step times fitted on what requests showed, of closed loops or any other load.

The seconds of a request from its first to its last token are the sum of its steps: one equation a request, whose terms
count what the engine did meanwhile. So are the time to the first token of a request that was alone, and a step with
prompts between tokens of others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from models.errors import UserError
from models.identity import Record
from models.planning.steps import Floats, Prefill, StepTimes, held_tokens

EXPONENTS = (0.5, 0.75, 1.0, 1.25)
"""Tried for `n^exponent` beside a table, the best by the error left out."""
KNOTS, KNOT_STEPS = 16, 100.0
"""Rows of a table at the most, and tokens that came in steps of so many sequences, at the least."""
FOLDS, ROUNDS, LARGE, NOISY = 5, 6, 0.3, 0.25
IDLE_SHARE = 0.02
"""Of a request's time to first token that another may overlap, and it still counts as alone."""


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
    """Step times and how far they were off. error_left_out: mean absolute share by which the seconds of requests were
    missed that were left out, a fifth of each load at a time (decoding, and first tokens of requests that were alone).
    sequences_most: that were seen to decode at once."""

    times: StepTimes
    loads: tuple[str, ...]
    equations: int
    error: float
    error_left_out: float
    sequences_most: int
    notes: tuple[str, ...] = ()


def fit(points: Sequence[Seen], prefill: Prefill = "mixed") -> Fitted:
    """Fits step times by non-negative least squares of relative errors, every load with the same weight.

    Of a table and the exponents the one with the least error on requests left out in turn. Raises UserError where no
    request had two tokens.
    """
    usable = [one for one in points if (one.output_tokens >= 2).any()]
    if not usable:
        raise UserError("points: no answered request with two output tokens: nothing shows how long a step takes")
    forms: list[Form] = [*EXPONENTS, _knots(usable)]
    tried = [[_equations(one, form, prefill) for one in usable] for form in forms]
    errors = [_left_out(equations) for equations in tried]
    best = int(np.argmin(errors))
    equations, form = tried[best], forms[best]
    found = _solved(equations)
    alone = sum(int((one.rows[:, -1] > 0).sum()) for one in equations)
    notes = [] if alone else ["no request was ever alone: the overhead before the first token is taken as nothing"]
    if errors[best] > NOISY:
        notes.append(f"requests left out are {errors[best]:.0%} off: too few were measured, or something else kept the"
                     " machine busy")
    return Fitted(times=_times(found, form, prefill), loads=tuple(one.label for one in usable),
                  equations=sum(len(one.seconds) for one in equations), error=_missed(equations, found),
                  error_left_out=errors[best], sequences_most=max(int(_running(one, _steps(one)[1]).max())
                                                                  for one in usable), notes=tuple(notes))


Form = float | tuple[int, ...]
"""Of decode(n): an exponent, or the rows of a table."""


@dataclass(frozen=True)
class _Equations:
    """Terms [equations, terms], seconds and weights [equations]. Terms are those of decode(n), KV tokens, prompts,
    their tokens, tokens attended to, and requests that were alone."""

    rows: Floats
    seconds: Floats
    weights: Floats

    def part(self, chosen: npt.NDArray[np.bool_]) -> _Equations:
        return _Equations(self.rows[chosen], self.seconds[chosen], self.weights[chosen])


def _knots(points: Sequence[Seen]) -> tuple[int, ...]:
    """How many sequences decoded at a time in enough steps."""
    counts = np.zeros(1)
    for one in points:
        _, middle, weight, _ = _steps(one)
        these = np.bincount(np.maximum(_running(one, middle), 1), weight)
        counts = np.pad(counts, (0, max(0, len(these) - len(counts))))
        counts[:len(these)] += these
    enough = np.flatnonzero(counts >= min(KNOT_STEPS, counts.max()))
    if len(enough) > KNOTS:
        enough = np.unique(enough[np.searchsorted(enough, np.geomspace(enough[0], enough[-1], KNOTS) - 1e-9)])
    return tuple(int(n) for n in enough)


def _decode_terms(running: Floats, form: Form) -> Floats:
    """What multiplies the coefficients of decode(n), a row for each of the steps."""
    if isinstance(form, float):
        return np.column_stack([np.ones_like(running), running**form])
    beyond = np.maximum(1.0, running / form[-1])
    each = np.eye(len(form) + 1)[1:]  # at no sequences nothing
    return np.column_stack([np.interp(running, (0, *form), one) * beyond for one in each])


def _equations(seen: Seen, form: Form, prefill: Prefill) -> _Equations:
    """Decoding of every request, the first token of those that were alone, and steps with prompts that others' tokens
    show the beginning and the end of; each kind with a weight of 1 in all."""
    parts = [_decoding(seen, form, prefill), _alone(seen, form)]
    if prefill == "mixed" and seen.chunks_s:
        parts.append(_prompt_steps(seen, form, seen.chunks_s))
    return _Equations(np.vstack([rows for rows, _ in parts]), np.concatenate([seconds for _, seconds in parts]),
                      np.concatenate([np.full(len(seconds), 1 / max(1, len(seconds))) for _, seconds in parts]))


def _prompt_steps(seen: Seen, form: Form, chunks_s: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Steps in which sequences decoded while prompts were computed whole, a row each: from the last tokens before to
    the first tokens of those prompts."""
    order = np.argsort(seen.first_s)
    first, prompt, stamps = seen.first_s[order], seen.input_tokens[order], np.sort(np.concatenate(chunks_s))
    gaps = np.concatenate([np.diff(one) for one in chunks_s])
    apart = max(np.quantile(gaps, 0.1) / 2, np.median(gaps) / 10) if len(gaps) else 0.0   # nearer ones: of one step
    starts = np.flatnonzero(np.diff(first, prepend=-np.inf) > apart)   # of each step's prompts, by first token
    begins = stamps[np.maximum(0, np.searchsorted(stamps, first[starts] - apart) - 1)]
    seconds = first[starts] - begins
    running = _running(seen, first[starts] - seconds / 2)
    sums = [np.add.reduceat(of, starts) for of in (np.ones_like(prompt), prompt, prompt * (prompt + 1) / 2)]
    held = held_tokens(seen.first_s, seen.last_s, seen.input_tokens, seen.output_tokens, begins)
    came = np.maximum.reduceat(seen.sent_s[order], starts)
    whole = (running > 0) & (seconds > 0) & (came < begins)
    terms = _decode_terms(np.maximum(running, 1).astype(float), form)
    return np.column_stack([terms, held, *sums, np.zeros_like(held)])[whole], seconds[whole]


def _decoding(seen: Seen, form: Form, prefill: Prefill) -> tuple[Floats, Floats]:
    """What the engine did between the first and the last token of each request that had two, a row each. Steps that
    prompts ended in are known by their first tokens."""
    steps, middle, weight, of = _steps(seen)
    seconds = np.maximum(seen.last_s - seen.first_s, 1e-9)
    terms = _decode_terms(np.maximum(_running(seen, middle), 1).astype(float), form)
    decode = np.column_stack([np.bincount(of, term * weight, len(steps)) for term in terms.T])
    held = np.bincount(of, held_tokens(seen.first_s, seen.last_s, seen.input_tokens, seen.output_tokens, middle)
                       * weight, len(steps))
    order = np.argsort(seen.first_s)
    half_step = seconds / np.maximum(steps, 1) / 2
    low, high = (np.searchsorted(seen.first_s[order], at + half_step, "right") for at in (seen.first_s, seen.last_s))
    prompt = seen.input_tokens[order]
    sums = [np.concatenate([[0.0], np.cumsum(of)]) for of in (np.ones_like(prompt), prompt, prompt * (prompt + 1) / 2)]
    prompts, tokens, attended = (total[high] - total[low] for total in sums)
    if prefill == "first" and isinstance(form, float):
        decode[:, 0] += prompts  # each in a step of its own, which has a base too
    rows = np.column_stack([decode, held, prompts, tokens, attended, np.zeros_like(steps)])
    return rows[steps > 0], seconds[steps > 0]


def _running(seen: Seen, at: Floats) -> npt.NDArray[np.int64]:
    """Sequences that decode at those instants."""
    return np.searchsorted(np.sort(seen.first_s), at) - np.searchsorted(np.sort(seen.last_s), at)


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


def _alone(seen: Seen, form: Form) -> tuple[Floats, Floats]:
    """Requests that no other overlapped until their first token, a row each."""
    order = np.argsort(seen.sent_s)
    sent, first = seen.sent_s[order], seen.first_s[order]
    before = np.concatenate([[-np.inf], np.maximum.accumulate(seen.last_s[order])[:-1]])
    after = np.concatenate([sent[1:], [np.inf]])
    ttft = first - sent
    alone = (before <= sent + IDLE_SHARE * ttft) & (after >= first) & (ttft > 0)
    prompt = seen.input_tokens[order][alone]
    ones, none = np.ones_like(prompt), np.zeros_like(prompt)
    decode = [ones, none] if isinstance(form, float) else [none] * len(form)
    return np.column_stack([*decode, none, ones, prompt, prompt * (prompt + 1) / 2, ones]), ttft[alone]


def _solved(equations: Sequence[_Equations]) -> Floats:
    """The coefficients of a row's terms. Errors are relative to the geometric mean of what was seen and what is
    predicted; large ones count less (Huber, Ann. Math. Stat. 35, 1964), and at first what was seen to take next to
    nothing. Relative errors make predictions too small where there is chance in what was seen: in the end they are
    scaled to be right on average.
    """
    rows, seconds, weights = (np.concatenate([getattr(one, name) for one in equations])
                              for name in ("rows", "seconds", "weights"))
    expected = np.maximum(seconds, np.median(seconds) / 5)
    trust, found = np.ones_like(seconds), np.zeros(rows.shape[1])
    for _ in range(ROUNDS):
        by = np.sqrt(weights * trust) / expected
        weighted = rows * by[:, None]
        scale = np.maximum(np.abs(weighted).max(axis=0), 1e-300)
        found = np.asarray(nnls(weighted / scale, by * seconds)[0] / scale)
        ratio = np.clip(rows @ found / seconds, 0.1, 10.0)
        expected = seconds * np.sqrt(ratio)
        trust = np.minimum(1.0, LARGE / np.maximum(np.abs(np.log(ratio)), 1e-12))
    return np.asarray(found * np.average(1 / ratio, weights=weights * trust))


def _missed(equations: Sequence[_Equations], found: Floats) -> float:
    """Mean absolute relative error, every load with the same weight."""
    each = [np.average(np.abs(one.rows @ found / one.seconds - 1), weights=one.weights) for one in equations
            if len(one.seconds)]
    return float(np.mean(each))


def _left_out(equations: Sequence[_Equations]) -> float:
    errors = []
    for fold in range(FOLDS):
        out = [np.arange(len(one.seconds)) % FOLDS == fold for one in equations]
        if any(chosen.any() for chosen in out) and any((~chosen).any() for chosen in out):
            found = _solved([one.part(~chosen) for one, chosen in zip(equations, out, strict=True)])
            errors.append(_missed([one.part(chosen) for one, chosen in zip(equations, out, strict=True)], found))
    return float(np.mean(errors)) if errors else float("nan")


def _times(found: Floats, form: Form, prefill: Prefill) -> StepTimes:
    """What requests that were alone took beside their prompts is, in a table, up to what a sequence takes that decodes
    alone, that of a step of prompts alone: passes through the weights. The rest is overhead."""
    values = [float(one) for one in found]
    kv, prompt, token, attended, overhead = values[-5:]
    decode: dict[str, object] = {"base_s": values[0], "per_sequence_s": values[1], "exponent": form}
    if not isinstance(form, float):
        alone = min(overhead, values[0] / form[0]) if prefill == "mixed" else 0.0
        overhead -= alone
        decode = {"base_s": 0.0, "table": ((0, alone), *zip(form, values, strict=False))}
    return StepTimes.model_validate({
        **decode, "per_kv_token_s": kv, "per_prompt_s": prompt, "per_prefill_token_s": token,
        "per_attended_token_s": attended, "overhead_s": overhead})
