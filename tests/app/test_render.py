"""Tables on terminals that are too narrow for them."""

from __future__ import annotations

from app._render import _too_wide

CELLS = {"a": ["1" * 8], "b": ["2" * 8], "c": ["3" * 8], "trust": ["a verdict, " * 9]}


def test_what_is_least_needed_goes_first_and_only_as_much_as_must() -> None:
    assert _too_wide(CELLS, 50, ("b", "a")) == []
    assert _too_wide(CELLS, 49, ("b", "a")) == ["b"]
    assert _too_wide(CELLS, 39, ("b", "a")) == ["b", "a"]
    assert _too_wide(CELLS, 10, ("b", "a")) == ["b", "a"]
