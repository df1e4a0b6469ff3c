"""The policy: a readable file (YAML) that says what is followed, what of it is evaluated, where, and for how long.

    follow:
      - {hub: Qwen, tags: [text-generation], newest: 20}      # an organisation on the Hugging Face Hub
      - {models: [org/name]}                                  # new weights in a repository
      - {folder: /data/checkpoints}                           # checkpoints that somebody drops there
      - {feed: https://example.org/releases.atom, tells: engine, engine: llama_cpp}
      - {pypi: vllm, engine: vllm}
      - {image: docker.io/vllm/vllm-openai, engine: vllm, tags: "v*"}
      - {prices: clouds}
    models:
      parameters: {min: 0.1B, max: 80B}
      formats: [gguf, safetensors]
      licences: [apache-2.0, mit]
      gated: false
      names: ["*"]
      except: ["*-Base"]
      since: 2026-11-01
    engines: {versions: ">=0.30", prereleases: false}
    pools:
      cpu: {hardware: here, experiment: cpu.yaml, parameters: {max: 4B}}
      cuda: {hardware: h100, experiment: gpu.yaml, engine_hours: 3}
    budget: {engine_hours_a_week: 20}
    every_minutes: 30

A pool's `experiment` is an experiment file, relative to this one. A new model takes the place of its `models` (write
`models: [release]` where nothing else is to stand there); a new version takes the place of its engine's.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from typing import Annotated, Any, Literal

import yaml
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from models.errors import ExperimentError
from models.identity import Identifier, Record

_SCALE = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


def size(value: object) -> object:
    """`8B` → 8 000 000 000; a number stays as it is."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMBT]?)\s*", value.upper())
    if not found:
        raise ValueError("give a number of weights such as 8B or 500M")
    return int(float(found[1]) * _SCALE[found[2]])


Size = Annotated[int, BeforeValidator(size)]
Many = Annotated[tuple[str, ...], BeforeValidator(lambda v: (v,) if isinstance(v, str) else v)]
Day = Annotated[str, BeforeValidator(lambda v: v.isoformat() if isinstance(v, dt.date) else v),
                Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]


class FollowHub(Record):
    """Models of an organisation or user, or those that a search finds; the `newest` of them are looked at."""

    hub: str = Field(description="organisation or user; empty: all")
    search: str | None = None
    tags: Many = ()
    newest: int = Field(default=20, gt=0, le=1000)


class FollowModels(Record):
    """Repositories by name: new weights in one of them are a release."""

    models: Many = Field(min_length=1)


class FollowFolder(Record):
    """A folder whose entries are checkpoints: GGUF files, and folders with config.json."""

    folder: Identifier
    settle_s: float = Field(default=10.0, ge=0, description="seconds that nothing may have been written to it")


