"""The vocabulary of what is measured: model, engine, hardware, workload, load, and the setups and trials made of them.

Records are frozen and validated; a content hash of their canonical JSON is their identity, so the same
question asked twice is the same trial.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Api = Literal["completions", "chat", "tgi", "llama_cpp"]
"""OpenAI's two, TGI's own /generate_stream, llama.cpp's own /completion."""
Identifier = Annotated[str, Field(min_length=1, max_length=200)]


class Record(BaseModel):
    """A frozen value; unknown fields are errors, so a misspelt setting is never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    not_identity: ClassVar[frozenset[str]] = frozenset()
    """Fields that describe without changing what is measured."""


def _identity(value: object) -> object:
    if isinstance(value, Record):
        fields = {k: getattr(value, k) for k in type(value).model_fields if k not in value.not_identity}
        return {k: _identity(v) for k, v in fields.items() if v is not None}
    if isinstance(value, tuple | list):
        return [_identity(v) for v in value]
    return value


def content_id(value: Record) -> str:
    """Returns 16 hexadecimal digits of SHA-256 over canonical JSON: keys sorted, None fields and descriptions left out,
    so a field added later with a None default does not rename what was measured before."""
    text = json.dumps(_identity(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Architecture(Record):
    """The shape of a decoder-only transformer, as far as memory and time depend on it."""

    family: str = "llama"
    layers: int = Field(gt=0)
    hidden_size: int = Field(gt=0)
    heads: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    vocabulary: int = Field(gt=0)
    parameters: int = Field(gt=0)
    tied_embeddings: bool = True
    context_tokens: int = Field(gt=0, description="the longest sequence the model was made for")


class ModelSpec(Record):
    """A model by name, and where its weights come from.

    source: `synthetic` (random weights at a named shape, made here), `file` (a checkpoint on this disk) or
    `hub` (a Hugging Face repository, pinned to a revision). `content` identifies the weights: a recipe version, a
    file's SHA-256 or the revision.
    """

    not_identity = frozenset({"path"})

    name: Identifier
    source: Literal["synthetic", "file", "hub", "served"] = "synthetic"
    path: str | None = None
    repository: str | None = None
    file: str | None = None
    revision: str | None = None
    content: str | None = None
    architecture: Architecture | None = None


class Batching(Record):
    """How an engine may batch. None leaves the engine's default, and the run records what it resolved to."""

    max_sequences: int | None = Field(default=None, gt=0, description="sequences decoded together (slots)")
    max_batched_tokens: int | None = Field(default=None, gt=0, description="tokens in one forward pass")
    prefill_chunk_tokens: int | None = Field(default=None, gt=0)
    prefix_caching: bool = Field(default=False, description="off unless asked: it silently inflates repeats")
    context_tokens: int | None = Field(default=None, gt=0, description="longest sequence, prompt and output")
    memory_fraction: float | None = Field(default=None, gt=0, le=1)
    tensor_parallel: int = Field(default=1, gt=0)
    threads: int | None = Field(default=None, gt=0)


