"""Tables on terminals that are too narrow for them, and what setups are called in them."""

from __future__ import annotations

from app import _answer
from app._render import _too_wide

CELLS = {"a": ["1" * 8], "b": ["2" * 8], "c": ["3" * 8], "trust": ["a verdict, " * 9]}


def test_what_is_least_needed_goes_first_and_only_as_much_as_must() -> None:
    assert _too_wide(CELLS, 50, ("b", "a")) == []
    assert _too_wide(CELLS, 49, ("b", "a")) == ["b"]
    assert _too_wide(CELLS, 39, ("b", "a")) == ["b", "a"]
    assert _too_wide(CELLS, 10, ("b", "a")) == ["b", "a"]


def test_points_that_differ_by_an_option_are_told_apart() -> None:
    row = {"engine": "llama_cpp", "variant": "llama-server", "quantization": "Q8_0", "max_sequences": 4}
    assert _answer._setup({**row, "extra_args": None}) == "llama-server, Q8_0, 4 slots"
    assert _answer._setup({**row, "extra_args": ["--kv-unified"]}) == "llama-server, Q8_0, 4 slots, --kv-unified"
