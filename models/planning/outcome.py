"""What a simulation says, in the words of a measurement: percentiles, rates, how full the engine was, and when."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.latencies import QUANTILES
from models.planning.simulation import Simulated
from models.planning.steps import held_tokens

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def metrics(run: Simulated, slots: int | None = None, kv_tokens: int | None = None, measured: Bools | None = None,
            ) -> dict[str, float]:
    """Returns `ttft_ms_p95`-like names and values, as models.summary defines them: latencies in ms of the requests in
    `measured` (all: None), rates a second over the window from the first of these sent to the last one ended, counting
    tokens of every request in it.

    And of that window: busy_mean, waiting_mean (sequences), full_share (of the time, in which all slots were taken),
    kv_tokens_mean; of the whole run kv_tokens_peak, kv_pressure_peak (its share of kv_tokens) and preemptions.
    """
    chosen = np.ones(len(run.first_s), bool) if measured is None else measured
    out: dict[str, float] = {"requests": float(chosen.sum())}
    for name, each_s in (("ttft", run.ttft_s), ("tpot", run.tpot_s), ("e2e", run.e2e_s), ("queued", run.queued_s)):
        values = each_s[chosen & ~np.isnan(each_s)] * 1e3
        if len(values):
            out[f"{name}_ms_mean"] = float(values.mean())
            found = np.quantile(values, list(QUANTILES.values()))
            out |= {f"{name}_ms_{label}": float(one) for label, one in zip(QUANTILES, found, strict=True)}
    start, end = float(run.arrived_s[chosen].min()), float(run.last_s[chosen].max())
    seconds = end - start
    ended = float(((run.last_s > start) & (run.last_s <= end)).sum())
    out["requests_per_second"] = ended / seconds
    out["output_tokens_per_second"] = _tokens(run, start, end) / seconds
    out["input_tokens_per_second"] = out["requests_per_second"] * float(run.input_tokens[chosen].mean())
    return out | _fullness(run, slots, kv_tokens, start, end)


def _tokens(run: Simulated, start: float, end: float) -> float:
    """Output tokens within [start, end]: the first of each answer at its instant, the others evenly after it."""
    firsts = ((run.first_s >= start) & (run.first_s <= end)).sum()
    lasts_s = np.maximum(run.last_s - run.first_s, 1e-12)
    share = (np.minimum(run.last_s, end) - np.maximum(run.first_s, start)) / lasts_s
    return float(firsts + (np.clip(share, 0, 1) * (run.output_tokens - 1)).sum())


def _fullness(run: Simulated, slots: int | None, kv_tokens: int | None, start: float, end: float) -> dict[str, float]:
    def inside(since: Floats, until: Floats) -> Floats:
        return np.asarray(np.maximum(0.0, np.minimum(until, end) - np.maximum(since, start)))

    seconds = end - start
    held = run.input_tokens + (run.output_tokens + 1) / 2
    out = {"busy_mean": float(inside(run.admitted_s, run.last_s).sum()) / seconds,
           "waiting_mean": float(inside(run.arrived_s, run.admitted_s).sum()) / seconds,
           "kv_tokens_mean": float((inside(run.first_s, run.last_s) * held).sum()) / seconds,
           "kv_tokens_peak": float(run.kv_tokens_peak), "preemptions": float(run.preemptions)}
    if slots is not None:
        at, busy = _count(run.admitted_s, run.last_s)
        out["full_share"] = float((inside(at[:-1], at[1:]) * (busy[:-1] >= slots)).sum()) / seconds
    if kv_tokens is not None:
        out["kv_pressure_peak"] = run.kv_tokens_peak / kv_tokens
    return out


def _count(since: Floats, until: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Instants at which something begins or ends, and how many there are from each on."""
    at = np.concatenate([until, since])
    order = np.argsort(at, kind="stable")   # at one instant the end comes first
    change = np.concatenate([np.full(len(until), -1), np.ones(len(since), np.int64)])
    return at[order], np.cumsum(change[order])


def timeline(run: Simulated, points: int = 24) -> list[dict[str, float]]:
    """Returns the state at so many instants evenly spread from the first arrival to the last: at_s, busy and waiting
    (sequences), kv_tokens (of sequences that decode)."""
    if not len(run.arrived_s):
        return []
    at = np.linspace(run.arrived_s[0], run.arrived_s[-1], points)
    came, admitted, ended = (_before(x, at) for x in (run.arrived_s, run.admitted_s, run.last_s))
    held = held_tokens(run.first_s, run.last_s, run.input_tokens.astype(float), run.output_tokens.astype(float), at)
    return [{"at_s": float(t), "busy": float(a - e), "waiting": float(c - a), "kv_tokens": max(0.0, float(h))}
            for t, c, a, e, h in zip(at, came, admitted, ended, held, strict=True)]


def _before(instants: Floats, at: Floats) -> Floats:
    return np.searchsorted(np.sort(instants), at, side="right").astype(float)
