"""Where the warm-up of a run really ends: found from its measured requests, not guessed beforehand.

Three series in the order of sending are looked at: TTFT (what prompt length explains is taken out), TPOT, and the
requests in flight at each sending, which throughput follows. None depends on output lengths, whose tails are heavy.

Where a series settles is White's marginal standard error rule (MSER-5; White, "An effective truncation heuristic for
bias reduction in simulation output", Simulation 69, 1997; White, Cobb and Spratt, WSC 2000): of all beginnings to leave
out, the one that leaves the mean of the rest with the smallest standard error. Four things it lacks on short and
heavy-tailed series are added: logarithms clipped at CLIP deviations (one outlier moves the rule's minimum anywhere);
batches as long as a wave of a closed loop, so that a cut is no part of a wave; of beginnings about as good, the
shortest; and a cut counts only when what it leaves out differs from the rest by a t test at LEVEL and moves the mean by
MATERIAL (the bare rule cuts 7-13% of steady series of 50 to 100 requests, and finds no end in 10-20% of them).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from models.intervals import student
from models.latencies import latencies
from models.records import Warmup

Floats = npt.NDArray[np.float64]
IN_FLIGHT = "in flight"
"""Says where a run begins to be steady, but not that it never is: in an open loop it wanders by nature, and the verdict
`backlog_grows` judges it."""

METHOD = "MSER-5"
REQUESTS_MIN = 20        # fewer: nothing is cut, ten or so requests cannot show that they are steady
BATCH_MIN = 5            # requests a batch, as in MSER-5
BATCHES_MIN = 10         # as many at least, else batches are made shorter than a wave
SHARE_MAX = 0.5          # of the requests: a rule that wants more has found no steady state
CLIP = 3.0               # robust standard deviations of the second half
LEVEL = 0.99             # of the t test between beginning and rest; above 0.95, as the largest was searched for
MATERIAL = 0.005         # what the beginning moves the mean by, relative: less is not worth a request
MOVING = 0.10            # between first and last third of what is kept, relative: more, and significant, still moves
ABOUT = 0.25             # standard errors of that standard error: as good as the best
FLOOR = 0.01             # of the median, added before the logarithm: a TPOT may be 0
RATIO_MAX = 0.9          # of the correlation of successive batches that is believed


def settled(requests: pl.DataFrame) -> tuple[pl.DataFrame, Warmup]:
    """Relabels the measured requests before the steady state as `warmup`, at most half of them; returns the frame
    and what was found. Not for loads that are meant to change (ramps)."""
    measured = pl.col("phase") == "measured"
    ok = requests.filter(measured & (pl.col("outcome") == "ok") & pl.col("sent_ns").is_not_null()).sort("sent_ns")
    if ok.height < REQUESTS_MIN:
        return requests, Warmup()
    wave = in_flight(requests, ok)
    found = {name: _transient(values, float(wave.mean())) for name, values in _series(ok, wave).items()}
    moving = tuple(name for name, cut in found.items() if cut is None and name != IN_FLIGHT)
    cuts = {name: cut for name, cut in found.items() if cut}
    if moving or not cuts:
        return requests, Warmup(method=METHOD, found=not moving, because=moving)
    cut = max(cuts.values())
    end_ns = int(ok["sent_ns"][cut])
    before = measured & (pl.col("sent_ns") < end_ns)
    lost = requests.filter(before)
    warmup = Warmup(method=METHOD, requests=lost.height, failed=lost.filter(pl.col("outcome") != "ok").height,
                    seconds=(end_ns - int(str(lost["sent_ns"].min()))) / 1e9, end_ns=end_ns, because=tuple(cuts))
    phase = pl.when(before).then(pl.lit("warmup")).otherwise(pl.col("phase"))
    return requests.with_columns(phase.alias("phase")), warmup


def in_flight(requests: pl.DataFrame, at: pl.DataFrame, start: str = "sent_ns") -> Floats:
    """Returns how many requests were sent (`planned_ns`: due) and not ended when each of `at` was, itself included."""
    went = requests.filter(pl.col(start).is_not_null() & pl.col("done_ns").is_not_null())
    begun, ended = (np.sort(went[c].to_numpy()) for c in (start, "done_ns"))
    when = at[start].to_numpy()
    count = np.searchsorted(begun, when, side="right") - np.searchsorted(ended, when, side="right")
    there: Floats = np.maximum(count, 1).astype(float)
    return there


def _series(ok: pl.DataFrame, wave: Floats) -> dict[str, Floats]:
    each = latencies(ok)
    lengths = ok["input_tokens"].fill_null(ok["input_tokens_planned"]).to_numpy().astype(float)
    ttft, tpot = (each[name].to_numpy().astype(float) for name in ("ttft_ms", "tpot_ms"))
    return {"TTFT": _without(_log(ttft), np.log(np.maximum(lengths, 1))), "TPOT": _log(tpot), IN_FLIGHT: np.log(wave)}


def _log(values: Floats) -> Floats:
    """Logarithms; NaN (no second token) becomes the median, which says nothing either way."""
    known = values[np.isfinite(values)]
    median = float(np.median(known)) if len(known) else 0.0
    if median <= 0:
        return np.zeros(len(values))
    whole: Floats = np.maximum(np.where(np.isfinite(values), values, median), 0)
    logs: Floats = np.log(whole + FLOOR * median)
    return logs


def _without(values: Floats, explains: Floats) -> Floats:
    """Takes out the straight line that a longer prompt explains (never a falling one)."""
    centred = explains - explains.mean()
    spread = float(centred @ centred)
    slope = max(0.0, float(centred @ values) / spread) if spread > 0 else 0.0
    rest: Floats = values - slope * centred
    return rest


def _clipped(values: Floats) -> Floats:
    late = values[len(values) // 2:]
    median = float(np.median(late))
    deviation = 1.4826 * float(np.median(np.abs(late - median)))
    reach = CLIP * deviation if deviation > 0 else np.inf
    clipped: Floats = np.clip(values, median - reach, median + reach)
    return clipped


def _transient(values: Floats, wave: float) -> int | None:
    """Returns how many values at the beginning are not of the steady state; None when there is none to be found."""
    count = len(values)
    size = int(min(max(BATCH_MIN, np.ceil(wave)), max(BATCH_MIN, count // BATCHES_MIN)))
    offset = count % size
    clipped = _clipped(values)
    batches = clipped[offset:].reshape(-1, size).mean(axis=1)
    if len(batches) < 4 or batches.max() - batches.min() < 1e-9:
        return 0
    longest = max(1, int((SHARE_MAX * count - offset) // size))
    for cut in _candidates(batches, longest):
        at = cut * size + offset
        matters = cut > 0 and abs(float(values[:at].mean() - values[at:].mean())) * at / count > MATERIAL
        needed = cut if matters and _differ(batches[:cut], batches[cut:]) else 0
        if needed < longest and not _moves(batches[needed:]):
            return at if needed else 0
    return None


def _candidates(batches: Floats, longest: int) -> tuple[int, int]:
    """Returns the shortest beginning whose rest is about as good as the best, then the best itself."""
    errors = _marginal_errors(batches)[:longest + 1]
    errors = np.maximum(errors, 1e-9 * float(errors.max()))  # below that it is rounding
    best = int(np.argmin(errors))
    good = errors[best] * (1 + ABOUT * np.sqrt(2 / (len(batches) - best)))
    return int(np.argmax(errors <= good)), best


def _moves(kept: Floats) -> bool:
    first, _, last = np.array_split(kept, 3)
    return len(kept) >= 6 and abs(float(first.mean() - last.mean())) > MOVING and _differ(first, last)


def _marginal_errors(batches: Floats) -> Floats:
    """Returns, for every d, the squared standard error of the mean of batches[d:]."""
    number = np.arange(1, len(batches) + 1)
    backwards = batches[::-1] - batches.mean()
    sums = np.cumsum(backwards)
    return ((np.cumsum(backwards**2) - sums**2 / number) / number**2)[::-1]


def _differ(first: Floats, second: Floats) -> bool:
    """A t test of two stretches of batches, their variance corrected for the correlation of successive ones."""
    within = np.concatenate([first - first.mean(), second - second.mean()])
    power, free = float(within @ within), len(within) - 2
    if free < 1 or power == 0:
        return power == 0
    ratio = min(max(float(within[:-1] @ within[1:]) / power, 0.0), RATIO_MAX)
    variance = power / free * (1 + ratio) / (1 - ratio)  # of the mean of a first-order autoregression
    error = float(np.sqrt(variance * (1 / len(first) + 1 / len(second))))
    return abs(float(first.mean() - second.mean())) > student(LEVEL, free) * error
