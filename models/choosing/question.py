"""What somebody who has to run a model asks."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from pydantic import Field, field_validator, model_validator

from models import slo
from models.errors import UserError
from models.identity import Identifier, Record
from models.slo import Limit

KINDS = {"cpu": "cpu", "gpu": "gpu", "nvidia": "cuda", "cuda": "cuda", "amd": "rocm", "rocm": "rocm", "metal": "metal",
         "apple": "metal"}
"""Words that allow a whole kind of hardware, and the kind by dyno's name."""
Environment = Literal["laptop", "container", "kubernetes"]
RUNTIMES: dict[Environment, tuple[str, ...]] = {"laptop": ("venv", "path"), "container": ("docker",),
                                                "kubernetes": ("kubernetes",)}
"""How an engine must be provisionable in each environment: one of these."""
LIMITS = "ttft_ms_p95<=500 tpot_ms_p95<=50"
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([bm])", re.IGNORECASE)


class Question(Record):
    """A model, its traffic, its limits, and what may be used.

    The traffic is a workload (as it is labelled in the warehouse, or its bare name) or mean lengths (which stand for
    the workload where both are given and it was not measured), at a rate or with so many users; with neither of these,
    the cheapest token at full load is looked for. Tuples that are empty allow everything.
    """

    model: Identifier = Field(description="name, or a size such as 8B: models within a quarter of it")
    workload: Identifier | None = None
    input_tokens: float | None = Field(default=None, gt=0, description="mean of a request")
    output_tokens: float | None = Field(default=None, gt=0)
    request_rate: float | None = Field(default=None, gt=0, description="requests a second, of all instances together")
    concurrency: float | None = Field(default=None, gt=0, description="users at once, of all instances together")
    limits: str = LIMITS
    hardware: tuple[Identifier, ...] = Field(default=(), description="machines or accelerators by name, or kinds: cpu,"
                                             " nvidia, amd, metal, gpu")
    needs: tuple[Identifier, ...] = Field(default=(), description="features by name: openai_api, structured_output…")
    environment: Environment | None = None
    kl_nats_max: float | None = Field(default=None, ge=0, description="divergence from the unquantised model allowed")
    budget_usd_per_month: float | None = Field(default=None, gt=0)
    price_tier: Identifier | None = None
    price_factor: float = Field(default=1.0, gt=0, description="what if prices were so many times as high")
    price_factor_on: Identifier | None = Field(default=None, description="of one machine only, by hardware_id")
    down: int = Field(default=0, ge=0, description="instances that may be down while the limits are kept")
    headroom: float = Field(default=0.0, ge=0, lt=10, description="share of the load that must fit on top of it")

    @field_validator("limits")
    @classmethod
    def _readable(cls, value: str) -> str:
        try:
            slo.parse(value)
        except UserError as error:
            raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _one_traffic(self) -> Question:
        if self.request_rate is not None and self.concurrency is not None:
            raise ValueError("give either request_rate (an open loop) or concurrency (users who wait), not both")
        if (self.input_tokens is None) != (self.output_tokens is None):
            raise ValueError("input_tokens and output_tokens go together")
        return self

    @property
    def bounds(self) -> tuple[Limit, ...]:
        """The limits, parsed."""
        return slo.parse(self.limits)

    @property
    def parameters(self) -> float | None:
        """The size asked for: 8e9 of `8B`; None where a model is named."""
        return _size(self.model)

    def means(self, model: str, parameters: int | None) -> bool:
        """Whether a model of that name and size is the one asked for: by its name (its owner may be left out), or by
        its size within a quarter."""
        if (size := self.parameters) is not None:
            return parameters is not None and 0.75 * size <= parameters <= 1.25 * size
        wanted, name = self.model.strip().lower(), model.lower()
        return wanted == name or ("/" not in wanted and wanted == name.rpartition("/")[2])


@lru_cache(256)
def _size(model: str) -> float | None:
    found = _SIZE.fullmatch(model.strip())
    return float(found[1]) * (1e9 if found[2].lower() == "b" else 1e6) if found else None
