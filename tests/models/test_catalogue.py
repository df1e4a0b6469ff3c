"""Models known by name."""

from __future__ import annotations

import pytest

from models import catalogue


@pytest.mark.parametrize(("name", "layers"), [
    ("meta-llama/Llama-3.1-8B-Instruct", 32), ("llama-3.1-8b-instruct", 32), ("Llama-3.1-8B", 32),
    ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w8a8", 32), ("RedHatAI/Llama-3.3-70B-Instruct-fp8-dynamic", 80),
    ("google/gemma-2-9b-it", 42), ("Qwen/Qwen2.5-72B-Instruct-AWQ", 80)])
def test_a_shape_by_any_of_its_names(name: str, layers: int) -> None:
    found = catalogue.shape(name)
    assert found and found.layers == layers


@pytest.mark.parametrize(("name", "billions"), [
    ("google/gemma-7b", 8.54), ("google/gemma-2-2b-it", 2.61), ("google/gemma-2-9b-it", 9.24),
    ("google/gemma-3-27b-it", 27.4), ("microsoft/phi-2", 2.78), ("microsoft/phi-4", 14.7),
    ("mistralai/Mistral-7B-Instruct-v0.3", 7.25), ("mistralai/Mixtral-8x7B-Instruct-v0.1", 46.7),
    ("Qwen/Qwen1.5-MoE-A2.7B", 14.3), ("Qwen/Qwen2.5-0.5B-Instruct", 0.494), ("Qwen/Qwen2.5-7B-Instruct", 7.62),
    ("Qwen/Qwen2.5-14B-Instruct", 14.8), ("Qwen/Qwen2.5-32B-Instruct", 32.8), ("Qwen/Qwen2.5-72B-Instruct", 72.7),
    ("ibm-granite/granite-3.1-2b-instruct", 2.53), ("ibm-granite/granite-3.1-8b-instruct", 8.17),
    ("meta-llama/Llama-3.2-1B-Instruct", 1.24), ("meta-llama/Llama-3.2-3B-Instruct", 3.21),
    ("meta-llama/Llama-4-Scout-17B-16E-Instruct", 109)])
def test_bundled_shapes_have_the_weights_that_their_makers_publish(name: str, billions: float) -> None:
    found = catalogue.shape(name)
    assert found and found.parameters / 1e9 == pytest.approx(billions, rel=0.01)


def test_what_is_not_known_is_none() -> None:
    assert catalogue.shape("nobody/nothing-7b") is None
