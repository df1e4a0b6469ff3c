"""Experiment files: what to measure, in YAML, and their expansion into trials.

An impossible combination is listed with its reason, never dropped in silence. Names (of models, workloads, hardware)
are resolved by functions handed in, so that this stays free of disks and engines.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import yaml
from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from models import secrets, slo
from models.errors import DynoError, ExperimentError, Unsupported, UserError
from models.specs import Batching, EngineSpec, HardwareSpec, Load, ModelSpec, Record, Setup, Trial, Workload

T = TypeVar("T")
R = TypeVar("R")
TRIALS_MAX = 50_000
"""Combinations that one file may have: listing them all takes seconds, measuring them weeks."""


class EngineEntry(Record):
    """One engine of an experiment; the lists override the experiment's own."""

    engine: str
    variant: str | None = None
    version: str | None = None
    runtime: Literal["venv", "path", "docker", "kubernetes", "endpoint"] = "venv"
    path: str | None = None
    image: str | None = None
    url: str | None = None
    extra_args: Annotated[tuple[str, ...], AfterValidator(secrets.refuse_options)] = ()
    environment: Annotated[dict[str, str], AfterValidator(secrets.refuse_variables)] = Field(default_factory=dict)
    quantizations: tuple[str, ...] | None = None
    kv_types: tuple[str, ...] | None = None
    batching: tuple[Batching, ...] | None = None
    pools: tuple[str, ...] = Field(default=(), description="work pools whose machines it is for; none: every one")


