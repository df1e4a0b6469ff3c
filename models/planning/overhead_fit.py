"""Fits what vLLM keeps beside weights and cache on start-up logs: the constants of models/data/overheads.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import numpy as np
from pydantic import Field
from scipy.optimize import least_squares

from models.identity import Record
from models.planning.overheads import GIB, Overheads, Tier, expert_bytes
from models.specs import Architecture

_STEP = Tier(batched_tokens=8192, sequences=1024)


class Logged(Record):
    """One start of vLLM, as its log tells it: bytes of one GPU."""

    model: str
    architecture: Architecture
    quantization: str
    kv_type: str = "f16"
    gpus: int = Field(gt=0)
    context_tokens: int = Field(gt=0)
    utilisation: float
    memory_bytes: float
    weights_bytes: float
    activation_bytes: float
    non_torch_bytes: float
    kv_bytes: float
    kv_tokens: float
    max_concurrency: float

    @property
    def overheads(self) -> Overheads:
        """Those of this very run. CUDA graphs, which are captured later, are not taken off the pool at 0.19."""
        return Overheads(activation_bytes=self.activation_bytes, non_torch_bytes=self.non_torch_bytes,
                         source="the run's own log")


class Constants(Record):
    """logit_copies and activation as in models.planning.overheads.Rule, non_torch by whether GPUs share the model."""

    logit_copies: float
    activation_bytes: float
    non_torch_bytes: float
    non_torch_shared_bytes: float

    def overheads(self, shape: Architecture, gpus: int, step: Tier = _STEP) -> Overheads:
        """On one GPU."""
        activation = (self.logit_copies * step.sequences * shape.vocabulary * 4 + self.activation_bytes
                      + expert_bytes(shape, step.batched_tokens, gpus))
        return Overheads(activation_bytes=max(activation, 0.0), source="fitted",
                         non_torch_bytes=self.non_torch_bytes if gpus == 1 else self.non_torch_shared_bytes)


def fit(runs: Sequence[Logged], step: Tier = _STEP) -> Constants:
    """activation = copies × sequences × vocabulary × 4 + constant + what experts keep, in relative error, soft L1;
    non-torch memory is a median. `step`: how much was computed at once. Raises ValueError with fewer than two runs."""
    if len(runs) < 2:
        raise ValueError("at least two runs to fit on")
    logits = np.array([step.sequences * r.architecture.vocabulary * 4 for r in runs], float) / GIB
    experts = np.array([expert_bytes(r.architecture, step.batched_tokens, r.gpus) for r in runs]) / GIB
    logged = np.array([r.activation_bytes for r in runs]) / GIB
    found = least_squares(lambda c: (c[0] * logits + c[1] + experts) / logged - 1, [4.0, 0.1], loss="soft_l1",
                          f_scale=0.05).x
    alone = [r.non_torch_bytes for r in runs if r.gpus == 1] or [0.0]
    shared = [r.non_torch_bytes for r in runs if r.gpus > 1] or alone
    return Constants(logit_copies=float(found[0]), activation_bytes=float(found[1]) * GIB,
                     non_torch_bytes=median(alone), non_torch_shared_bytes=median(shared))


def left_out(runs: Sequence[Logged], step: Tier = _STEP) -> list[Overheads]:
    """The overheads of each run, by constants fitted on the runs of all other shapes. Raises ValueError as above."""
    return [fit([r for r in runs if r.architecture != run.architecture], step)
            .overheads(run.architecture, run.gpus, step) for run in runs]
