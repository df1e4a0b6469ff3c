"""Judgements on whether a point can be trusted, each with its threshold in the open.

A `fatal` point never feeds an answer; a `warning` is shown beside the figure; a `note` is for whoever looks closer.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from models.records import Summary, Verdict
from models.specs import Load, Workload
from models.summary import latencies

FAILED_SHARE_FATAL = 0.10        # more failed requests than this: the rest is a biased sample
CLIENT_CPU_SHARE = 0.80          # of one core: beyond it the client's own queueing shows in latencies
SEND_DELAY_MS = 5.0              # p99 between meant to be sent and sent
RATE_SHARE = 0.95                # of the requested rate: below it the queue grows and percentiles depend on duration
CACHED_SHARE = 0.02              # of the prompt tokens, where the workload shares nothing
LENGTH_SHARE = 0.02              # of the planned mean output length
INVALID_SHARE = 0.01             # of the answers that had to obey a schema or call a tool
INPUT_LENGTH_SHARE = 0.05        # of the planned mean input length (templates add tokens)
CHUNK_SHARE = 0.95               # chunks an output token: below it gaps between chunks are not gaps between tokens
SAMPLES = {"p95": 20, "p99": 100}  # fewer requests than 1/(1−q): the percentile is just the largest value
DRIFT_SHARE = 0.20               # between the median TPOT of the first and the second half
HOST_BUSY_CORES = 0.25           # mean CPU used by neither engine nor client


def judge(requests: pl.DataFrame, telemetry: pl.DataFrame, summary: Summary, workload: Workload, load: Load,
          client_cpu_s: float, duration_s: float, engine_died: bool = False, stopped_early: bool = False,
          ) -> tuple[Verdict, ...]:
    """Returns every verdict that applies, in the order of the checks below."""
    return (
        *_ended(requests, summary, engine_died, stopped_early),
        *_client(summary, client_cpu_s, duration_s),
        *_rate(summary, load),
        *_cache(summary, workload),
        *_lengths(summary, workload),
        *_outputs(summary),
        *_chunks(requests, summary),
        *_samples(summary),
        *_drift(requests),
        *_host(telemetry),
    )


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


def _client(summary: Summary, client_cpu_s: float, duration_s: float) -> Iterator[Verdict]:
    delay = summary.metrics.get("send_delay_ms_p99", 0.0)
    share = client_cpu_s / duration_s if duration_s else 0.0
    if share > CLIENT_CPU_SHARE or delay > SEND_DELAY_MS:
        yield Verdict(name="client_bound", severity="fatal", detail=f"the load generator used {share:.0%} of a core and"
                      f" sent {delay:.1f} ms late at p99: its own queueing is in the figures")


def _rate(summary: Summary, load: Load) -> Iterator[Verdict]:
    if load.request_rate is None:
        return
    achieved = summary.metrics.get("requests_per_second", 0.0)
    if achieved < RATE_SHARE * load.request_rate:
        yield Verdict(name="below_rate", severity="warning", detail=f"{achieved:.2f} of {load.request_rate:g} requests"
                      " a second were answered: the queue grows for as long as it runs")


def _cache(summary: Summary, workload: Workload) -> Iterator[Verdict]:
    cached, total = summary.metrics.get("cached_tokens"), summary.metrics.get("input_tokens")
    shares_prefixes = workload.shared_prefix_tokens > 0 or workload.turns > 1
    if cached and total and not shares_prefixes and cached / total > CACHED_SHARE:
        yield Verdict(name="prefix_cached", severity="fatal", detail=f"{cached / total:.0%} of the prompt tokens came"
                      " from the engine's prefix cache, though no two prompts share anything")


def _lengths(summary: Summary, workload: Workload) -> Iterator[Verdict]:
    free = workload.json_schema is not None or workload.tools is not None  # the model ends its answers
    for side, share in (("output", LENGTH_SHARE), ("input", INPUT_LENGTH_SHARE))[free:]:
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


def _drift(requests: pl.DataFrame) -> Iterator[Verdict]:
    ok = requests.filter((pl.col("phase") == "measured") & (pl.col("outcome") == "ok")).sort("sent_ns")
    if ok.height < 2 * SAMPLES["p95"]:
        return
    half = ok.height // 2
    first, second = (latencies(part)["tpot_ms"].median() for part in (ok.head(half), ok.tail(half)))
    if isinstance(first, float) and isinstance(second, float) and abs(second / first - 1) > DRIFT_SHARE:
        yield Verdict(name="not_stationary", severity="warning",
                      detail=f"median TPOT went from {first:.1f} to {second:.1f} ms within the point")


def _host(telemetry: pl.DataFrame) -> Iterator[Verdict]:
    used = {source: telemetry.filter((pl.col("source") == source) & (pl.col("metric") == "cpu_percent"))["value"].mean()
            for source in ("host", "engine", "client")}
    host, engine, client = used["host"], used["engine"], used["client"]
    if not isinstance(host, float) or not isinstance(engine, float) or engine == 0:
        return  # a server that dyno did not start: on this machine or not, its share is not known
    other = (host - engine - (client if isinstance(client, float) else 0.0)) / 100
    if other > HOST_BUSY_CORES:
        yield Verdict(name="host_busy", severity="warning",
                      detail=f"{other:.1f} cores were busy with something else while this was measured")
