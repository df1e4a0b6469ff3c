"""The command as people meet it: instant help, one-line errors, JSON beside every table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from models.specs import HardwareSpec
from tests.conftest import Dyno
from tests.warehouse import fake

GOOD = """
name: x
models: [synthetic-llama-15m]
engines: [{engine: llama_cpp}]
quantizations: [F16]
workloads: [{name: chat, scale: 0.05}]
load: {concurrency: [1], requests: 2}
"""


def test_help_imports_nothing_heavy() -> None:
    code = ("import sys, app.cli; heavy = {'prefect', 'polars', 'duckdb', 'streamlit', 'pydantic', 'numpy', 'rich'}"
            " & set(sys.modules); sys.exit(','.join(sorted(heavy)) or 0)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


COMMANDS = ("demo", "evaluate", "engines", "load", "capacity", "sql", "runs", "show", "prices", "accuracy", "plan",
            "rebuild", "doctor", "explore")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(dyno: Dyno, command: str) -> None:
    text = dyno(command, "--help").stdout
    assert text.startswith("Usage:") and (command == "rebuild" or "Examples:" in text)
    assert command in dyno("--help").stdout


@pytest.mark.parametrize(("old", "new", "says"), [
    ("engine: llama_cpp", "engine: lama", "x.yaml: engines[0].engine: "),
    ("{engine: llama_cpp}", "{engine: llama_cpp, variant: lama-server}", "x.yaml: engines[0]"),
    ("[F16]", "[Q9_Z]", "x.yaml: quantizations[0]: "),
    ("name: chat", "name: chitchat", "x.yaml: workloads[0]: "),
    ("concurrency: [1]", "request_rate: [-2]", "x.yaml: load.request_rate: "),
    ("[synthetic-llama-15m]", "[bad.gguf]", "x.yaml: models[0]: "),
    ("[synthetic-llama-15m]", "[absent.gguf]", "x.yaml: models[0]: "),
    ("[synthetic-llama-15m]", "[synthetic-llama-16m]", "x.yaml: models[0]: "),
    ("{name: chat, scale: 0.05}", "rag", "x.yaml: workloads: "),
    ("{engine: llama_cpp}", "{engine: llama_cpp, runtime: endpoint, url: 'http://127.0.0.1:9'}", "http://127.0.0.1:9"),
    ("{engine: llama_cpp}", "{engine: llama_cpp, runtime: path, path: no-such-server}", "no-such-server"),
])
def test_bad_input_is_one_line_that_names_file_and_field(tmp_path: Path, dyno: Dyno, old: str, new: str,
                                                         says: str) -> None:
    (tmp_path / "x.yaml").write_text(GOOD.replace(old, new))
    (tmp_path / "bad.gguf").write_text("this is no model\n" * 100)
    done = dyno("evaluate", "x.yaml", cwd=tmp_path)
    assert done.returncode in (1, 2) and done.stderr.splitlines()[-1].startswith("dyno: "), done.stderr
    assert says in done.stderr
    last = [line for line in done.stderr.splitlines() if line.startswith("dyno: ")]
    assert len(last) == 1 and "Traceback" not in done.stderr + done.stdout
    assert not list((tmp_path / "home").rglob("measurement.json"))


@pytest.mark.parametrize(("arguments", "says"), [
    (["load", "--url", "http://127.0.0.1:9", "--concurrency", "1"], "http://127.0.0.1:9"),
    (["load", "--url", "ftp://x", "--concurrency", "1"], "ftp://x"),
    (["load", "--url", "http://127.0.0.1:9", "--rate", "-1"], "--rate"),
    (["load", "--url", "http://127.0.0.1:9"], "--concurrency"),
    (["load", "--url", "http://127.0.0.1:9", "--rate", "1", "--arrivals", "weekly"], "--arrivals weekly"),
    (["load", "--url", "http://127.0.0.1:9", "--rate", "1", "--workload", "chitchat"], "chitchat"),
    (["sql", "from measurements"], "make run"),
    (["show", "abc"], "dyno runs"),
    (["evaluate", "absent.yaml"], "absent.yaml"),
    (["nonsense"], "nonsense"),
])
def test_a_wrong_command_is_one_line(dyno: Dyno, arguments: list[str], says: str) -> None:
    done = dyno(*arguments)
    assert done.returncode in (1, 2) and says in done.stderr and "Traceback" not in done.stderr


def test_a_port_in_use_is_said(dyno: Dyno) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = dyno("explore", "--port", str(port), "--no-browser", timeout=60)
    assert done.returncode == 2 and str(port) in done.stderr and "in use" in done.stderr


def test_no_compiler_is_said(tmp_path: Path, dyno: Dyno) -> None:
    (tmp_path / "x.yaml").write_text(GOOD)
    (tmp_path / "bin").mkdir()
    done = dyno("evaluate", "x.yaml", cwd=tmp_path, DYNO_CACHE=str(tmp_path / "cache"), PATH=str(tmp_path / "bin"))
    assert done.returncode != 0 and "gcc" in done.stderr and "Traceback" not in done.stderr


def test_bundles_of_another_machine_are_priced_by_a_rebuild_and_nothing_found_has_its_headings(
        tmp_path: Path, dyno: Dyno) -> None:
    gpu = HardwareSpec(name="nvidia-h200", kind="cuda", accelerator="NVIDIA H200", accelerators=1)
    fake.store(tmp_path / "home", fake.trial(fake.setup(hardware=gpu)))
    assert dyno("rebuild").returncode == 0
    assert json.loads(dyno("sql", "select usd_per_million_output_tokens > 0 as priced from measurements",
                           "--json").stdout) == [{"priced": True}]
    done = dyno("sql", "select engine, usd_per_million_output_tokens from measurements where engine = 'tgi'")
    assert done.returncode == 0 and done.stdout.split() == ["engine", "usd_per_million_output_tokens"], done.stderr


@pytest.mark.engine
def test_sql_refuses_to_write_and_says_why(demo_home: Path, dyno: Dyno) -> None:
    for query in ("drop table trials", "copy trials to 'x.csv'", "select * from read_csv('/etc/passwd')", "selec 1"):
        done = dyno("sql", query, home=demo_home)
        assert done.returncode == 2 and done.stderr.startswith("dyno: ") and "Traceback" not in done.stderr


@pytest.mark.engine
def test_every_table_has_its_json(demo_home: Path, dyno: Dyno) -> None:
    (first, *_) = json.loads(dyno("runs", "--json", home=demo_home).stdout)
    whole = json.loads(dyno("show", first["trial_id"][:10], "--json", home=demo_home).stdout)
    assert whole["trial_id"] == first["trial_id"] and whole["run"]["argv"]
    prices = json.loads(dyno("prices", "--json", home=demo_home).stdout)
    assert prices and all(p["date"] and p["source"] for p in prices)
    checks = {c["name"]: c["detail"] for c in json.loads(dyno("doctor", "--json", home=demo_home).stdout)}
    assert checks.keys() >= {"gcc", "DYNO_HOME"} and "docker" in checks["engine tgi"]
    assert first["trial_id"][:8] in dyno("runs", home=demo_home).stdout
    assert "command: " in dyno("show", first["trial_id"], home=demo_home).stdout
