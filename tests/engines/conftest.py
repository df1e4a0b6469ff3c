"""Fixtures of the engines' tests: the real build, shared through DYNO_CACHE (minutes when it is empty)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from engines import _llama_build
from engines._checkpoints import resolve_model
from engines._hardware import detect
from models.specs import Batching, EngineSpec, ModelSpec, Setup


@pytest.fixture(scope="session")
def llama_install() -> _llama_build.Toolchain:
    return _llama_build.toolchain()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own."""
    monkeypatch.setenv("DYNO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def setup_of() -> Callable[..., Setup]:
    """Makes a setup of the smallest model; keyword arguments go to its engine and batching."""

    def make(model: str | ModelSpec = "synthetic-llama-15m", *, quantization: str = "Q4_0", **fields: object) -> Setup:
        batching = {name: fields.pop(name) for name in list(fields) if name in Batching.model_fields}
        spec = model if isinstance(model, ModelSpec) else resolve_model(model)
        engine = EngineSpec(engine="llama_cpp", quantization=quantization, batching=Batching(**batching), **fields)
        return Setup(model=spec, engine=engine, hardware=detect("cpu"))

    return make
