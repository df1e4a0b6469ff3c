"""The standard workloads: honest sources, lengths like the traffic they name, and what a person may change."""

from __future__ import annotations

import numpy as np
import pytest

from models.errors import UserError
from models.specs import Lengths
from workloads import catalogue
from workloads.schedule import generator, lengths

# mean, p50, p90, p99 of the traces that the files name
TRAFFIC = {
    ("chat", "input_tokens"): (1155, 1020, 2734, 4142), ("chat", "output_tokens"): (211, 129, 424, 601),
    ("code", "input_tokens"): (2048, 1469, 5188, 7436), ("rag", "input_tokens"): (12_035, 6_909, 27_367, 85_400),
    ("rag", "output_tokens"): (343, 350, 597, 1_119), ("agent", "output_tokens"): (149, 69, 389, 768),
}


def test_the_standard_ones_are_there_and_name_their_source() -> None:
    assert catalogue.names() == ("agent", "batch", "chat", "code", "rag", "summarise")
    for name in catalogue.names():
        workload = catalogue.load(name)
        assert workload.name == name and workload.description
        assert "trace" in workload.source or workload.source.startswith("dyno's own:")
    assert catalogue.load("batch").offline and catalogue.load("agent").turns > 1
    assert catalogue.load("agent").shared_prefix_tokens > 0 and catalogue.load("agent").think_time_s > 0


@pytest.mark.parametrize(("name", "side"), TRAFFIC)
def test_lengths_are_like_the_traffic_s(name: str, side: str) -> None:
    mean, _, p90, p99 = TRAFFIC[name, side]
    drawn = lengths(getattr(catalogue.load(name), side), 1.0, 50_000, generator("test"))
    assert drawn.mean() == pytest.approx(mean, rel=0.15)
    assert np.quantile(drawn, 0.9) == pytest.approx(p90, rel=0.25)
    assert np.quantile(drawn, 0.99) == pytest.approx(p99, rel=0.25)


def test_scales_and_overrides() -> None:
    assert catalogue.load({"name": "chat", "scale": 0.1}).label == "chat ×0.1"
    both = catalogue.load({"name": "chat", "scale": {"input": 0.11, "output": 0.3}})
    assert (both.input_scale, both.output_scale) == (0.11, 0.3)
    assert catalogue.load({"name": "chat", "scale": {"input": 0.5}}).output_scale == 1
    changed = catalogue.load({"name": "agent", "turns": 5, "input_tokens": {"max": 900}, "output_tokens": 32})
    assert changed.turns == 5 and changed.input_tokens.max == 900 and changed.input_tokens.distribution == "lognormal"
    assert changed.output_tokens == Lengths(mean=32)
    fixed = catalogue.load({"name": "chat", "input_tokens": {"distribution": "fixed", "mean": 9}})
    assert fixed.input_tokens == Lengths(mean=9)
    own = catalogue.load({"name": "mine", "input_tokens": 10, "output_tokens": {"distribution": "uniform", "max": 5}})
    assert own.name == "mine" and own.input_tokens.mean == 10


@pytest.mark.parametrize(("wanted", "said"), [
    ("chit", "unknown workload 'chit'; known are agent, batch, chat, code, rag, summarise"),
    ({"name": "chit", "turns": 2}, "unknown workload 'chit'"),
    ({}, "name: a workload needs one"), ({"name": 3}, "name: a workload needs one"),
    ({"name": "chat", "turn": 3}, "turn: a workload has no such field; it has scale, name, "),
    ({"name": "chat", "turns": 0}, "turns: "), ({"name": "chat", "scale": -1}, "input_scale: "),
    ({"name": "chat", "scale": "half"}, "input_scale: "),
    ({"name": "chat", "scale": {"inputs": 1}}, "scale: unknown field 'inputs'"),
    ({"name": "chat", "input_tokens": "many"}, "input_tokens: write a number of tokens"),
    ({"name": "chat", "input_tokens": {"min": 9000}}, "input_tokens: min 9000 is above max 4142"),
    ({"name": "chat", "input_tokens": {"distribution": "lognormal"}}, "input_tokens: a lognormal distribution needs"),
    ({"name": "chat", "output_tokens": {"distribution": "normal"}}, "output_tokens.distribution: "),
])
def test_what_is_wrong_is_named(wanted: str | dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as caught:
        catalogue.load(wanted)
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)
