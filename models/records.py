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
    schema_form: Literal["response_format", "json_schema", "json_object", "value"] = Field(
        default="response_format", description="how OpenAI's APIs take a JSON schema here: as they say; completions in"
        " llama-server's own field; chat in llama_cpp.server's older form; chat with TGI's name for the schema")
    usage_in_stream: bool = True
    logprobs_form: Literal["completions", "sglang", "tgi"] = Field(
        default="completions", description="how it is asked for the likeliest next tokens (workloads.distributions):"
        " OpenAI's completions, SGLang's /generate, TGI's /generate")
    logprobs_max: int | None = Field(default=None, description="next tokens that it tells at most; None: it tells none")
    logprobs_body: dict[str, object] = Field(default_factory=dict, description="fields added to such a request")
    logprobs_refused: str = Field(default="", description="why it tells none")
    metrics_path: str | None = None
    reset_path: str | None = Field(default=None, description="POST here makes it forget the prompts that it has seen")


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
    kv_cache_tokens: int | None = Field(default=None, description="tokens that the KV cache holds, as the engine says")
    weights_bytes: int | None = Field(default=None, description="of memory that the weights take, as the engine says")
    overhead_bytes: int | None = Field(default=None, description="of memory beside weights and KV cache, likewise")
    settings: dict[str, str | int | float | bool | None] = Field(
        default_factory=dict, description="what the engine resolved its configuration to, as it says")
    image: str | None = None
    ready_s: float = Field(ge=0, description="process start to first answered token")
    log_file: str = ""
    notes: tuple[str, ...] = ()
    functional_only: str | None = Field(default=None, description="why its speed says nothing about the engine; None:"
                                        " it does")


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
    energy_source: str | None = Field(default=None, description="what the joules were read from: `nvml: gpu0`, `rapl:"
                                      " cpu_package0`; None: power was not known (models.energy)")


class Warmup(Record):
    """What was found to be warm-up (models.steady), beyond the requests planned as such."""

    method: str | None = Field(default=None, description="how its end was found; None: too few requests to look for it")
    requests: int = Field(default=0, ge=0, description="measured requests relabelled as warm-up")
    failed: int = Field(default=0, ge=0, description="of these, those that did not succeed")
    seconds: float = Field(default=0.0, ge=0, description="from the first of these sent to the first kept one sent")
    end_ns: int | None = Field(default=None, description="when the first kept one was sent; None: nothing was cut")
    found: bool = Field(default=True, description="False: the point was still moving at its end, so that its"
                        " percentiles depend on its duration; nothing is cut then")
    because: tuple[str, ...] = Field(default=(), description="the series that say so")

    @property
    def text(self) -> str:
        """One sentence for people."""
        series = " and ".join(self.because)
        if self.method is None:
            return "Too few requests to tell where the warm-up ended: none was left out."
        if not self.found:
            return f"The warm-up was not over at the end, by {series} ({self.method}): nothing was cut."
        if not self.requests:
            return f"Steady from the first measured request ({self.method}): none was left out."
        return (f"The first {self.requests} measured requests, {self.seconds:.3g} s, were still warming up by {series}"
                f" ({self.method}): they are left out.")


class LoadHost(Record):
    """One of several machines that a load came from, and how its clock was related to the coordinator's, which all
    stamps are in: wall_clock_off_ms is how far its wall clock was ahead, give or take clock_error_ms at the most."""

    host: str
    requests: int
    clock_error_ms: float
    clock_drift_ppm: float = Field(description="how much faster its clock ran, in millionths; it is corrected for")
    wall_clock_off_ms: float
    late_share: float = 0.0
    waited_s: float = 0.0


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
    warmup: Warmup | None = Field(default=None, description="None: not looked for (ramps, traces, probes of a capacity"
                                  " search), or measured before this was kept")
    client_cpu_s: float = 0.0
    load_hosts: tuple[LoadHost, ...] = Field(default=(), description="machines that the load came from; none: this one")
    dyno_version: str = ""
    source: str = Field(default="measured", description="measured here, or imported from …")

    @property
    def trust(self) -> str:
        """`ok`, or the names of the verdicts worth more than a note, worst first."""
        worst = sorted((v for v in self.verdicts if v.severity != "note"), key=lambda v: v.severity != "fatal")
        return ", ".join(v.name for v in worst) or "ok"


class Asked(Record):
    """What was asked of one setup for its next-token distributions: the content of `quality.json`."""

    schema_version: int = SCHEMA_VERSION
    numerics_id: str
    setup: Setup
    variant: str | None = Field(default=None, description="the server that ran, also where the setup names none")
    engine_version: str
    text: str = Field(description="name of the text")
    text_id: str = Field(description="hash of the very prefixes: only answers to the same ones are compared")
    by: Literal["ids", "text"] = Field(description="prefixes sent as token ids, or as text cut between words")
    positions: int
    next_tokens: tuple[int | None, ...] = Field(description="what the text goes on with, by position; None: not known")
    top: int = Field(description="next tokens asked for at each position")
    asked_at: str
    seconds: float
    dyno_version: str = ""


class TaskScore(Record):
    """One figure of one task of lm-evaluation-harness."""

    task: str
    metric: str
    filter: str = "none"
    value: float
    stderr: float | None = None
    samples: int | None = None


class Scored(Record):
    """What tasks made of one setup: the content of `scores.json`."""

    schema_version: int = SCHEMA_VERSION
    numerics_id: str
    setup: Setup
    variant: str | None = None
    engine_version: str
    scores: tuple[TaskScore, ...]
    limit: int | None = Field(default=None, description="samples of each task at most; None: all")
    tool_version: str
    scored_at: str
    seconds: float
    dyno_version: str = ""


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
