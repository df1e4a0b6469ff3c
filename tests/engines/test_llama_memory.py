"""KV memory against context length, on a real llama-server: what its log says, and what the formula does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from engines._llama_build import Toolchain
from engines.launch import launch
from models.planning.kv import sequence_bytes
from models.planning.overheads import rule
from models.planning.weights import repacked_bytes, weight_bytes
from models.specs import Setup


@pytest.mark.engine
@pytest.mark.parametrize(("kv_type", "context", "slots"), [
    ("f16", 512, 1), ("f16", 2048, 4), ("q8_0", 1024, 2), ("q4_0", 2048, 1)])
def test_kv_memory_is_within_3_per_cent(kv_type: str, context: int, slots: int, llama_install: Toolchain,
                                        setup_of: Callable[..., Setup], tmp_path: Path) -> None:
    """It holds all slots at their longest from the start."""
    setup = setup_of(variant="llama-server", kv_type=kv_type, context_tokens=context, max_sequences=slots)
    with launch(setup, tmp_path / "engine.log") as engine:
        run = engine.run
    shape = setup.model.architecture
    assert shape and run.weights_bytes
    paging = rule("llama_cpp").paging(512)
    predicted = slots * sequence_bytes(shape, context, kv_type, paging=paging)
    assert predicted == pytest.approx(run.settings["kv_cache_bytes"], rel=0.03)
    assert run.kv_cache_tokens == slots * context
    in_memory = weight_bytes(shape, "Q4_0") + repacked_bytes(shape, "Q4_0")
    assert in_memory == pytest.approx(run.weights_bytes, rel=0.03)
