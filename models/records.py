"""What comes out of a measurement: the engine as it ran, the summary, the verdicts, the failure."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from models.specs import Record, Setup, Trial

SCHEMA_VERSION = 1


class Endpoint(Record):
    """How to talk to something that serves. Neither the key nor anything else secret is part of it."""

    url: str = Field(description="scheme, host and port, no trailing slash")
    model: str
    completions_path: str = "/v1/completions"
    chat_path: str = "/v1/chat/completions"
    tgi_path: str = "/generate_stream"
    llama_cpp_path: str = "/completion"
    tokenize_path: str | None = None
    tokenize_field: str = Field(default="content", description="name of the text field of a tokenize request")
    body: dict[str, object] = Field(default_factory=dict, description="fields this engine adds to every request")
    fixed_length: dict[str, object] = Field(default_factory=dict, description="fields that forbid the end of an answer"
                                            " before its limit; left out where the model has to find it")
    schema_form: Literal["response_format", "json_schema", "json_object"] = Field(
        default="response_format", description="how OpenAI's APIs take a JSON schema here: as they say; completions in"
        " llama-server's own field; chat in llama_cpp.server's older form")
    usage_in_stream: bool = True
    metrics_path: str | None = None


class EngineRun(Record):
    """One launch: what really ran."""

    engine: str
    variant: str | None
    engine_version: str
    argv: tuple[str, ...]
    environment: dict[str, str] = Field(default_factory=dict, description="what dyno set, secrets left out")
    model_bytes: int | None = Field(default=None, description="bytes of the weights file")
    bits_per_weight: float | None = None
    threads: int | None = None
    context_tokens: int | None = None
    ready_s: float = Field(ge=0, description="process start to first answered token")
    log_file: str = ""
    notes: tuple[str, ...] = ()


class HostInfo(Record):
    """Measured properties of the machine, kept beside its identity."""

    hostname: str = ""
    os: str = ""
    kernel: str = ""
    python: str = ""
    memory_bandwidth_gb_s: float | None = Field(default=None, description="read, all cores; measured")
    load_1m: float | None = None


class Verdict(Record):
    """One judgement on whether a point can be trusted. `fatal` points never feed an answer."""

    name: str
    severity: Literal["note", "warning", "fatal"]
    detail: str


class Summary(Record):
    """Aggregates of one trial. `metrics` maps `ttft_ms_p95`-like names to values; times in ms, rates a second.

    Rates are taken over the window from the first measured request sent to the last one ended, and count every token
    that arrived in it, whichever request it belongs to.
    """

    requests_ok: int
    requests_failed: int
    outcomes: dict[str, int]
    window_s: float
    metrics: dict[str, float]
    intervals: dict[str, tuple[float | None, float | None]] = Field(
        default_factory=dict, description="95% confidence intervals by metric (models.intervals); None: no such bound")


class Measurement(Record):
    """Everything of one trial but its frames: the content of `measurement.json`."""

    schema_version: int = SCHEMA_VERSION
    trial_id: str
    setup_id: str
    trial: Trial
    run: EngineRun
    host: HostInfo
    started_at: str = Field(description="UTC, ISO 8601: the wall-clock anchor of t = 0")
    duration_s: float
    summary: Summary
    verdicts: tuple[Verdict, ...] = ()
    client_cpu_s: float = 0.0
    dyno_version: str = ""
    source: str = Field(default="measured", description="measured here, or imported from …")

    @property
    def trust(self) -> str:
        """`ok`, or the names of the verdicts worth more than a note, worst first."""
        worst = sorted((v for v in self.verdicts if v.severity != "note"), key=lambda v: v.severity != "fatal")
        return ", ".join(v.name for v in worst) or "ok"


class Failure(Record):
    """A launch that failed: data too."""

    schema_version: int = SCHEMA_VERSION
    setup_id: str
    setup: Setup
    failed_at: str
    stage: Literal["build", "checkpoint", "launch", "load"]
    error: str
    command: str = ""
    exit_code: int | None = None
    log_tail: str = ""
