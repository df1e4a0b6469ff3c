"""What a terminal shows of long work."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from app import _progress


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_long_detail_never_pushes_out_how_much_is_done(width: int) -> None:
    console = Console(width=width, force_terminal=True, color_system=None, file=io.StringIO())
    with _progress._bars(console) as progress:
        progress("measuring 56 points", 0.18, "llama-server F16, 4 sequences · rag ×0.01 · 4 at once · 11 of 24")
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "measuring 56 points" in shown and "llama-server" in shown
    assert "% 0:00:0" in shown and " left " in shown
