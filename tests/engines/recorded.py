"""The recorded wire samples, and what the instrument makes of one: the columns that a real run would store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

from models.specs import Api, Load, Workload
from workloads import answer, columns, dialects, schedule
from workloads.client import Recording

FOLDERS = [Path(__file__).parent / "samples"]
"""Where they are; a test that brings an engine of its own adds its folder."""
COLUMNS = ("outcome", "output_tokens", "output_tokens_source", "input_tokens", "cached_tokens", "finish_reason",
           "output_valid", "error")
"""Of models.frames.REQUESTS: those that an answer alone decides."""


class Sample(BaseModel):
    """One line of a samples.yaml; README.md there says what each field means."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path
    kind: Literal["answer", "metrics", "inspection"]
    file: str | None = None
    recorded: str | None = None
    written: str | None = None
    variant: str | None = None
    api: Api | None = None
    asked: int = 6
    status: int = 200
    ending: Literal["complete", "closed"] = "complete"
    shows: Literal["too long", "unknown model"] | None = None
    workload: dict[str, Any] = {}
    paths: dict[str, str] = {}
    log: str | None = None
    gives: dict[str, Any]

    @model_validator(mode="after")
    def _complete(self) -> Sample:
        where = f"{self.folder.name}/samples.yaml: {self.file or self.paths}"
        if (self.recorded is None) == (self.written is None):
            raise ValueError(f"{where}: say either `recorded` or `written`")
        if (self.kind == "inspection") == (self.file is not None) or (self.kind == "answer") != (self.api is not None):
            raise ValueError(f"{where}: an answer has `file` and `api`, metrics a `file`, an inspection neither")
        return self

    @property
    def id(self) -> str:
        """Name for people."""
        return "/".join(filter(None, (self.folder.name, self.file or f"{self.variant or ''} inspection".strip())))

    @property
    def body(self) -> bytes:
        return (self.folder / (self.file or "")).read_bytes()

    def get(self, path: str) -> Any:
        """What GET would have answered, as `Adapter.inspect` wants it."""
        found = self.paths.get(path)
        if found is None:
            return None
        text = (self.folder / found).read_text()
        return json.loads(text) if found.endswith(".json") else text


def samples(engine: str) -> list[Sample]:
    """Every sample of an engine; [] when it has none."""
    files = [file for folder in FOLDERS if (file := folder / engine / "samples.yaml").exists()]
    return [Sample.model_validate({**line, "folder": file.parent}) for file in files for line in
            yaml.safe_load(file.read_text())["samples"]]


def workload(sample: Sample) -> Workload:
    """What it was asked for."""
    return Workload.model_validate({"name": "sample", "api": sample.api, "input_tokens": {"mean": 8},
                                    "output_tokens": {"mean": sample.asked}, **sample.workload})


def gives(sample: Sample, body: bytes | None = None) -> dict[str, Any]:
    """The columns of an answer, with how many events carried output, and its text; nulls left out."""
    what = workload(sample)
    plan = schedule.plan(what, Load(concurrency=1, requests=1, warmup_requests=0), 0)
    recording = Recording(0, b"", 0)
    recording.status, recording.ending = sample.status, sample.ending
    recording.body = bytearray(sample.body if body is None else body)
    recording.sent_ns = 0
    recording.reads.extend((1).to_bytes(8, "little") + len(recording.body).to_bytes(8, "little"))
    row = columns.frame(plan, what, [recording], 0).row(0, named=True)
    speaks = dialects.of(what.api)
    said = answer.read(bytes(recording.body), speaks.take) if sample.status == 200 else answer.Answer()
    extra: dict[str, Any] = {"chunks": len(said.ends)} if len(said.ends) else {}
    if row["outcome"] == "ok":
        extra["text"] = speaks.text(said.documents)
    return {**{c: row[c] for c in COLUMNS if row[c] is not None}, **extra}