class FollowFeed(Record):
    """An Atom or JSON feed, or any JSON with a list in it: `items`, `name`, `version`, `date` and `url` are paths in it
    such as `data.models` (JSON feeds and Atom need none). `pattern` finds name or version in what is there."""

    feed: Identifier
    tells: Literal["model", "engine"] = "model"
    engine: Identifier | None = None
    items: str | None = None
    name: str | None = None
    version: str | None = None
    date: str | None = None
    url: str | None = None
    pattern: str | None = None
    newest: int | None = Field(default=None, gt=0, description="None: 20 models, or 1 version")

    @model_validator(mode="after")
    def _of_an_engine(self) -> FollowFeed:
        if (self.tells == "engine") != (self.engine is not None):
            raise ValueError("`tells: engine` and `engine: NAME` belong together")
        return self

    @field_validator("pattern")
    @classmethod
    def _is_one(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return value


class FollowPyPI(Record):
    """An engine's distribution on the package index that PIP_INDEX_URL names, else on PyPI."""

    pypi: Identifier
    engine: Identifier
    newest: int = Field(default=1, gt=0)


class FollowImage(Record):
    """Tags of a container image in a registry; `tags` is a glob."""

    image: Identifier
    engine: Identifier
    tags: str = "v*"
    newest: int = Field(default=1, gt=0)


class FollowPrices(Record):
    """The clouds' catalogues (`clouds`, needs gpuhunt), or a file or URL in the form of prices.yaml."""

    prices: Identifier


_FOLLOWS = {"hub": FollowHub, "models": FollowModels, "folder": FollowFolder, "feed": FollowFeed, "pypi": FollowPyPI,
            "image": FollowImage, "prices": FollowPrices}


def _which(value: Any) -> str | None:
    keys = value if isinstance(value, dict) else getattr(type(value), "model_fields", {})
    return next((key for key in _FOLLOWS if key in keys), None)


Follow = Annotated[
    Annotated[FollowHub, Tag("hub")] | Annotated[FollowModels, Tag("models")] | Annotated[FollowFolder, Tag("folder")]
    | Annotated[FollowFeed, Tag("feed")] | Annotated[FollowPyPI, Tag("pypi")] | Annotated[FollowImage, Tag("image")]
    | Annotated[FollowPrices, Tag("prices")],
    Discriminator(_which, custom_error_type="follow",
                  custom_error_message=f"has none of {', '.join(_FOLLOWS)}: one of them says what is followed")]


class Parameters(Record):
    """How many weights a model may have, both ends included."""

    min: Size = 0
    max: Size | None = None

    def holds(self, parameters: int) -> bool:
        """Whether so many are within."""
        return self.min <= parameters and (self.max is None or parameters <= self.max)

    @property
    def text(self) -> str:
        """`0.1B to 80B`."""
        upper = "any size" if self.max is None else f"{self.max / 1e9:g}B"
        return f"{self.min / 1e9:g}B to {upper}" if self.min else f"up to {upper}"


class Models(Record):
    """Which models are evaluated. licences: none named is any; a checkpoint in a followed folder needs none."""

    parameters: Parameters = Parameters()
    formats: tuple[Literal["gguf", "safetensors"], ...] = ("gguf", "safetensors")
    licences: Many = ()
    gated: bool = Field(default=False, description="also those that are given only to who accepted their terms")
    names: Many = ("*",)
    unwanted: Many = Field(default=(), alias="except")
    since: Day | None = None


class Engines(Record):
    """Which engine versions are evaluated."""

    versions: str = ""
    prereleases: bool = False

    @field_validator("versions")
    @classmethod
    def _readable(cls, value: str) -> str:
        try:
            SpecifierSet(value)
        except InvalidSpecifier:
            raise ValueError("is no range of versions such as >=0.30,<1") from None
        return value


class Pool(Record):
    """A pool of workers: what its hardware is, what is measured on it, and how long that is taken to need."""

    hardware: Identifier = Field(default="here", description="`here`, or a spec sheet's name (`dyno plan memory`)")
    experiment: Identifier
    parameters: Parameters = Parameters()
    engine_hours: float = Field(default=1.0, gt=0, description="of one evaluation, until one has ended on this pool")


class Budget(Record):
    """How long engines may run for new releases."""

    engine_hours_a_week: float | None = Field(default=None, gt=0, description="None: without a limit")


class Policy(Record):
    """A policy file."""

    follow: tuple[Follow, ...] = Field(min_length=1)
    models: Models = Models()
    engines: Engines = Engines()
    pools: dict[str, Pool] = Field(min_length=1)
    budget: Budget = Budget()
    every_minutes: float = Field(default=30.0, gt=0)

    @property
    def policy_id(self) -> str:
        """Identifies what decides: another order of keys, or another interval, is the same policy."""
        return hashlib.sha256(self.model_dump_json(exclude={"every_minutes", "follow"}).encode()).hexdigest()[:16]


def parse(text: str, source: str) -> Policy:
    """Reads a policy. Raises ExperimentError naming the file, the field and the way out."""
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ExperimentError(source, f"line {mark.line + 1}" if mark else "",
                              f"is not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(raw, dict):
        raise ExperimentError(source, "", "a policy is a mapping with follow and pools (`dyno watch --help`)")
    try:
        return Policy.model_validate(raw)
    except ValidationError as error:
        first = min(error.errors(), key=lambda e: e["type"] == "missing")
        raise ExperimentError(source, _path(first["loc"]), _reason(first["type"], first["msg"])) from None


def _path(location: tuple[int | str, ...]) -> str:
    """`('follow', 0, 'hub', 'newest')` → `follow[0].newest`: which kind of entry it was is no part of the file."""
    if len(location) > 2 and location[0] == "follow":
        location = (*location[:2], *location[3:])
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def _reason(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "is not a field of a policy; see `dyno watch --help`"
    return "is missing" if kind == "missing" else message.removeprefix("Value error, ").removeprefix("Input ").strip()
