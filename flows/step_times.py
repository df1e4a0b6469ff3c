"""From measured points to an engine that can be simulated: its step times, how it schedules; and a point replayed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from models.errors import UserError
from models.planning import outcome, step_fit
from models.planning.simulation import Scheduling, open_loop
from models.planning.step_fit import Fitted, Seen
from models.planning.steps import Prefill
from models.records import EngineRun, Measurement
from models.specs import Setup
from warehouse import reader

MADE = """An experiment file with these lines gives such points (dyno evaluate FILE):
  load: {concurrency: [1, 4, 16], requests: 60}"""
LLAMA_SERVER_SLOTS, LLAMA_BATCH_TOKENS = 4, 2048
"""What llama-server takes where a setup says nothing and it did not tell."""
BEGUN = pl.col("first_token_ns").is_not_null() & (pl.col("chunk_ns").list.len() > 0)
"""Also what the load generator broke off at the end: it kept the engine busy until then."""


@dataclass(frozen=True)
class Point:
    """One measured point: what was asked and came of it, and its requests (models.frames.REQUESTS)."""

    measurement: Measurement
    requests: pl.DataFrame

    @property
    def closed(self) -> bool:
        return self.measurement.trial.load.concurrency is not None

    def seen(self) -> Seen:
        """Its requests whose answers began, of all phases. Tokens of a prompt that were in the prefix cache were not
        computed."""
        ok = self.requests.filter(BEGUN)
        tokens = pl.when(pl.col("outcome") == "ok").then("output_tokens").fill_null(pl.col("chunk_ns").list.len())
        prompt = pl.col("input_tokens").fill_null(pl.col("input_tokens_planned")) - pl.col("cached_tokens").fill_null(0)
        sent, first, last = (_seconds(ok[name]) for name in ("sent_ns", "first_token_ns", "last_token_ns"))
        stamps = ok["chunk_ns"].to_list()
        chunks = tuple(at + np.asarray(one, float) / 1e9 for at, one in zip(sent, stamps, strict=True))
        load = self.measurement.trial
        return Seen(f"{load.workload.label}, {load.load.label}", sent, first, last,
                    np.maximum(1.0, ok.select(prompt).to_series().to_numpy().astype(float)),
                    np.maximum(1.0, ok.select(tokens).to_series().to_numpy().astype(float)), chunks)


def _seconds(stamps: pl.Series) -> npt.NDArray[np.float64]:
    return np.asarray(stamps.to_numpy().astype(float) / 1e9)


def points(home: Path, setup: str) -> list[Point]:
    """Returns the trusted points of the setup whose id begins with `setup`, from the warehouse.

    Raises UserError where no or several setups begin so, or nothing was measured, with the way out.
    """
    known = reader.query(home, "select distinct setup_id, setup from measurements order by setup").rows()
    found = [(one, label) for one, label in known if one.startswith(setup.strip().lower())] if setup.strip() else []
    if len(found) != 1:
        listed = "\n".join(f"  {one}  {label}" for one, label in (found or known)[:20])
        what = f"is the start of {len(found)} setups" if found else "is no measured setup; there are"
        raise UserError(f"setup: {setup!r} {what}\n{listed}\n{'' if found else MADE}".rstrip())
    rows = reader.query(home, """select measurement from trials join measurements using (trial_id)
                                 where measurements.setup_id = ? and not fatal order by trial_id""", [found[0][0]])
    measured = [Measurement.model_validate_json(text) for text in rows["measurement"]]
    if not measured:
        raise UserError(f"setup: no trusted point of {found[0][1]} ({found[0][0]}) was measured.\n{MADE}")
    return [Point(one, reader.requests(home, one.trial_id)) for one in measured]


def fitted(chosen: Sequence[Point]) -> Fitted:
    """Step times of the points of one setup. Raises UserError where they show none."""
    return step_fit.fit([one.seen() for one in chosen], scheduling(chosen[0].measurement).prefill)


def scheduling(measurement: Measurement) -> Scheduling:
    """How the engine that was measured forms its steps: as it told, else as the setup asked, else by its defaults."""
    setup, run = measurement.trial.setup, measurement.run
    engine, batching = setup.engine.engine, setup.engine.batching
    slots = batching.max_sequences or _told(run, "sequences", "max_num_seqs", "max_running_requests")
    tokens = batching.max_batched_tokens or _told(run, "batch_tokens", "max_num_batched_tokens", "max_prefill_tokens")
    chunk = batching.prefill_chunk_tokens or _told(run, "chunked_prefill_size")
    if engine == "llama_cpp":
        server = run.variant != "llama_cpp.server"
        slots = (slots or LLAMA_SERVER_SLOTS) if server else 1
        tokens = tokens or LLAMA_BATCH_TOKENS
    first: Prefill = "first" if engine in ("sglang", "tgi") else "mixed"
    return Scheduling(slots=slots, step_tokens=tokens, chunk_tokens=chunk, kv_tokens=run.kv_cache_tokens, prefill=first,
                      kv_full="preempts" if engine in ("vllm", "sglang") else "waits")


def _told(run: EngineRun, *names: str) -> int | None:
    values = (run.settings.get(name) for name in names)
    return next((one for one in values if isinstance(one, int) and not isinstance(one, bool) and one > 0), None)


def context_tokens(point: Point) -> int | None:
    """Longest sequence that the setup takes."""
    setup: Setup = point.measurement.trial.setup
    return point.measurement.run.context_tokens or setup.engine.batching.context_tokens


def replayed(point: Point, found: Fitted) -> dict[str, float]:
    """What the simulation says of a measured open loop whose requests come when these were meant to, with their very
    lengths: models.planning.outcome.metrics of the measured phase."""
    planned = pl.col("planned_ns").is_not_null() & (pl.col("outcome") != "unsent")
    plan = point.requests.filter(planned).sort("planned_ns")
    inputs = plan["input_tokens"].fill_null(plan["input_tokens_planned"]).to_numpy()
    answered = plan["output_tokens"].zip_with(plan["outcome"] == "ok", plan["output_tokens_planned"])
    how = scheduling(point.measurement)
    run = open_loop(found.times, how, _seconds(plan["planned_ns"]), inputs.astype(int),
                    np.maximum(1, answered.fill_null(plan["output_tokens_planned"]).to_numpy().astype(int)))
    measured = ((plan["phase"] == "measured") & (plan["outcome"] == "ok")).to_numpy()
    return outcome.metrics(run, how.slots, how.kv_tokens, measured)


COMPARED = (("ttft_ms_p50", "ttft_from_schedule_ms_p50"), ("ttft_ms_p95", "ttft_from_schedule_ms_p95"),
            ("tpot_ms_p50", "tpot_ms_p50"), ("tpot_ms_p95", "tpot_ms_p95"), ("e2e_ms_p95", "e2e_from_schedule_ms_p95"),
            ("output_tokens_per_second", "output_tokens_per_second"))
"""Names of a simulation's metrics, and of a measurement's."""


def compared(simulated: dict[str, float], measured: dict[str, Any]) -> list[dict[str, float | str]]:
    """Rows of metric, simulated, measured and error (a share), of what both have."""
    return [{"metric": ours, "simulated": simulated[ours], "measured": float(measured[theirs]),
             "error": simulated[ours] / float(measured[theirs]) - 1}
            for ours, theirs in COMPARED if ours in simulated and measured.get(theirs)]
