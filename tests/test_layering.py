"""The layering of the design, held by reading every import."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("models", "engines", "workloads", "warehouse", "flows", "app")
MAY_IMPORT = {
    "models": {"models"},
    "engines": {"models", "engines"},
    "workloads": {"models", "workloads"},
    "warehouse": {"models", "warehouse"},
    "flows": {"models", "engines", "workloads", "warehouse", "flows"},
    "app": {"models", "warehouse", "app"},
}
ONLY_IN = {"prefect": "flows", "streamlit": "app", "duckdb": "warehouse"}
NEVER = {"llama_cpp", "vllm", "sglang", "text_generation"}


def violations(path: Path, root: Path = ROOT) -> Iterator[str]:
    """Yields `file:line what is wrong` for each import that crosses a layer the wrong way."""
    layer = path.relative_to(root).parts[0]
    command = path.relative_to(root).match("app/cli*.py")  # the commands; what they print, and the views, only read
    allowed = MAY_IMPORT[layer] | ({"flows"} if command else set())
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else (
            [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else [])
        for top in {n.split(".")[0] for n in names}:
            where = f"{path.relative_to(root)}:{node.lineno}"
            if top in LAYERS and top not in allowed:
                yield f"{where} {layer} imports {top}"
            if top in ONLY_IN and layer != ONLY_IN[top]:
                yield f"{where} {top} is imported outside {ONLY_IN[top]}/"
            if top in NEVER:
                yield f"{where} an engine's own package is imported"


def sources() -> list[Path]:
    return [p for layer in LAYERS for p in (ROOT / layer).rglob("*.py")]


def test_imports_point_one_way() -> None:
    assert [v for path in sources() for v in violations(path)] == []


@pytest.mark.parametrize(("where", "line"), [
    ("models/a.py", "import warehouse.reader"), ("engines/a.py", "from workloads import client"),
    ("workloads/a.py", "import engines"), ("warehouse/a.py", "import prefect"), ("app/views/a.py", "import flows"),
    ("engines/a.py", "from llama_cpp import Llama"), ("flows/a.py", "def f():\n    import streamlit"),
])
def test_a_wrong_import_is_named_with_file_and_line(tmp_path: Path, where: str, line: str) -> None:
    path = tmp_path / where
    path.parent.mkdir(parents=True)
    path.write_text(line + "\n")
    found = list(violations(path, tmp_path))
    assert len(found) == 1 and found[0].startswith(f"{where}:{line.count(chr(10)) + 1} ")


def test_modules_and_functions_fit_a_screen() -> None:
    """Modules under 300 lines, functions at most 70."""
    long = []
    for path in sources():
        text = path.read_text()
        if text.count("\n") >= 300:
            long.append(f"{path.relative_to(ROOT)} has {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno >= 70:
                long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert long == []
