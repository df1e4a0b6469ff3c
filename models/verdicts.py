"""Judgements on whether a point can be trusted, each with its threshold in the open.

A `fatal` point never feeds an answer; a `warning` is shown beside the figure; a `note` is for whoever looks closer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from models.intervals import certain_median
from models.latencies import latencies, window_ns
from models.records import EngineRun, LoadHost, Summary, Verdict, Warmup
from models.specs import Load, Workload
from models.steady import in_flight

FAILED_SHARE_FATAL = 0.10        # more failed requests than this: the rest is a biased sample
LATE_SHARE = 0.05                # of the reads seen over 2 ms late: more, and p95 is the client's own
WAITED_SHARE = 0.35              # of the time that the client wanted a processor and got none
CLIENT_CPU_SHARE = 0.80          # of one core: beyond it the client's own queueing shows in latencies
SEND_DELAY_MS = 5.0              # p99 between meant to be sent and sent; p95 where p99 is just the largest value
SEND_DELAY_SHARE = 0.05          # of the median TTFT, where that is more: nothing that is asked of it would show it
RATE_SHARE = 0.95                # of the requests that were due: below it the queue grows by more than chance
BACKLOG_SHARE = 0.05             # of the requests sent: more in flight at the end than at the start, the same 5%
BACKLOG_SHARE_FATAL = 0.10       # as with failures: the percentiles are those of the duration chosen, not the engine's
BY_CHANCE = 3.0                  # deviations of the difference of two counts in flight, which are Poisson when steady
BACKLOG_REQUESTS_MIN = 20        # fewer say nothing about a trend
CACHED_SHARE = 0.02              # of the prompt tokens, where the workload shares nothing: TTFT is of shorter prompts
LENGTH_SHARE = 0.02              # of the planned mean output length
INVALID_SHARE = 0.01             # of the answers that had to obey a schema or call a tool
INPUT_LENGTH_SHARE = 0.05        # of the planned mean input length (templates add tokens)
CHUNK_SHARE = 0.95               # chunks an output token: below it gaps between chunks are not gaps between tokens
SAMPLES = {"p95": 20, "p99": 100}  # fewer requests than 1/(1−q): the percentile is just the largest value
DRIFT_SHARE = 0.20               # between the medians of first and last half (backlog: third), beyond chance
DRIFT_TTFT_MS = 1.0              # a smaller change of TTFT may be the client's own
DISTURBED = frozenset({"host_busy", "client_bound", "engine_died", "all_failed"})
"""Verdicts that another measurement of the same point may well not get: on a quieter machine, by a healthy engine."""
HOST_BUSY_CORES = 0.25           # mean CPU used by neither engine nor client, where the engine's processes are known


def judge(requests: pl.DataFrame, telemetry: pl.DataFrame, summary: Summary, workload: Workload, load: Load,
          client_cpu_s: float, duration_s: float, engine_died: bool = False, stopped_early: bool = False,
          warmup: Warmup | None = None, processes: int = 1, late_share: float = 0.0, waited_s: float = 0.0,
          ) -> tuple[Verdict, ...]:
    """Returns every verdict that applies, in the order of the checks below.

    client_cpu_s is of all the load generator's processes together. warmup: what models.steady found. late_share: of the
    reads, those seen late; waited_s: the load generator's wait for a processor.
    """
    return (
        *_ended(requests, summary, engine_died, stopped_early),
        *_client(summary, client_cpu_s / processes, duration_s, late_share, waited_s),
        *_rate(requests, workload, load),
        *_backlog(requests, workload, load),
        *_cache(summary, telemetry, workload),
        *_lengths(summary, workload),
        *_outputs(summary),
        *_chunks(requests, summary),
        *_samples(summary),
        *_drift(requests, load, warmup),
        *_host(telemetry),
    )


def of_run(run: EngineRun) -> tuple[Verdict, ...]:
    """Returns the verdicts that every point of a launch has, whatever its load."""
    if run.functional_only is None:
        return ()
    return (Verdict(name="functional_only", severity="fatal",
                    detail=f"{run.functional_only}: that it serves is all that this shows"),)


def _ended(requests: pl.DataFrame, summary: Summary, engine_died: bool, stopped_early: bool) -> Iterator[Verdict]:
    if engine_died:
        yield Verdict(name="engine_died", severity="fatal", detail="the engine was gone before the point ended")
    total = summary.requests_ok + summary.requests_failed
    if not summary.requests_ok:
        yield Verdict(name="all_failed", severity="fatal", detail=f"none of {total} requests succeeded: "
                      + ", ".join(f"{n} {k}" for k, n in summary.outcomes.items()) + _first_error(requests))
    elif summary.requests_failed:
        share = summary.requests_failed / total
        yield Verdict(name="requests_failed", severity="fatal" if share > FAILED_SHARE_FATAL else "warning",
                      detail=f"{summary.requests_failed} of {total} requests failed" + _first_error(requests))
    if stopped_early:
        yield Verdict(name="stopped_early", severity="warning", detail="the longest duration allowed was reached")


def _first_error(requests: pl.DataFrame) -> str:
    errors = requests.filter((pl.col("phase") == "measured") & (pl.col("outcome") != "ok"))["error"].drop_nulls()
    return f" ({errors[0]})" if len(errors) else ""


def _client(summary: Summary, client_cpu_s: float, duration_s: float, late_share: float, waited_s: float,
            ) -> Iterator[Verdict]:
    quantile = "p99" if summary.requests_ok >= SAMPLES["p99"] else "p95"
    delay = summary.metrics.get(f"send_delay_ms_{quantile}", 0.0)
    allowed = max(SEND_DELAY_MS, SEND_DELAY_SHARE * summary.metrics.get("ttft_from_schedule_ms_p50", 0.0))
    share, waited = (s / duration_s if duration_s else 0.0 for s in (client_cpu_s, waited_s))
    if share > CLIENT_CPU_SHARE or delay > allowed or late_share > LATE_SHARE or waited > WAITED_SHARE:
        yield Verdict(name="client_bound", severity="fatal", detail=f"the load generator used {share:.0%} of a core,"
                      f" waited for one {waited:.0%} of the time, sent {delay:.1f} ms late at {quantile} and"
                      f" saw {late_share:.0%} of the answers' parts over 2 ms late: its own queueing is in the figures")


def _rate(requests: pl.DataFrame, workload: Workload, load: Load) -> Iterator[Verdict]:
    """Answers of the window against what was due in it, one unhindered request's time earlier: a plan drawn at random
    is not held to its mean, nor is a ramp."""
    window, ok = window_ns(requests), _ok(requests)
    if load.request_rate is None or window is None or ok.is_empty():
        return
    took_ns = (ok["done_ns"] - ok["sent_ns"]).head(max(1, ok.height // 3)).median()
    seconds = (window[1] - window[0]) / 1e9
    due = requests.filter(pl.col("turn") == 0)["planned_ns"] + round(float(str(took_ns)))
    ended = requests.filter(pl.col("outcome") == "ok")["done_ns"]
    requested, answered = (float(((at > window[0]) & (at <= window[1])).sum()) for at in (due, ended))
    requested *= load.requests / -(-load.requests // workload.turns)  # of every session all turns
    by_chance = BY_CHANCE * float(np.sqrt(2 * requested * float(str(took_ns)) / (window[1] - window[0])))
    if answered < min(RATE_SHARE * requested, requested - by_chance):
        yield Verdict(name="below_rate", severity="warning", detail=f"{answered / seconds:.2f} of"
                      f" {requested / seconds:.2f} requests a second were answered: the queue grows for as long as it"
                      " runs")


def _backlog(requests: pl.DataFrame, workload: Workload, load: Load) -> Iterator[Verdict]:
    """Requests due and not ended, from the first third of the measured ones to the last: growth that is more than
    chance and that those who wait can feel."""
    measured = requests.filter(pl.col("phase") == "measured").sort("planned_ns")
    if load.request_rate is None or measured.height < BACKLOG_REQUESTS_MIN:
        return
    early, middle, late = (float(part.mean()) for part in
                           np.array_split(in_flight(requests, measured, "planned_ns"), 3))
    growth = 1.5 * (late - early)  # between the middles of the outer thirds lie two thirds of the run
    by_chance = 1.5 * BY_CHANCE * float(np.sqrt(2 * early))
    if not early < middle < late or growth < max(BACKLOG_SHARE * measured.height, by_chance):
        return
    slower = _changes(measured.filter(pl.col("outcome") == "ok"), 3, ("ttft_from_schedule_ms", "tpot_ms"), rising=True)
    if slower:
        severe = growth > BACKLOG_SHARE_FATAL * measured.height and not workload.offline
        yield Verdict(name="backlog_grows", severity="fatal" if severe else "warning", detail="requests come faster"
                      f" than they are answered: from {early:.0f} to {late:.0f} in flight, {slower[0]}; a longer run"
                      " would show longer times")


def _cache(summary: Summary, telemetry: pl.DataFrame, workload: Workload) -> Iterator[Verdict]:
    if workload.shares_prefixes:
        return
    cached, total = summary.metrics.get("cached_tokens"), summary.metrics.get("input_tokens")
    by_usage = cached / total if cached and total else 0.0
    grown = {name: _growth(telemetry, name) for name in
             ("prefix_cache_hit_tokens", "prefix_cache_queried_tokens", "prompt_tokens")}
    hit, queried, computed = grown.values()
    looked_up = queried or hit + computed  # prompt_tokens are those that the cache did not have
    by_counters = hit / looked_up if looked_up else 0.0
    share, source = max((by_usage, "usage"), (by_counters, "the engine's own counters"))
    if share > CACHED_SHARE:
        yield Verdict(name="prefix_cached", severity="fatal", detail=f"{share:.0%} of the prompt tokens came from the"
                      f" engine's prefix cache (by {source}), though no two prompts share anything")


def _growth(telemetry: pl.DataFrame, counter: str) -> float:
    """What a counter of the engine grew by; one that starts again (a new process) counts from there."""
    rows = telemetry.filter((pl.col("source") == "gauges") & (pl.col("metric") == counter)).sort("at_ns")
    return float(rows["value"].diff().drop_nulls().clip(lower_bound=0).sum())


def _lengths(summary: Summary, workload: Workload) -> Iterator[Verdict]:
    sides = (("output", LENGTH_SHARE), ("input", INPUT_LENGTH_SHARE))
    for side, share in sides[workload.ends_freely:]:
        got = summary.metrics.get(f"{side}_tokens_mean")
        planned = summary.metrics.get(f"{side}_tokens_planned_mean")
        if got is not None and planned and abs(got / planned - 1) > share:
            yield Verdict(name=f"{side}_lengths_missed", severity="warning",
                          detail=f"{got:.1f} {side} tokens a request instead of {planned:.1f}")


def _outputs(summary: Summary) -> Iterator[Verdict]:
    valid = summary.metrics.get("output_valid_share", 1.0)
    if valid < 1 - INVALID_SHARE:
        yield Verdict(name="invalid_outputs", severity="warning", detail=f"{1 - valid:.1%} of the answers did not obey"
                      " their schema, or called no tool as it wants to be called")


def _chunks(requests: pl.DataFrame, summary: Summary) -> Iterator[Verdict]:
    per_token = summary.metrics.get("chunks_per_output_token", 1.0)
    if per_token < CHUNK_SHARE:
        yield Verdict(name="chunks_coalesced", severity="warning", detail=f"{per_token:.2f} chunks a token: several"
                      " tokens share a chunk, so gaps between chunks (ITL) are longer than between tokens")
    counted = requests.filter((pl.col("outcome") == "ok") & (pl.col("output_tokens_source") == "chunks")).height
    if counted:
        yield Verdict(name="tokens_counted", severity="note",
                      detail=f"{counted} answers came without usage: their tokens are counted from chunks")


def _samples(summary: Summary) -> Iterator[Verdict]:
    for quantile, needed in SAMPLES.items():
        if 0 < summary.requests_ok < needed:
            yield Verdict(name=f"few_samples_{quantile}", severity="note" if quantile == "p99" else "warning",
                          detail=f"{quantile} of {summary.requests_ok} requests is hardly more than their maximum"
                                 f" ({needed} are needed)")


def _drift(requests: pl.DataFrame, load: Load, warmup: Warmup | None) -> Iterator[Verdict]:
    found = _changes(_ok(requests), 2, ("tpot_ms", "ttft_ms"))
    if warmup and not warmup.found:
        found.append(f"warm-up not over ({' and '.join(warmup.because)})")
    if found:
        changing = load.request_rate_end is not None or load.arrivals == "trace"
        yield Verdict(name="not_stationary", severity="note" if changing else "warning",
                      detail="; ".join(found) + (": the load itself changes" if changing else ""))
    if warmup and warmup.failed:
        yield Verdict(name="failed_in_warmup", severity="warning", detail=f"{warmup.failed} requests failed before the"
                      " steady state and are not among those measured")


def _ok(requests: pl.DataFrame) -> pl.DataFrame:
    return requests.filter((pl.col("phase") == "measured") & (pl.col("outcome") == "ok")).sort("sent_ns")


def _changes(ok: pl.DataFrame, parts: int, names: tuple[str, ...], rising: bool = False) -> list[str]:
    """Says which medians differ between first and last of so many parts, by more than DRIFT_SHARE and chance."""
    if ok.height < 2 * SAMPLES["p95"]:
        return []
    each, size, found = latencies(ok), ok.height // parts, []
    for name in names:
        ends = (part[name].drop_nulls().to_numpy() for part in (each.head(size), each.tail(size)))
        first, last = map(certain_median, ends)
        if first is None or last is None or (rising and last[1] < first[1]):
            continue
        lower, upper = sorted((first, last), key=lambda bounds: bounds[1])
        least = DRIFT_TTFT_MS if name.startswith("ttft") else 0.0
        if lower[2] < upper[0] and upper[1] - lower[1] > max(DRIFT_SHARE * first[1], least):
            found.append(f"median {name.split('_')[0].upper()} went from {first[1]:.1f} to {last[1]:.1f} ms")
    return found


def _host(telemetry: pl.DataFrame) -> Iterator[Verdict]:
    """Of an engine on this machine whose processes can be seen (workloads.serving). Of any other it is not known what
    of the CPU is its own; what that takes from the load generator shows in `client_bound`, which waits count in."""
    used = {source: telemetry.filter((pl.col("source") == source) & (pl.col("metric") == "cpu_percent"))["value"].mean()
            for source in ("host", "engine", "client")}
    host, engine, client = used["host"], used["engine"], used["client"]
    if not isinstance(host, float) or not isinstance(engine, float) or engine == 0:
        return
    other = (host - engine - (client if isinstance(client, float) else 0.0)) / 100
    if other > HOST_BUSY_CORES:
        yield Verdict(name="host_busy", severity="warning",
                      detail=f"{other:.1f} cores were busy with something else while this was measured")


def of_hosts(hosts: Sequence[LoadHost]) -> tuple[Verdict, ...]:
    """That a load came from several machines, and how well their clocks are related: latencies are each taken by one
    clock, whose error they do not have; instants of two machines are that far off one another at the most."""
    if not hosts:
        return ()
    error = max(one.clock_error_ms for one in hosts)
    names = ", ".join(one.host for one in hosts)
    return (Verdict(name="load_hosts", severity="note" if error <= SEND_DELAY_MS else "warning",
                    detail=f"sent from {len(hosts)} machines ({names}), clocks related to ± {error:.3g} ms"),)
