"""All that is known when a question is asked: what was measured, what that costs, what engines can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field, ValidationError

from models.capabilities import Capability
from models.identity import Record
from models.planning.points import CurveQuantity

if TYPE_CHECKING:
    from models.planning.curves import Fit
    from models.specs import Architecture


class Point(NamedTuple):
    """One measured trial; not a Record, as there may be tens of thousands. Rates are a second, of the whole deployment;
    tokens are means of a request.

    values: latencies by the columns of `measurements` (`ttft_from_schedule_ms_p95`), ms. intervals: 95 %, of these and
    of requests_per_second; an end is None where it is not known.
    """

    trial_id: str
    concurrency: int | None = None
    request_rate: float | None = None
    requests_per_second: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    trust: str = "ok"
    fatal: bool = False
    values: Mapping[str, float] = MappingProxyType({})
    intervals: Mapping[str, tuple[float | None, float | None]] = MappingProxyType({})


class Machine(Record):
    """Hardware that something was measured on. The bandwidth was measured, where it was."""

    hardware_id: str
    name: str
    kind: str
    accelerator: str | None = None
    accelerators: int = 0
    accelerator_memory_gib: int | None = None
    cores: int | None = None
    memory_gib: int | None = None
    memory_bandwidth_gb_s: float | None = None

    @property
    def label(self) -> str:
        """`NVIDIA H100`, `2 × NVIDIA H100`, or the machine's name."""
        if not self.accelerator:
            return self.name
        return f"{self.accelerators} × {self.accelerator}" if self.accelerators > 1 else self.accelerator


class Stack(Record):
    """A setup: what one launch of an engine has. kl_nats: divergence from the unquantised model, None: not asked."""

    setup_id: str
    setup: str = Field(description="label for people, without model and hardware")
    model: str
    engine: str
    variant: str | None = None
    engine_version: str
    quantization: str
    kv_type: str = "f16"
    max_sequences: int | None = None
    tensor_parallel: int | None = None
    prefix_caching: bool = False
    runtime: str = "venv"
    hardware_id: str
    kl_nats: float | None = None
    kl_of_random_weights: bool = False

    @property
    def server(self) -> str:
        """Name of the engine, or of its server where it has several."""
        return self.variant or self.engine


@dataclass(frozen=True)
class Curve:
    """A setup under one workload: its points, by load, and the newest calibration as JSON by quantity. workload is a
    label: the workload's name, and its scale when that is not 1."""

    stack: Stack
    workload: str
    workload_name: str
    points: tuple[Point, ...] = ()
    fits_json: Mapping[CurveQuantity, str] = field(default_factory=dict)

    def fit(self, quantity: CurveQuantity) -> Fit | None:
        """The calibrated curve; None where there is none."""
        text = self.fits_json.get(quantity)
        return _fit(text) if text else None


class PriceOf(Record):
    """A price that applies to a machine, for all of it. choice 1 is used where no tier is named."""

    hardware_id: str
    price_usd_per_hour: float
    tier: str
    date: str
    source: str
    region: str | None = None
    given: bool = False
    choice: int = 1


class Observed(Record):
    """What an engine's server was seen to do: of `asked` answers or trials, a share was as it should be."""

    engine: str
    variant: str | None = None
    feature: Literal["structured_output", "tool_calls", "prefix_caching", "continuous_batching", "openai_api"]
    trials: int
    share: float | None = None
    trial_id: str = Field(description="one that shows it")
    about: str = ""

    @property
    def server(self) -> str:
        """Name of the engine, or of its server where it has several."""
        return self.variant or self.engine


class Evidence(Record):
    """What choose() answers from. curves are of the models read; models (with their sizes), workloads and machines
    are all that the warehouse holds, so that a misspelt name can be told the known ones."""

    models: dict[str, int | None] = Field(default_factory=dict)
    workloads: dict[str, str] = Field(default_factory=dict, description="names by label")
    machines: tuple[Machine, ...] = ()
    curves: tuple[Curve, ...] = ()
    prices: tuple[PriceOf, ...] = ()
    capabilities: tuple[Capability, ...] = ()
    observed: tuple[Observed, ...] = ()
    shapes: dict[str, dict[str, Any]] = Field(default_factory=dict, description="as stored, by model: see shape()")

    def machine(self, hardware_id: str) -> Machine:
        """The machine of a setup. Raises KeyError."""
        return self._machines[hardware_id]

    def shape(self, model: str) -> Architecture | None:
        """A model's shape; None where it was stored without all of it."""
        from models.specs import Architecture  # an answer of what was measured asks no shape

        known = {k: v for k, v in self.shapes.get(model, {}).items() if k in Architecture.model_fields}
        try:
            return Architecture.model_validate(known)
        except ValidationError:
            return None

    @cached_property
    def _machines(self) -> dict[str, Machine]:
        return {m.hardware_id: m for m in self.machines}

    def can(self, server: str) -> Sequence[Capability]:
        """What is known of a server's abilities; empty where nothing is."""
        return [c for c in self.capabilities if (c.variant or c.engine) == server]


@lru_cache(4096)
def _fit(text: str) -> Fit:
    from models.planning.curves import Fit  # NumPy: who only reads evidence does not wait for it

    return Fit.model_validate_json(text)
