"""What every adapter must keep to; runs over the folder, so a new engine is checked by being there."""

import pytest

import engines
from engines import _contract, _llama_servers
from models.specs import Batching


@pytest.mark.parametrize("name", engines.names())
def test_an_adapter_speaks_the_contracts_words(name: str) -> None:
    adapter = engines.adapter(name)
    assert adapter.name == name
    for variant in adapter.variants or (None,):
        can = adapter.capabilities(variant)
        assert can.features <= set(_contract.FEATURES)
        assert can.batching <= set(Batching.model_fields)
        assert set(can.reasons) <= {*Batching.model_fields, *_contract.FEATURES}
        assert can.runtimes <= {"venv", "path", "docker", "kubernetes", "endpoint"}
        assert can.hardware <= {"cpu", "cuda", "rocm", "metal"}
        assert "F16" in can.quantizations and can.kv_types
        assert adapter.gauges("") == {}


def test_gauges_have_the_contracts_names() -> None:
    assert set(_llama_servers._GAUGES.values()) <= set(_contract.GAUGES)


def test_metrics_text_becomes_gauges() -> None:
    text = ("# HELP x:waiting queue\n# TYPE x:waiting gauge\nx:waiting{rank=\"0\"} 2\nx:waiting{rank=\"1\"} 3\n"
            "# TYPE x:tokens counter\nx:tokens_total 7\n# TYPE x:other gauge\nx:other 1\n")
    names = {"x:waiting": "requests_waiting", "x:tokens_total": "generated_tokens"}
    assert _contract.prometheus_gauges(text, names) == {"requests_waiting": 5, "generated_tokens": 7}