class EngineSpec(Record):
    """An engine as launched. `variant` names one of the servers an engine ships; `runtime` says how it is provisioned:
    `venv` (built or installed into dyno's cache), `path` (a binary already here), `endpoint` (serves at `url`)."""

    engine: Identifier
    variant: str | None = None
    version: str | None = None
    quantization: Identifier = "F16"
    kv_type: Identifier = "f16"
    batching: Batching = Batching()
    runtime: Literal["venv", "path", "docker", "kubernetes", "endpoint"] = "venv"
    path: str | None = None
    url: str | None = None
    extra_args: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name for people: the variant where an engine has several servers."""
        return self.variant or self.engine


class HardwareSpec(Record):
    """What a setup runs on, as far as it decides speed. Measured properties (bandwidth) are no part of its identity."""

    name: Identifier
    kind: Literal["cpu", "cuda", "rocm", "metal", "remote"] = "cpu"
    cpu: str | None = None
    cores: int | None = None
    memory_gib: int | None = None
    accelerator: str | None = None
    accelerators: int = 0
    accelerator_memory_gib: int | None = None

    @property
    def hardware_id(self) -> str:
        return content_id(self)


class Lengths(Record):
    """A distribution of token counts: `fixed` (mean), `lognormal` (mu, sigma of the logarithm) or `uniform` (min..max).
    Draws are cut to [min, max]."""

    distribution: Literal["fixed", "lognormal", "uniform"] = "fixed"
    mean: float | None = Field(default=None, gt=0)
    mu: float | None = None
    sigma: float | None = Field(default=None, ge=0)
    min: int = Field(default=1, ge=1)
    max: int = Field(default=1_000_000, ge=1)

    @model_validator(mode="after")
    def _complete(self) -> Lengths:
        needs = {"fixed": ("mean",), "lognormal": ("mu", "sigma"), "uniform": ()}[self.distribution]
        missing = [n for n in needs if getattr(self, n) is None]
        if missing:
            raise ValueError(f"a {self.distribution} distribution needs {', '.join(missing)}")
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class Trace(Record):
    """A file of requests that were really made: when each came, its lengths, which prompt blocks it shares with others.

    `mooncake` is JSONL (timestamp in ms, input_length, output_length, hash_ids of blocks of `block_tokens`), `azure` is
    CSV (TIMESTAMP, ContextTokens, GeneratedTokens). The contents identify it, wherever it lies.
    """

    not_identity = frozenset({"path"})

    path: str
    sha256: str
    format: Literal["mooncake", "azure"]
    block_tokens: int = Field(default=512, gt=0)
    requests: int = Field(gt=0, description="rows in the file")
    request_rate: float = Field(gt=0, description="requests a second, mean over the file")


class Workload(Record):
    """What is asked: lengths in tokens, shared prefix, turns. `source` says whose traffic it is drawn from.

    A scale below one shortens the lengths so that a small machine can run the same shape. With a `trace` the lengths
    are the trace's own, in its order. With a `json_schema` or `tools` the answer ends where the model ends it, at
    output_tokens at the latest, and is checked for validity.
    """

    not_identity = frozenset({"description", "source"})

    name: Identifier
    description: str = ""
    source: str = ""
    input_tokens: Lengths
    output_tokens: Lengths
    shared_prefix_tokens: int = Field(default=0, ge=0, description="system prompt common to every session")
    turns: int = Field(default=1, ge=1, description="requests a session; each carries the turns before it")
    think_time_s: float = Field(default=0.0, ge=0, description="pause between the turns of a session")
    input_scale: float = Field(default=1.0, gt=0)
    output_scale: float = Field(default=1.0, gt=0)
    api: Api = "completions"
    trace: Trace | None = None
    json_schema: dict[str, object] | None = Field(default=None, description="answers must be JSON that obeys this")
    tools: tuple[dict[str, object], ...] | None = Field(default=None, description="functions; answers must call one")
    offline: bool = Field(default=False, description="a batch job: latency does not matter, throughput does")

    @property
    def label(self) -> str:
        """`chat`, or `chat ×0.11/0.3` when scaled."""
        if self.input_scale == self.output_scale == 1:
            return self.name
        if self.input_scale == self.output_scale:
            return f"{self.name} ×{self.input_scale:g}"
        return f"{self.name} ×{self.input_scale:g}/{self.output_scale:g}"


class Load(Record):
    """How hard: a closed loop (`concurrency` users, each waiting for its answer) or an open one (`request_rate` a
    second, whether or not the engine keeps up). `requests` are measured; warm-up ones come before and are left out."""

    concurrency: int | None = Field(default=None, gt=0)
    request_rate: float | None = Field(default=None, gt=0, description="requests a second")
    arrivals: Literal["poisson", "constant", "gamma"] = "poisson"
    burstiness: float = Field(default=1.0, gt=0, description="coefficient of variation of gamma arrivals' gaps")
    requests: int = Field(default=64, gt=0)
    warmup_requests: int | None = Field(default=None, ge=0)
    timeout_s: float = Field(default=120.0, gt=0, description="deadline of one request")
    duration_s_max: float = Field(default=600.0, gt=0, description="no new request is sent after this")
    precision: float | None = Field(default=None, gt=0, lt=1, description="half-width of the intervals, relative")

    @model_validator(mode="after")
    def _one_loop(self) -> Load:
        if (self.concurrency is None) == (self.request_rate is None):
            raise ValueError("give either concurrency (closed loop) or request_rate (open loop)")
        return self

    @property
    def label(self) -> str:
        """`4 at once` or `2.5 a second`."""
        return f"{self.concurrency} at once" if self.concurrency else f"{self.request_rate:g} a second"


class Setup(Record):
    """What one launch of an engine has."""

    model: ModelSpec
    engine: EngineSpec
    hardware: HardwareSpec

    @property
    def setup_id(self) -> str:
        return content_id(self)

    @property
    def label(self) -> str:
        """`llama-server Q8_0, 4 sequences`."""
        n = self.engine.batching.max_sequences
        tail = f", {n} sequence{'s' if n != 1 else ''}" if n else ""
        return f"{self.engine.label} {self.engine.quantization}{tail}"


class Trial(Record):
    """One point to be measured: a setup under one workload and load, with its seed and repeat."""

    setup: Setup
    workload: Workload
    load: Load
    seed: int = 0
    repeat: int = Field(default=0, ge=0)

    @property
    def trial_id(self) -> str:
        return content_id(self)

    @property
    def label(self) -> str:
        return f"{self.setup.label} · {self.workload.label} · {self.load.label}"


class Price(Record):
    """What an hour of some hardware costs; never without its date, tier and source."""

    hardware: str = Field(description="a hardware name or accelerator this price is for")
    price_usd_per_hour: float = Field(ge=0)
    tier: str = "on-demand"
    date: str = Field(pattern=r"^\d{4}-\d{2}(-\d{2})?$")
    source: Identifier
    region: str | None = None

    @field_validator("price_usd_per_hour")
    @classmethod
    def _sane(cls, value: float) -> float:
        if value > 10_000:
            raise ValueError("above 10 000 USD an hour: is that cents, or a month?")
        return value
