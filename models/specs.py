"""The vocabulary of what is measured: model, engine, hardware, workload, load, and the setups and trials made of them.

Records are frozen and validated; a content hash of their canonical JSON is their identity, so the same
question asked twice is the same trial.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from models.asked import Api as Api
from models.asked import Lengths as Lengths
from models.asked import Load as Load
from models.asked import Trace as Trace
from models.asked import Workload as Workload
from models.identity import Identifier as Identifier
from models.identity import Record as Record
from models.identity import content_id as content_id


class Architecture(Record):
    """The shape of a decoder-only transformer, as far as memory and time depend on it.

    What is None by default applies to some models only (None: it has none of it) and was not always known: it is no
    part of an identity, which the content of the weights decides.
    """

    not_identity = frozenset({
        "kv_lora_rank", "qk_rope_head_dim", "index_dim", "sliding_window_tokens", "sliding_layers", "kvless_layers",
        "state_bytes_per_sequence", "kv_values_per_layer", "sliding_kv_values_per_layer", "experts",
        "experts_per_token", "shared_experts", "expert_intermediate_size", "dense_layers", "active_parameters"})

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
    kv_lora_rank: int | None = Field(default=None, description="latent attention (MLA): size of the vector that stands"
                                     " for all keys and values of a token and layer; kv_heads × head_dim is half of it")
    qk_rope_head_dim: int | None = Field(default=None, description="MLA: size of the key with positions, kept beside")
    index_dim: int | None = Field(default=None, description="sparse attention: of the 8-bit key that its index keeps")
    sliding_window_tokens: int | None = Field(default=None, description="that a sliding or chunked layer looks back")
    sliding_layers: int | None = None
    kvless_layers: int | None = Field(default=None, description="layers that keep no keys and values: linear attention,"
                                      " Mamba, or none at all")
    state_bytes_per_sequence: int | None = Field(default=None, description="that these keep instead, at any length")
    kv_values_per_layer: int | None = Field(default=None, description="numbers kept for a token and full layer, where"
                                            " it is not 2 · kv_heads · head_dim")
    sliding_kv_values_per_layer: int | None = Field(default=None, description="the same of a sliding layer")
    experts: int | None = Field(default=None, description="routed experts of a layer")
    experts_per_token: int | None = Field(default=None, description="of these, that a token passes")
    shared_experts: int | None = Field(default=None, description="that every token passes, as multiples of a routed"
                                       " one's size")
    expert_intermediate_size: int | None = None
    dense_layers: int | None = Field(default=None, description="layers without experts, of a model with experts")
    active_parameters: int | None = Field(default=None, description="weights that a token is multiplied with, of a"
                                          " model with experts")


class ModelSpec(Record):
    """A model by name, and where its weights come from.

    source: `synthetic` (random weights at a named shape, made here), `file` (a checkpoint on this disk) or
    `hub` (a Hugging Face repository, pinned to a revision). `content` identifies the weights: a recipe version, a
    file's SHA-256 or the revision.
    """

    not_identity = frozenset({"path", "quantization"})  # of the same content there is one quantisation only

    name: Identifier
    source: Literal["synthetic", "file", "hub", "served"] = "synthetic"
    path: str | None = None
    repository: str | None = None
    file: str | None = None
    revision: str | None = None
    content: str | None = None
    quantization: str | None = Field(default=None, description="what a Hugging Face folder's weights are stored in")
    architecture: Architecture | None = None

    @property
    def format(self) -> Literal["gguf", "safetensors"] | None:
        """How its weights are stored; None where dyno makes them in whatever format an engine reads."""
        if self.source in ("synthetic", "served"):
            return None
        named = self.file or self.path or ""
        return "gguf" if named.endswith(".gguf") else "safetensors"


class Batching(Record):
    """How an engine may batch. None leaves the engine's default, and the run records what it resolved to."""

    max_sequences: int | None = Field(default=None, gt=0, description="sequences decoded together (slots)")
    max_batched_tokens: int | None = Field(default=None, gt=0, description="tokens in one forward pass")
    prefill_chunk_tokens: int | None = Field(default=None, gt=0, description="of one prompt in one forward pass")
    prefix_caching: bool = Field(default=False, description="off unless asked: it silently inflates repeats")
    context_tokens: int | None = Field(default=None, gt=0, description="longest sequence, prompt and output")
    memory_fraction: float | None = Field(default=None, gt=0, le=1, description="share of the memory that it may take")
    tensor_parallel: int = Field(default=1, gt=0, description="GPUs that share each layer")
    threads: int | None = Field(default=None, gt=0, description="that compute, on a CPU")
    scheduling_policy: Identifier | None = Field(default=None, description="by the engine's own name: fcfs, priority…")


