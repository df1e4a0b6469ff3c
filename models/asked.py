"""What is asked of an engine and how hard: lengths, traces, workloads, loads."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from models.identity import Identifier, Record

Api = Literal["completions", "chat", "tgi", "llama_cpp"]
"""OpenAI's two, TGI's own /generate_stream, llama.cpp's own /completion."""


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
    block_tokens: int = Field(default=512, gt=0, description="of a prompt, each with a hash")
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
    shared_prefix_share: float | None = Field(default=None, ge=0, le=1, description="of a session's first prompt: how"
                                              " much of its length is the beginning of one text common to all")
    turns: int = Field(default=1, ge=1, description="requests a session; each carries the turns before it")
    think_time_s: float = Field(default=0.0, ge=0, description="pause between the turns of a session")
    input_scale: float = Field(default=1.0, gt=0)
    output_scale: float = Field(default=1.0, gt=0)
    api: Api = "completions"
    trace: Trace | None = None
    json_schema: dict[str, object] | None = Field(default=None, description="answers must be JSON that obeys this")
    tools: tuple[dict[str, object], ...] | None = Field(default=None, description="functions; answers must call one")
    offline: bool = Field(default=False, description="a batch job: latency does not matter, throughput does")

    @model_validator(mode="after")
    def _consistent(self) -> Workload:
        clash = _clash(self)
        if clash:
            raise ValueError(clash)
        return self

    @property
    def ends_freely(self) -> bool:
        """Whether an answer ends where the model ends it: there is a form to complete. Else all planned tokens come."""
        return self.json_schema is not None or self.tools is not None

    @property
    def shares_prefixes(self) -> bool:
        """Whether an engine's prefix cache may find the beginning of a prompt in an earlier one."""
        return bool(self.shared_prefix_tokens or self.shared_prefix_share or self.turns > 1 or self.tools
                    or (self.trace and self.trace.format == "mooncake"))

    @property
    def label(self) -> str:
        """`chat`, or `chat ×0.11/0.3` when scaled."""
        if self.input_scale == self.output_scale == 1:
            return self.name
        if self.input_scale == self.output_scale:
            return f"{self.name} ×{self.input_scale:g}"
        return f"{self.name} ×{self.input_scale:g}/{self.output_scale:g}"


def _clash(workload: Workload) -> str | None:
    """Returns which fields of a workload contradict one another, and the way out."""
    prefix = workload.shared_prefix_tokens or workload.shared_prefix_share is not None
    trace = workload.trace
    if workload.shared_prefix_tokens and workload.shared_prefix_share is not None:
        return "give either shared_prefix_tokens or shared_prefix_share"
    if trace and (workload.turns > 1 or prefix):
        return "a trace says itself which prompts share what: leave out turns and the shared prefix"
    if trace and trace.format == "mooncake" and trace.block_tokens * workload.input_scale < 1:
        return (f"input_scale {workload.input_scale:g} leaves nothing of the trace's blocks of {trace.block_tokens}"
                f" tokens: {1 / trace.block_tokens:.2g} is the least")
    if workload.tools is not None and not workload.tools:
        return "tools: give at least one function"
    if workload.tools and workload.json_schema is not None:
        return "give either json_schema (the answer is an object) or tools (the answer is a call)"
    if workload.tools and workload.api != "chat":
        return f"tools need api: chat; {workload.api} has none"
    return None


class Load(Record):
    """How hard: a closed loop (`concurrency` users, each waiting for its answer) or an open one (`request_rate` a
    second, whether or not the engine keeps up). `requests` are measured; warm-up ones come before and are left out.

    With a request_rate_end the rate goes to it in a straight line while the measured requests come. Arrivals of a
    `trace` have the gaps of the workload's trace, stretched so that its mean rate is request_rate.
    """

    concurrency: int | None = Field(default=None, gt=0)
    request_rate: float | None = Field(default=None, gt=0, description="requests a second")
    request_rate_end: float | None = Field(default=None, gt=0, description="requests a second, when the last is due")
    arrivals: Literal["poisson", "constant", "gamma", "trace"] = "poisson"
    burstiness: float = Field(default=1.0, gt=0, description="coefficient of variation of gamma arrivals' gaps")
    requests: int = Field(default=64, gt=0)
    warmup_requests: int | None = Field(default=None, ge=0)
    timeout_s: float = Field(default=120.0, gt=0, description="deadline of one request")
    duration_s_max: float = Field(default=600.0, gt=0, description="no new request is sent after this")
    precision: float | None = Field(default=None, gt=0, lt=1, description="half-width of the intervals, relative")
    limits: str | None = Field(default=None, description="of a capacity search: broken off once these are decided")

    @model_validator(mode="after")
    def _one_loop(self) -> Load:
        if (self.concurrency is None) == (self.request_rate is None):
            raise ValueError("give either concurrency (closed loop) or request_rate (open loop)")
        if self.concurrency and self.request_rate_end:
            raise ValueError("request_rate_end is of an open loop: give request_rate, not concurrency")
        if self.concurrency and self.arrivals == "trace":
            raise ValueError("arrivals: trace is of an open loop: give request_rate, or leave arrivals out")
        if self.request_rate_end and self.arrivals == "trace":
            raise ValueError("a trace has its own gaps: give either request_rate_end or arrivals: trace")
        return self

    @property
    def request_rate_mean(self) -> float | None:
        """Requests a second over the measured run; None in a closed loop."""
        if self.request_rate is None or self.request_rate_end is None:
            return self.request_rate
        return (self.request_rate + self.request_rate_end) / 2

    @property
    def label(self) -> str:
        """`4 at once`, `2.5 a second` or `2 → 20 a second`."""
        if self.concurrency:
            return f"{self.concurrency} at once"
        end = f" → {self.request_rate_end:g}" if self.request_rate_end else ""
        return f"{self.request_rate:g}{end} a second"
