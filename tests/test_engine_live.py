"""The contract on real engines: llama.cpp and vLLM on this CPU, SGLang where DYNO_SGLANG_PYTHON names a Python that has
it, all of them on a machine with a GPU (vLLM and SGLang there from DYNO_VLLM_PYTHON and DYNO_SGLANG_PYTHON, where those
are set). One launch serves all checks of a case.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

import engines
from engines import _selfcheck, launch
from engines._checkpoints import resolve_model
from engines._hardware import detect, nvidia_gpus
from engines.launch import Engine
from models.errors import DynoError
from models.specs import Batching, EngineSpec, Setup
from tests.engines.live import CONTEXT, LIVE_CHECKS
from tests.workloads.test_real_apis import TEMPLATE

MODEL = "synthetic-llama-15m"
SGLANG = os.environ.get("DYNO_SGLANG_PYTHON")
VLLM = os.environ.get("DYNO_VLLM_PYTHON")


@dataclass(frozen=True)
class Case:
    """One launch. calling: fields with which random weights begin a call, which they would not by themselves."""

    engine: str
    quantization: str
    variant: str | None = None
    runtime: str = "venv"
    path: str | None = None
    batching: dict[str, Any] = field(default_factory=dict)
    calling: dict[str, Any] = field(default_factory=dict)
    template: bool = False
    hardware: str = "cpu"

    @property
    def checks(self) -> list[str]:
        """Those of the features that it claims; its own API where it has one."""
        features = engines.adapter(self.engine).capabilities(self.variant).features
        native = self.engine == "tgi" or self.variant == "llama-server"
        return [name for name, (_, needs) in LIVE_CHECKS.items() if needs <= features and (native or name != "native")]

    def setup(self, folder: Path) -> Setup:
        extra: tuple[str, ...] = ()
        if self.template:
            (folder / "template.jinja").write_text(TEMPLATE)
            extra = ("--chat-template-file", str(folder / "template.jinja"))
        spec = EngineSpec.model_validate({
            "engine": self.engine, "variant": self.variant, "quantization": self.quantization, "runtime": self.runtime,
            "path": self.path, "extra_args": extra, "batching": Batching(context_tokens=CONTEXT, **self.batching)})
        return Setup(model=resolve_model(MODEL), engine=spec, hardware=detect(self.hardware))


BEGIN = {"logit_bias": {"{": 100}}
CASES = {
    "llama-server": Case("llama_cpp", "Q4_0", "llama-server", batching={"max_sequences": 2, "threads": 1},
                         calling=BEGIN, template=True),
    "llama-server that caches": Case("llama_cpp", "Q8_0", "llama-server", batching={"prefix_caching": True},
                                     calling=BEGIN, template=True),
    "llama_cpp.server": Case("llama_cpp", "Q4_0", "llama_cpp.server", batching={"threads": 1}),
    "vllm": Case("vllm", "BF16", batching={"max_sequences": 4, "prefix_caching": True}),
    "sglang": Case("sglang", "BF16", runtime="path", path=SGLANG,
                   batching={"max_sequences": 4, "prefix_caching": True}),
}
GPU_CASES = {
    "llama-server on a GPU": Case("llama_cpp", "Q4_0", "llama-server", calling=BEGIN, template=True, hardware="cuda"),
    "vllm on a GPU": Case("vllm", "BF16", runtime="path" if VLLM else "venv", path=VLLM,
                          batching={"prefix_caching": True}, hardware="cuda"),
    "sglang on a GPU": Case("sglang", "BF16", runtime="path" if SGLANG else "venv", path=SGLANG,
                            batching={"prefix_caching": True}, hardware="cuda"),
    "tgi on a GPU": Case("tgi", "BF16", runtime="docker", batching={"prefix_caching": True}, hardware="cuda"),
}


def parameters() -> Iterator[Any]:
    """Every check of every case, a case's together, so that one launch serves them."""
    for name, case in (CASES | GPU_CASES).items():
        for check in case.checks:
            marks = [pytest.mark.gpu if name in GPU_CASES else pytest.mark.engine]
            if name == "sglang" and SGLANG is None:
                marks.append(pytest.mark.skip(reason="DYNO_SGLANG_PYTHON names no Python that has SGLang"))
            if why := _selfcheck.expected(engines.adapter(case.engine), check, case.variant):
                marks.append(pytest.mark.xfail(reason=why, strict=True))
            yield pytest.param(name, check, id=f"{name}: {check}", marks=marks)


class Launched:
    """The engine of one case at a time: pytest itself would start one for each check."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = ""
        self._failed: dict[str, str] = {}
        self._owned = contextlib.ExitStack()

    def of(self, name: str) -> tuple[Engine, Setup]:
        """The engine of that case, started unless it runs; another one is stopped first, and must be gone. One that did
        not start is not started again."""
        if name != self._name:
            self.stop()
            if name in self._failed:
                pytest.fail(f"not started: {self._failed[name]}")
            folder = self._folder / name.replace(" ", "-")
            folder.mkdir()
            self._setup = (CASES | GPU_CASES)[name].setup(folder)
            try:
                self._engine = self._owned.enter_context(
                    launch.launch(self._setup, folder / "engine.log", timeout_s=600))
            except DynoError as error:
                self._failed[name] = str(error).splitlines()[0]
                raise
            self._name, self._pids = name, self._engine.pids()
            assert self._pids
        return self._engine, self._setup

    def stop(self) -> None:
        if self._name:
            self._name = ""
            self._owned.close()
            assert not [pid for pid in self._pids if psutil.pid_exists(pid)]


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    engines_of = Launched(tmp_path_factory.mktemp("live"))
    yield engines_of
    engines_of.stop()


@pytest.mark.parametrize(("name", "check"), list(parameters()))
def test_a_running_engine_keeps_its_promises(launched: Launched, name: str, check: str) -> None:
    case = (CASES | GPU_CASES)[name]
    if case.hardware == "cuda" and not nvidia_gpus():
        pytest.skip("there is no GPU on this machine")
    engine, setup = launched.of(name)
    told = engine.endpoint
    if check == "tools":
        engine.endpoint = told.model_copy(update={"body": {**told.body, **case.calling}})
    try:
        LIVE_CHECKS[check][0](engine, setup)
    finally:
        engine.endpoint = told
