"""`dyno up` and its nodes, as people start them: a real server, real workers, real engines, and what goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import sqlalchemy
import yaml
from packaging.version import Version

from engines._ports import free_port
from models.paths import cache
from tests.flows.test_evaluate import engines_of, gone
from warehouse import bundles

pytestmark = pytest.mark.engine
PATIENCE_S = 120.0
"""For an answer of Prefect's server beside an engine that has all cores."""
ONE = {"name": "one", "models": ["synthetic-llama-15m"], "engines": [{"engine": "llama_cpp"}], "quality": False,
       "quantizations": ["Q4_K_M"], "workloads": [{"name": "chat", "scale": {"input": 0.02, "output": 0.05}}],
       "load": {"concurrency": [1, 2], "requests": 8}, "limits": "ttft_ms_p95<=5000"}
LONG = {**ONE, "name": "long", "load": {"concurrency": [1, 2], "requests": 3000, "duration_s_max": 300}}


@dataclass
class Site:
    """A `dyno up` of its own, and what it told at its webhook."""

    home: Path
    url: str
    environment: dict[str, str]
    printed: str
    process: subprocess.Popen[str]
    told: list[dict[str, str]] = field(default_factory=list)

    def dyno(self, *arguments: object, home: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "app", *map(str, arguments)], capture_output=True, text=True,
                              timeout=300, env={**self.environment, "DYNO_HOME": str(home or self.home)})

    def start(self, experiment: dict[str, Any], *options: str) -> str:
        file = self.home.parent / f"{experiment['name']}.yaml"
        file.write_text(yaml.safe_dump(experiment))
        done = self.dyno("start", file, "--json", *options)
        assert done.returncode == 0, done.stdout + done.stderr
        return str(json.loads(done.stdout)[0]["run"])

    def run(self, run: str) -> dict[str, Any]:
        return dict(httpx.get(f"{self.url}/flow_runs/{run}", timeout=PATIENCE_S).raise_for_status().json())

    def becomes(self, run: str, *states: str, within_s: float = 2 * PATIENCE_S) -> dict[str, Any]:
        wait(lambda: self.run(run)["state_name"] in states, within_s,
             lambda: f"{self.run(run)['state']}\n{self.last_words()}")
        return self.run(run)

    def last_words(self) -> str:
        """The logs, with what every thread of the processes is at (PYTHONFAULTHANDLER), which ends them."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            process.send_signal(signal.SIGABRT)
        time.sleep(2)
        return self.log(12_000)

    def log(self, last: int = 0) -> str:
        logs = [*(self.home / "logs").glob("worker*.log"), self.home / "prefect" / "server.log"]
        return "\n".join(f"{p.name}: {p.read_text()[-last:]}" for p in logs)


def wait(until: Callable[[], Any], within_s: float, otherwise: Callable[[], str] = lambda: "") -> Any:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if found := until():
            return found
        time.sleep(0.2)
    raise AssertionError(otherwise())


def serving(home: Path) -> list[psutil.Process]:
    """Engines at work for a home."""
    return [p for p in engines_of(home) if any("llama-server" in word for word in p.cmdline())]


@pytest.fixture(scope="module")
def told() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A webhook, and what it was told."""
    heard: list[dict[str, str]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/secret-hook", heard
        server.shutdown()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, told: tuple[str, list[dict[str, str]]]) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    port = free_port()
    environment = {**os.environ, "DYNO_HOME": str(folder / "home"), "DYNO_LOCKS": str(folder / "locks"),
                   "DYNO_NOTIFY_URL": told[0], "DYNO_CACHE": str(cache()), "PYTHONFAULTHANDLER": "1"}
    with (folder / "up.log").open("w") as log:
        up = subprocess.Popen([sys.executable, "-m", "app", "up", "--no-explorer", "--pool", "cpu", "--port",
                               str(port)], stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    assert up.stdout
    printed = ""
    for line in up.stdout:
        printed += line
        if "Ctrl-C" in line:
            break
    assert up.poll() is None, printed + (folder / "up.log").read_text()
    try:
        yield Site(folder / "home", f"http://127.0.0.1:{port}/api", environment, printed, up, told[1])
    finally:
        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 130
        up.stdout.close()
        assert gone(folder / "home") == []


def test_it_says_where_everything_is(site: Site) -> None:
    assert site.url.removesuffix("/api") in site.printed and "dyno worker --pool NAME" in site.printed
    assert httpx.get(site.url.removesuffix("/api"), timeout=PATIENCE_S).status_code == 200


def test_deployments_have_schedules_tags_and_a_form(site: Site) -> None:
    listed = httpx.post(f"{site.url}/deployments/filter", json={}, timeout=PATIENCE_S).json()
    found = {d["name"]: d for d in listed}
    assert set(found) == {"cpu", "nightly", "weekly-full", "releases", "warehouse"}
    assert {n: d["work_pool_name"] for n, d in found.items()} == {
        "cpu": "cpu", "nightly": "warehouse", "weekly-full": "warehouse", "releases": "warehouse",
        "warehouse": "warehouse"}
    assert [s["schedule"]["cron"] for s in found["nightly"]["schedules"]] == ["0 1 * * *"]
    assert "dyno" in found["cpu"]["tags"]
    form = found["cpu"]["parameter_openapi_schema"]
    assert {"experiment", "source", "again"} <= set(form["properties"])
    assert {"models", "engines", "load"} <= set(form["definitions"]["Experiment"]["properties"])
    wrong = httpx.post(f"{site.url}/deployments/{found['cpu']['id']}/create_flow_run", timeout=PATIENCE_S, json={
        "parameters": {"experiment": {**ONE, "quantisations": ["Q4_K_M"]}}})
    assert wrong.status_code == 409 and "quantisations" in wrong.text


@pytest.mark.skipif(Version(sqlalchemy.__version__) >= Version("2.1"), reason="Prefect 3.8's scheduler fails with it")
def test_the_clock_has_runs_ready(site: Site) -> None:
    def scheduled() -> set[str]:
        asked = {"flow_runs": {"state": {"name": {"any_": ["Scheduled"]}}}}
        found = httpx.post(f"{site.url}/flow_runs/filter", json=asked, timeout=PATIENCE_S).json()
        return {str(run["name"]) for run in found if run["auto_scheduled"]}

    assert wait(lambda: len(scheduled()) >= 3, 60, lambda: (site.home / "prefect" / "server.log").read_text()[-2000:])


def test_an_experiment_is_evaluated_by_the_worker_and_what_failed_is_told(site: Site) -> None:
    broken = {"engine": "llama_cpp", "extra_args": ["--no-such-flag"]}
    run = site.start({**ONE, "engines": [*ONE["engines"], broken]}, "--pool", "cpu", "--wait")
    there = site.run(run)
    assert there["state_name"] == "Incomplete" and there["state"]["message"].startswith("2 measured, 1 setups failed")
    assert there["name"] == "evaluate one" and {"one", "llama_cpp", "synthetic-llama-15m"} <= set(there["tags"])
    assert len(json.loads(site.dyno("sql", "from measurements", "--json").stdout)) == 2
    text = wait(lambda: next((t["text"] for t in site.told if "Incomplete" in t["text"]), ""), 30)
    assert "evaluate one" in text
    listed = httpx.post(f"{site.url}/block_documents/filter", json={}, timeout=PATIENCE_S).text
    assert "dyno-notify" in listed and "secret-hook" not in listed + site.log()


def test_a_cancel_leaves_no_engine(site: Site) -> None:
    run = site.start(LONG, "--pool", "cpu")
    wait(lambda: serving(site.home), 60, site.log)
    time.sleep(2)
    # What the button of Prefect's pages sends.
    httpx.post(f"{site.url}/flow_runs/{run}/set_state", json={"state": {"type": "CANCELLING"}}, timeout=PATIENCE_S)
    wait(lambda: not serving(site.home), 10, lambda: str(serving(site.home)))
    site.becomes(run, "Cancelled")


def test_a_run_whose_process_died_begins_again_and_measures_only_what_is_missing(site: Site) -> None:
    experiment = {**ONE, "name": "killed", "seed": 7, "load": {"concurrency": [1, 2, 3], "requests": 60}}
    before = bundles.present(site.home)
    run = site.start(experiment, "--pool", "cpu")
    finished = wait(lambda: bundles.present(site.home) - before, PATIENCE_S, site.log)
    (child,) = [p for p in engines_of(site.home) if "prefect" in (line := " ".join(p.cmdline())) and "engine" in line
                and p.environ().get("PREFECT__FLOW_RUN_ID") == run]
    child.kill()
    stamps = {t: (site.home / "bundles" / t / "measurement.json").stat().st_mtime_ns for t in finished}
    there = wait(lambda: (now := site.run(run))["run_count"] > 1 and now["state_type"] == "COMPLETED" and now,
                 2 * PATIENCE_S, lambda: str(site.run(run)["state"]) + site.last_words())
    assert there["run_count"] == 2
    assert len(bundles.present(site.home) - before) == 3
    assert {t: (site.home / "bundles" / t / "measurement.json").stat().st_mtime_ns for t in finished} == stamps


def test_two_workers_on_one_device_never_measure_at_once(site: Site, tmp_path: Path) -> None:
    other = tmp_path / "other"
    node = subprocess.Popen([sys.executable, "-m", "app", "worker", "--pool", "lab", "--server", site.url],
                            stdout=subprocess.PIPE, text=True, env={**site.environment, "DYNO_HOME": str(other)})
    assert node.stdout and "takes evaluations of lab" in node.stdout.readline()
    try:
        before = bundles.present(site.home)
        both = {**ONE, "name": "both", "seed": 8, "load": {"concurrency": [1, 2], "requests": 60}}
        runs = [site.start(both, "--pool", "cpu"), site.start(both, "--pool", "lab")]
        for run in runs:
            site.becomes(run, "Completed")
    finally:
        node.terminate()
        assert node.wait(60) == 143
        node.stdout.close()
    assert gone(other) == []
    here, there = ([bundles.read_measurement(home, t).started_at for t in ids] for home, ids in (
        (site.home, bundles.present(site.home) - before), (other, bundles.present(other))))
    assert len(here) == len(there) == 2
    assert max(here) < min(there) or max(there) < min(here)


def test_a_pool_that_nobody_joined_is_named(site: Site, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(ONE))
    done = site.dyno("start", tmp_path / "one.yaml", "--pool", "tpu")
    assert done.returncode == 2 and "dyno worker --pool tpu" in done.stderr and "Traceback" not in done.stderr
