"""Adding an engine takes one file and its samples: one is added here, in a folder of its own, and nothing else changes.

The folder is put on `engines.__path__` of processes that are otherwise the real ones: `dyno evaluate`, and pytest on
the contract's tests. (A user puts the file into engines/ itself.)
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import engines
from engines import launch
from engines._checkpoints import resolve_model
from engines._hardware import detect
from models.specs import Batching, EngineSpec, Setup
from tests.engines.live import CONTEXT, LIVE_CHECKS

ROOT = Path(__file__).parents[1]
FIFTH = Path(__file__).parent / "engines" / "fifth"
EXPERIMENT = """
name: fifth
models: [synthetic-llama-15m]
engines:
  - {engine: parrot}
  - {engine: parrot, batching: [{max_sequences: 4}]}
quantizations: [F16, Q8_0, AWQ-INT4]
workloads: [{name: chat, scale: {input: 0.05, output: 0.05}}]
load: {concurrency: [1, 3], requests: 12}
limits: ttft_ms_p95<=5000 tpot_ms_p95<=1000
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The new engine's file, and a module by which other processes find it and its samples."""
    found = tmp_path / "more_engines"
    found.mkdir()
    shutil.copy(FIFTH / "parrot.py", found)
    plugin = (f"import engines\nengines.__path__.append({str(found)!r})\n"
              f"from tests.engines import recorded\nrecorded.FOLDERS.append(__import__('pathlib').Path("
              f"{str(FIFTH / 'samples')!r}))\n")
    (tmp_path / "with_parrot.py").write_text(plugin)
    return found


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The new engine in this process."""
    monkeypatch.setattr(engines, "__path__", [*engines.__path__, str(folder)])
    yield
    sys.modules.pop("engines.parrot", None)
    if hasattr(engines, "parrot"):
        del engines.parrot


def python(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder.parent), str(ROOT)])
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=600, cwd=ROOT,
                          env={**os.environ, "PYTHONPATH": path, **environment})


def dyno(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The `dyno` command, in a process that has the new engine."""
    start = "import with_parrot; from app.cli import main; main()"
    return python(folder, "-c", start, *arguments)


def test_it_is_evaluated_like_any_other(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "fifth.yaml"
    file.write_text(EXPERIMENT)
    planned = dyno(folder, "evaluate", str(file), "--dry-run", "--json")
    assert planned.returncode == 0, planned.stderr
    rows = json.loads(planned.stdout)
    assert [r["state"] for r in rows].count("to measure") == 4
    reasons = {r["reason"] for r in rows if r["state"] == "cannot be measured"}
    assert any("parrot has no 'AWQ-INT4'" in why for why in reasons), reasons
    assert any("batching.max_sequences: not a setting of parrot" in why for why in reasons), reasons
    done = dyno(folder, "evaluate", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Answer: parrot" in done.stdout
    asked = dyno(folder, "sql", "from measurements", "--json")
    measured = json.loads(asked.stdout)
    assert len(measured) == 4 and {(m["engine"], m["engine_version"]) for m in measured} == {("parrot", "1.0")}
    assert all(m["requests_ok"] == 12 and m["output_tokens"] > 0 for m in measured)
    can = json.loads(dyno(folder, "sql", "from capabilities where engine = 'parrot' and kind = 'quantization'",
                          "--json").stdout)
    assert [row["name"] for row in can] == ["F16", "Q8_0"]


def test_it_is_listed_and_checked(folder: Path) -> None:
    (listed,) = json.loads(dyno(folder, "engines", "parrot", "--json").stdout)
    assert listed["quantizations"] == ["F16", "Q8_0"] and listed["missing"]["threads"] == "it does not compute"
    checked = dyno(folder, "engines", "--check", "parrot", "--json")
    assert checked.returncode == 0 and all(row["ok"] for row in json.loads(checked.stdout)), checked.stdout


def test_the_contracts_tests_run_on_it(folder: Path) -> None:
    done = python(folder, "-m", "pytest", "-q", "-p", "with_parrot", "-p", "no:cacheprovider", "-k", "parrot or folder",
                  "tests/test_engine_contract.py")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) > 15, done.stdout[-500:]


def test_the_running_engine_keeps_its_promises(here: None, tmp_path: Path) -> None:
    spec = EngineSpec(engine="parrot", batching=Batching(context_tokens=CONTEXT))
    setup = Setup(model=resolve_model("synthetic-llama-15m"), engine=spec, hardware=detect("cpu"))
    claimed = engines.adapter("parrot").capabilities().features
    with launch.launch(setup, tmp_path / "engine.log") as engine:
        pids = engine.pids()
        for name, (verify, needs) in LIVE_CHECKS.items():
            if needs <= claimed and name != "native":
                verify(engine, setup)
    assert pids and not any(map(psutil.pid_exists, pids))