class LoadGrid(Record):
    """Load levels: each concurrency and each request rate is a point."""

    concurrency: tuple[int, ...] = ()
    request_rate: tuple[float, ...] = ()
    request_rate_end: float | None = Field(default=None, gt=0)
    arrivals: Literal["poisson", "constant", "gamma", "trace"] = "poisson"
    burstiness: float = Field(default=1.0, gt=0)
    requests: int = Field(default=64, gt=0)
    warmup_requests: int | None = Field(default=None, ge=0)
    timeout_s: float = Field(default=120.0, gt=0)
    duration_s_max: float = Field(default=600.0, gt=0)
    precision: float | None = Field(default=None, gt=0, lt=1)

    @field_validator("concurrency")
    @classmethod
    def _positive(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(v <= 0 for v in value):
            raise ValueError("every concurrency must be at least 1")
        return value

    @field_validator("request_rate")
    @classmethod
    def _positive_rate(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(v <= 0 for v in value):
            raise ValueError("every rate must be above 0 requests a second")
        return value

    @model_validator(mode="after")
    def _one_schedule(self) -> LoadGrid:
        if self.request_rate_end is not None and (self.arrivals == "trace" or not self.request_rate):
            raise ValueError("request_rate_end is for request_rate with poisson, constant or gamma arrivals")
        return self

    def levels(self) -> list[Load]:
        """Returns closed-loop levels first, each with the shared settings; ramps and traces are for the open ones."""
        shared = self.model_dump(exclude={"concurrency", "request_rate", "request_rate_end", "arrivals"})
        arrivals = "poisson" if self.arrivals == "trace" else self.arrivals
        return [*(Load(concurrency=c, arrivals=arrivals, **shared) for c in self.concurrency),
                *(Load(request_rate=r, request_rate_end=self.request_rate_end, arrivals=self.arrivals, **shared)
                  for r in self.request_rate)]


class Experiment(Record):
    """An experiment file. Models and workloads are names or mappings; `hardware: this` is the machine it runs on."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    models: tuple[str | dict[str, object], ...] = Field(min_length=1)
    engines: tuple[EngineEntry, ...] = Field(min_length=1)
    quantizations: tuple[str, ...] = ("F16",)
    kv_types: tuple[str, ...] = ("f16",)
    batching: tuple[Batching, ...] = (Batching(),)
    workloads: tuple[str | dict[str, object], ...] = Field(min_length=1)
    load: LoadGrid
    hardware: str = "this"
    pools: tuple[str, ...] = Field(default=(), description="work pools that `dyno start` sends it to, by hardware: cpu,"
                                   " cuda, metal, kubernetes, or one's own")
    repeats: int = Field(default=1, ge=1, description="rounds through all points of a launch, one after another, so "
                         "that what drifts meanwhile shows")
    seed: int = 0
    limits: str = "ttft_ms_p95<=500 tpot_ms_p95<=50"
    launch_timeout_s: float = Field(default=600.0, gt=0)
    quality: bool = Field(default=True, description="ask each setup, once, for the likeliest next tokens at 64 places"
                          " of a text: some seconds, that is 64 prompts of 134 tokens on average")
    load_hosts: int = Field(default=0, ge=0, description="machines that send the load together, workers of Prefect's"
                            " pool `load`; 0: the machine that the run is on")

    @model_validator(mode="after")
    def _within_reach(self) -> Experiment:
        if self.load_hosts and any(one.runtime != "endpoint" for one in self.engines):
            raise ValueError("load_hosts is of engines with runtime: endpoint; others listen where no other machine"
                             " reaches them")
        if self.load_hosts and self.load.precision:
            raise ValueError("load_hosts cannot stop at a precision: leave load.precision out")
        return self

    @field_validator("limits")
    @classmethod
    def _readable(cls, value: str) -> str:
        try:
            slo.parse(value)
        except UserError as error:
            raise ValueError(str(error)) from None
        return value


@dataclass(frozen=True)
class Skipped:
    """A combination that cannot be measured, and why."""

    label: str
    field: str
    reason: str


@dataclass(frozen=True)
class Expansion:
    """The trials of an experiment, grouped by setup in the order of the file, and what was skipped."""

    trials: list[Trial] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def by_setup(self) -> list[tuple[Setup, list[Trial]]]:
        """Returns the trials of each setup together, in order: one launch each."""
        groups: dict[str, list[Trial]] = {}
        for trial in self.trials:
            groups.setdefault(trial.setup.setup_id, []).append(trial)
        return [(trials[0].setup, trials) for trials in groups.values()]


@dataclass(frozen=True)
class Resolvers:
    """How names become records: each raises UserError for a name it does not know; `check` and `fits` raise Unsupported
    for a combination that cannot be measured."""

    model: Callable[[str | dict[str, object]], ModelSpec]
    workload: Callable[[str | dict[str, object]], Workload]
    hardware: Callable[[str], HardwareSpec]
    quantization: Callable[[str], str]
    engine_version: Callable[[EngineEntry], str | None]
    check: Callable[[Setup], None]
    fits: Callable[[Trial], None]


def load(path: Path) -> Experiment:
    """Reads an experiment file. Raises ExperimentError naming file, field and reason."""
    try:
        raw = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ExperimentError(str(path), "", "there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError(str(path), "", f"cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else ""
        raise ExperimentError(str(path), where, f"is not valid YAML: {getattr(error, 'problem', error)}") from None
    return parse(raw, str(path))


def parse(raw: object, source: str) -> Experiment:
    """Validates an experiment given as plain data. Raises ExperimentError for the first bad field."""
    if not isinstance(raw, dict):
        raise ExperimentError(source, "", "an experiment is a mapping with name, models, engines, workloads and load")
    try:
        return Experiment.model_validate(raw)
    except ValidationError as error:
        first = min(error.errors(), key=lambda e: e["type"] == "missing")
        raise ExperimentError(source, _path(first["loc"]), _reason(dict(first))) from None


def _path(location: tuple[int | str, ...]) -> str:
    """`('engines', 0, 'variant')` → `engines[0].variant`; pydantic's union tags are left out."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part not in {"str", "dict[str,any]", "dict[str,object]"}:
            text += f".{part}" if text else part
    return text


def _reason(error: dict[str, object]) -> str:
    kind, message = str(error["type"]), str(error["msg"])
    if kind == "extra_forbidden":
        return "is not a field dyno knows; see `dyno evaluate --help`"
    if kind == "missing":
        return "is missing"
    given = error.get("input")
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
    return message.removeprefix("Value error, ").removeprefix("Input ").strip() + shown


def expand(experiment: Experiment, resolve: Resolvers, source: str) -> Expansion:
    """Expands to trials. Raises ExperimentError for a name nobody knows; lists what cannot be combined."""
    models = [_named(resolve.model, m, source, f"models[{i}]") for i, m in enumerate(experiment.models)]
    works = [_named(resolve.workload, w, source, f"workloads[{i}]") for i, w in enumerate(experiment.workloads)]
    hardware = _named(resolve.hardware, experiment.hardware, source, "hardware")
    for where, names in _quantization_lists(experiment):
        for i, name in enumerate(names):
            _named(resolve.quantization, name, source, f"{where}[{i}]")
    levels = experiment.load.levels()
    if not levels:
        raise ExperimentError(source, "load", "give concurrency or request_rate, a list of at least one level")
    _refuse_too_many(experiment, len(levels), source)
    out, seen = Expansion(), set[str]()
    for setup, where in _setups(experiment, models, hardware, resolve, source):
        try:
            _named(resolve.check, setup, source, where)
        except Unsupported as error:
            at = f"{where}.{error.field.removeprefix('engine.')}" if error.field.startswith("engine.") else error.field
            out.skipped.append(Skipped(setup.label, at, error.reason))
            continue
        _trials(experiment, setup, works, levels, resolve, out, seen)
    return out


def _refuse_too_many(experiment: Experiment, levels: int, source: str) -> None:
    """Raises ExperimentError with the arithmetic, before anything is expanded."""
    points = len(experiment.workloads) * levels * experiment.repeats
    setups = sum(len(experiment.models) * len(e.quantizations or experiment.quantizations)
                 * len(e.kv_types or experiment.kv_types) * len(e.batching or experiment.batching)
                 for e in experiment.engines)
    if setups * points > TRIALS_MAX:
        raise ExperimentError(source, "", (
            f"{setups * points} combinations are too many, at most {TRIALS_MAX} are measured from one file: {setups} "
            f"setups (models × engines × quantisations × KV types × batchings) × {len(experiment.workloads)} workloads "
            f"× {levels} load levels × {experiment.repeats} repeats; shorten a list, or make several files"))


def _quantization_lists(experiment: Experiment) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "quantizations", experiment.quantizations
    for i, entry in enumerate(experiment.engines):
        yield f"engines[{i}].quantizations", entry.quantizations or ()


def _trials(experiment: Experiment, setup: Setup, works: list[Workload], levels: list[Load], resolve: Resolvers,
            out: Expansion, seen: set[str]) -> None:
    for repeat, work, level in itertools.product(range(experiment.repeats), works, levels):
        trial = Trial(setup=setup, workload=work, load=level, seed=experiment.seed, repeat=repeat)
        try:
            resolve.fits(trial)
        except Unsupported as error:
            out.skipped.append(Skipped(trial.label, error.field, error.reason))
            continue
        if trial.trial_id not in seen:
            seen.add(trial.trial_id)
            out.trials.append(trial)


def _setups(experiment: Experiment, models: list[ModelSpec], hardware: HardwareSpec, resolve: Resolvers, source: str,
            ) -> Iterator[tuple[Setup, str]]:
    for i, entry in enumerate(experiment.engines):
        version = _named(resolve.engine_version, entry, source, f"engines[{i}].engine")
        grid = itertools.product(models, entry.quantizations or experiment.quantizations,
                                 entry.kv_types or experiment.kv_types, entry.batching or experiment.batching)
        for model, quantization, kv_type, batching in grid:
            spec = EngineSpec(engine=entry.engine, variant=entry.variant, version=version, quantization=quantization,
                              kv_type=kv_type, batching=batching, runtime=entry.runtime, path=entry.path,
                              image=entry.image, url=entry.url, extra_args=entry.extra_args,
                              environment=entry.environment)
            yield Setup(model=model, engine=spec, hardware=hardware), f"engines[{i}]"


def _named(resolve: Callable[[T], R], value: T, source: str, where: str) -> R:
    try:
        return resolve(value)
    except (ExperimentError, Unsupported):
        raise
    except DynoError as error:
        raise ExperimentError(source, where, str(error)) from None
