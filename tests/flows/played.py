"""A server that is played instead of run: what `dyno capacity` drives ends at once, by a clock that is only counted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl

from bench._long_run import Server, play
from flows.capacity import Known
from models.frames import REQUESTS
from models.records import Summary
from models.specs import Load, Workload
from workloads import schedule
from workloads.interim import Now, Say

LOOK_NS = 250_000_000
"""Between two looks at a run that goes on."""
JITTER_MS = 0.3
"""Mean of what the network adds to a first token."""
Floats = npt.NDArray[np.float64]


def taker(server: Server, asked: Workload, luck: int) -> Callable[[Load, int, Callable[[Now], Say]], Known]:
    """Returns what drives a load at the played server. luck: of this search's arrivals and of the network."""
    rng = np.random.Generator(np.random.PCG64(luck))

    def take(load: Load, seed: int, judge: Callable[[Now], Say]) -> Known:
        whole = _whole(server, schedule.plan(asked, load, seed).requests, load, rng)
        last_ns = int(whole.filter(pl.col("phase") == "measured")["done_ns"].max())  # type: ignore[arg-type]
        at_ns, said = LOOK_NS, "go on"
        while at_ns < last_ns and said == "go on":
            said = judge(Now(at_ns, *_until(whole, at_ns)))
            at_ns += LOOK_NS
        ends_ns = min(at_ns, last_ns)
        seen, _ = _until(whole, ends_ns)
        cut = whole.filter((pl.col("planned_ns") < ends_ns) & (pl.col("done_ns") > ends_ns)).with_columns(
            outcome=pl.lit("cancelled"), done_ns=pl.lit(ends_ns), output_tokens=pl.lit(None, pl.Int32), **{
                c: pl.when(pl.col(c) <= ends_ns).then(c) for c in ("first_token_ns", "first_content_ns")},
            last_token_ns=pl.when(pl.col("first_token_ns") <= ends_ns).then(ends_ns))
        requests = pl.concat([seen, cut.cast(dict(seen.schema))])
        return Known(requests, Summary(requests_ok=0, requests_failed=0, outcomes={}, window_s=ends_ns / 1e9,
                                       metrics=_metrics(requests)), (),
                     ends_ns / 1e9, said == "hopeless")
    return take


def _whole(server: Server, plan: pl.DataFrame, load: Load, rng: np.random.Generator) -> pl.DataFrame:
    """All that was planned, as if nothing had ended it."""
    plan = plan.sort("offset_ns") if load.request_rate else plan
    arrivals = plan["offset_ns"].to_numpy() / 1e9 if load.request_rate else None
    if arrivals is not None:
        arrivals = arrivals - arrivals[0]
    played = play(server, plan.height, load.concurrency or 0, arrivals)
    order = np.argsort(played.came, kind="stable")
    late = rng.exponential(JITTER_MS / 1e3, plan.height)
    came, first, done = (np.round(1e9 * x).astype(np.int64) for x in (
        played.came[order], (played.first + late)[order], (played.done + late)[order]))
    return pl.DataFrame({
        "request_index": plan["request_index"], "session": plan["session"], "turn": plan["turn"],
        "phase": plan["phase"], "planned_ns": came, "sent_ns": came, "first_token_ns": first,
        "first_content_ns": first, "last_token_ns": done, "done_ns": done, "outcome": ["ok"] * plan.height,
        "output_tokens": [server.tokens] * plan.height}).select(
            (pl.col(c) if c in ("request_index", "session", "turn", "phase", "planned_ns", "sent_ns", "first_token_ns",
                                "first_content_ns", "last_token_ns", "done_ns", "outcome", "output_tokens")
             else pl.lit(None)).cast(kind).alias(c) for c, kind in REQUESTS.items())


def _until(whole: pl.DataFrame, at_ns: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What has ended by then, and what is in flight."""
    flying = whole.filter((pl.col("planned_ns") <= at_ns) & (pl.col("done_ns") > at_ns)).select(
        "phase", "planned_ns", "sent_ns", first_ns=pl.when(pl.col("first_token_ns") <= at_ns).then("first_token_ns"))
    return whole.filter(pl.col("done_ns") <= at_ns), flying


def _metrics(requests: pl.DataFrame) -> dict[str, float]:
    ok = requests.filter((pl.col("phase") == "measured") & (pl.col("outcome") == "ok"))
    if ok.is_empty():
        return {}
    first, whole = ((ok[c] - ok["planned_ns"]).to_numpy() / 1e6 for c in ("first_token_ns", "done_ns"))
    per_token = (whole - first) / np.maximum(1, ok["output_tokens"].to_numpy() - 1)
    window_s = (ok["done_ns"].max() - ok["sent_ns"].min()) / 1e9  # type: ignore[operator]
    return {"requests_per_second": ok.height / window_s, "ttft_ms_p50": float(np.median(first)),
            "tpot_ms_p50": float(np.median(per_token)), "e2e_ms_mean": float(whole.mean())}