class EngineSpec(Record):
    """An engine as launched. `variant` names one of the servers an engine ships; `runtime` says how it is provisioned:
    `venv` (built or installed into dyno's cache), `path` (a program already here), `docker` and `kubernetes` (`image`,
    or the project's official one), `endpoint` (serves at `url`). kv_type `f16` is 16 bits: the model's own type where
    that is bfloat16."""

    engine: Identifier
    variant: str | None = None
    version: str | None = None
    quantization: Identifier = "F16"
    kv_type: Identifier = "f16"
    batching: Batching = Batching()
    runtime: Literal["venv", "path", "docker", "kubernetes", "endpoint"] = "venv"
    path: str | None = None
    image: str | None = None
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


_SAID = (("max_batched_tokens", "tokens a step"), ("prefill_chunk_tokens", "a prefill chunk"),
         ("memory_fraction", "of the memory"), ("tensor_parallel", "GPUs"))
"""Settings of Batching that a label names where they were set."""


class Setup(Record):
    """What one launch of an engine has."""

    model: ModelSpec
    engine: EngineSpec
    hardware: HardwareSpec

    @property
    def setup_id(self) -> str:
        return content_id(self)

    @property
    def numerics_id(self) -> str:
        """Identifies what decides which numbers come out: the setup, whatever it batches."""
        batching = Batching(tensor_parallel=self.engine.batching.tensor_parallel)
        return content_id(self.model_copy(update={"engine": self.engine.model_copy(update={"batching": batching})}))

    @property
    def label(self) -> str:
        """`llama-server Q8_0, 4 sequences`, and what else of its batching, KV cache and own options was asked for."""
        engine, batching = self.engine, self.engine.batching
        n = batching.max_sequences
        words = [f"{engine.label} {engine.quantization}", f"{n} sequence{'s' if n != 1 else ''}" if n else ""]
        words += [f"KV {engine.kv_type}" if engine.kv_type != "f16" else "",
                  *(f"{value:g} {what}" for name, what in _SAID if (value := getattr(batching, name)) not in (None, 1)),
                  "prefix cache" if batching.prefix_caching else "", batching.scheduling_policy or "",
                  " ".join(engine.extra_args)]
        return ", ".join(filter(None, words))


class Trial(Record):
    """One point to be measured: a setup under one workload and load, with its seed and repeat."""

    setup: Setup
    workload: Workload
    load: Load
    seed: int = 0
    repeat: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _has_gaps(self) -> Trial:
        if self.load.arrivals == "trace" and self.workload.trace is None:
            raise ValueError(f"arrivals: trace needs a workload with a trace; {self.workload.name} has none")
        return self

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
    instance: str | None = Field(default=None, description="the provider's name of the machine it is a part of")
    currency: str | None = Field(default=None, description="that it was quoted in; None: US dollars")
    price_per_hour: float | None = Field(default=None, description="as quoted, in that currency")
    rate_date: str | None = Field(default=None, description="of the exchange rate it was converted at")

    @field_validator("price_usd_per_hour")
    @classmethod
    def _sane(cls, value: float) -> float:
        if value > 10_000:
            raise ValueError("above 10 000 USD an hour: is that cents, or a month?")
        return value
