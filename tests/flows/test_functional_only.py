"""An engine that only functions is never ranked: no capacity is looked for, and no answer rests on its points."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from engines import launch
from flows.capacity_engines import _Lazy
from models.errors import Unsupported
from models.progress import silent
from models.specs import EngineSpec, HardwareSpec, ModelSpec, Setup


def test_no_capacity_is_looked_for_and_the_engine_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = []

    @contextmanager
    def launched(*_: object, **__: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(run=SimpleNamespace(functional_only="it has no kernels here"))
        stopped.append(True)

    monkeypatch.setattr(launch, "prepare", lambda *_: None)
    monkeypatch.setattr(launch, "launch", launched)
    setup = Setup(model=ModelSpec(name="m"), engine=EngineSpec(engine="sglang"), hardware=HardwareSpec(name="cpu"))
    with _Lazy(setup, tmp_path / "log", silent, 10) as engine, pytest.raises(Unsupported, match="no kernels here"):
        engine.get()
    assert stopped == [True]
