"""Mean lengths of a standard workload's requests."""

from __future__ import annotations

from models.specs import Load
from workloads import catalogue, schedule

REQUESTS = 1000
"""Planned for the mean; none is sent."""


def means(workload: str) -> tuple[float, float] | None:
    """Returns mean tokens of a prompt and of an answer; None where no standard workload has that name."""
    if workload not in catalogue.names():
        return None
    planned = schedule.plan(catalogue.load(workload), Load(concurrency=1, requests=REQUESTS), 0).requests
    inputs, outputs = (planned[f"{side}_tokens_planned"].to_list() for side in ("input", "output"))
    return sum(inputs) / len(inputs), sum(outputs) / len(outputs)
