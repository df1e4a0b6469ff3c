"""`dyno plan simulate`: a workload at a rate, over hours or a day, on an engine known by its step times."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flows import step_times
from flows.step_times import Point
from models.errors import UserError
from models.planning import outcome, traffic
from models.planning.profile import Profile
from models.planning.simulation import Scheduling, closed_loop, open_loop
from models.planning.step_fit import Fitted
from models.planning.steps import StepTimes
from models.planning.traffic import Arrivals
from models.progress import Progress, silent
from models.specs import Workload
from workloads import catalogue, schedule

REQUESTS_MAX = 5_000_000
SAME_RATE = 0.02
"""Two rates within this share of one another are the same point."""
OVERLOADED = 0.05
"""Of all requests, waiting when the last one comes: the queue grew all along."""


@dataclass(frozen=True)
class Question:
    """What is asked: a workload that comes at `rate` requests a second (mean), or from so many `users`, for duration_s.

    limits: what the person says of the engine's scheduling, over what was measured.
    """

    workload: Workload
    duration_s: float
    rate: float | None = None
    users: int | None = None
    arrivals: Arrivals = "poisson"
    burstiness: float = 1.0
    profile: Profile | None = None
    seed: int = 0
    limits: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What the simulation says; `fitted` is None where the step times were given. measured: rows of the point itself,
    where the warehouse has it (it was then left out of the fit)."""

    times: StepTimes
    scheduling: Scheduling
    fitted: Fitted | None
    metrics: dict[str, float]
    timeline: list[dict[str, float]]
    measured: list[dict[str, float | str]]
    trial_ids: tuple[str, ...]
    notes: tuple[str, ...]

    def flat(self) -> dict[str, object]:
        """One object for --json."""
        return {"level": "simulated", "metrics": self.metrics, "measured": self.measured, "timeline": self.timeline,
                "step_times": self.times.model_dump(), "scheduling": self.scheduling.model_dump(),
                "fit": self.fitted.model_dump() if self.fitted else None, "trial_ids": self.trial_ids,
                "notes": self.notes}


def of_setup(home: Path, setup: str, question: Question, progress: Progress = silent) -> Answer:
    """Fits the setup's step times on its measured points (but the one that is asked for) and simulates the question.

    Raises UserError where the setup has no points but that one, with the experiment that would give them.
    """
    progress("reading measured points")
    every = step_times.points(home, setup)
    same = [one for one in every if _asked(one, question)]
    others = [one for one in every if one not in same]
    if not others:
        raise UserError("setup: the only measured point is the one asked for: nothing to fit step times on.\n"
                        + step_times.MADE)
    progress("fitting step times")
    found = step_times.fitted(others)
    how = step_times.scheduling(others[0].measurement).model_copy(update=question.limits)
    answer = given(found.times, how, question, progress, step_times.context_tokens(others[0]))
    rows = [row for one in same for row in step_times.compared(answer.metrics, one.measurement.summary.metrics)]
    trial_ids = tuple(one.measurement.trial_id for one in others)
    return Answer(answer.times, how, found, answer.metrics, answer.timeline, rows, trial_ids,
                  (*found.notes, *answer.notes))


def given(times: StepTimes, how: Scheduling, question: Question, progress: Progress = silent,
          context_tokens: int | None = None) -> Answer:
    """Simulates the question on an engine of these step times. Raises UserError where it cannot be played."""
    rng = schedule.generator("simulated", question.seed)
    came, count = _arrivals(question, rng)
    workload = question.workload
    inputs = schedule.lengths(workload.input_tokens, workload.input_scale, count, rng)
    inputs += schedule.prefix_tokens(workload)
    outputs = schedule.lengths(workload.output_tokens, workload.output_scale, count, rng)
    notes = list(_unlike(workload))
    if context_tokens is not None and (over := int((inputs + outputs > context_tokens).sum())):
        fit = inputs + outputs <= context_tokens
        inputs, outputs, came = inputs[fit], outputs[fit], None if came is None else came[fit]
        notes.append(f"{over} of {count} requests are longer than the context of {context_tokens} tokens, which the"
                     " engine refuses: left out")
    if not len(inputs):
        raise UserError("workload: no request fits into the context; make it shorter with --scale")
    progress(f"simulating {len(inputs)} requests")
    run = (closed_loop(times, how, question.users or 1, inputs, outputs) if came is None else
           open_loop(times, how, came, inputs, outputs))
    metrics = outcome.metrics(run, how.slots, how.kv_tokens)
    waiting = int((run.admitted_s > run.arrived_s[-1]).sum())
    if came is not None and waiting > max(2 * (how.slots or 0), OVERLOADED * len(came)):
        notes.append(f"the engine does not keep up: {waiting} requests waited when the last one came, so that times to"
                     " first token depend on the duration")
    return Answer(times, how, None, metrics, outcome.timeline(run), [], (), tuple(notes))


def workload(options: dict[str, Any]) -> Workload:
    """The workload that a person named, or one of fixed lengths. Raises UserError for an unknown name."""
    scales = {side: options[f"{side}_scale"] or options["scale"] or 1.0 for side in ("input", "output")}
    if options["workload"]:
        return catalogue.load({"name": options["workload"], "scale": scales})
    return catalogue.load({"name": "fixed", "scale": scales, "input_tokens": options["input_tokens"],
                           "output_tokens": options["output_tokens"]})


def _arrivals(question: Question, rng: np.random.Generator) -> tuple[Any, int]:
    """Instants (None in a closed loop), and how many requests there are."""
    if (question.rate is None) == (question.users is None):
        raise UserError("rate, users: give either a rate (open loop) or users (closed loop)")
    if question.users is not None:
        return None, max(200, 40 * question.users)
    expected = (question.rate or 0) * question.duration_s
    if not math.isfinite(expected) or expected > REQUESTS_MAX:
        raise UserError(f"rate, duration: {expected:.3g} requests are more than {REQUESTS_MAX:,}".replace(",", " ")
                        + ": simulate a shorter time")
    came = traffic.arrivals(question.rate or 0, question.duration_s, rng, question.arrivals, question.burstiness,
                            question.profile.weights if question.profile else None)
    if not len(came):
        raise UserError(f"duration: no request comes within {question.duration_s:g} s at {question.rate:g} a second")
    return came, len(came)


def _unlike(workload: Workload) -> list[str]:
    """What of a workload the simulation leaves out."""
    notes = []
    if workload.turns > 1:
        notes.append(f"the {workload.turns} turns of a session are simulated as requests of their own, without what"
                     " earlier turns carry along")
    if workload.shares_prefixes:
        notes.append("a prefix cache is not simulated: every prompt is computed whole")
    if workload.trace:
        notes.append("lengths and arrivals are drawn, not the trace's own")
    return notes


def _asked(point: Point, question: Question) -> bool:
    """Whether a measured point is the one that is asked for."""
    trial = point.measurement.trial
    if trial.workload.label != question.workload.label or trial.load.request_rate_end is not None:
        return False
    if question.users is not None:
        return trial.load.concurrency == question.users
    rate = trial.load.request_rate
    return rate is not None and abs(rate / (question.rate or math.inf) - 1) <= SAME_RATE
