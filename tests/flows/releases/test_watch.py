"""The watch as people run it: a real Prefect server, a real worker, the watcher, and a checkpoint that is dropped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from engines._checkpoints import checkpoint, resolve_model
from engines._ports import free_port
from models.paths import cache
from tests.conftest import Dyno
from tests.flows.test_evaluate import gone
from warehouse import bundles

pytestmark = pytest.mark.engine
TEMPLATE = {"name": "night", "models": ["release"], "engines": [{"engine": "llama_cpp"}], "quality": False,
            "workloads": [{"name": "chat", "scale": {"input": 0.02, "output": 0.05}}],
            "load": {"concurrency": [1], "requests": 8}, "quantizations": ["Q4_0"], "limits": "ttft_ms_p95<=5000"}
POLICY = {"follow": [{"folder": "dropped", "settle_s": 0.5}], "every_minutes": 0.15,
          "pools": {"cpu": {"experiment": "night.yaml"}}}


@dataclass
class Site:
    """A folder with a policy, and what runs on it: each part is a process of its own, started and killed by a test."""

    folder: Path
    port: int

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "DYNO_HOME": str(self.home), "DYNO_CACHE": str(cache()), "DO_NOT_TRACK": "1",
                "DYNO_LOCKS": str(self.folder / "locks"), "PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api",
                "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{self.folder}/prefect.db",
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}

    @contextmanager
    def running(self, name: str, *argv: str) -> Iterator[subprocess.Popen[bytes]]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-m", *argv], env=self.environment, stdout=log,
                                       stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(60)

    @contextmanager
    def server(self) -> Iterator[subprocess.Popen[bytes]]:
        with self.running("server", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port),
                          "--no-ui") as process:
            wait(self.answers, 60, lambda: self.said("server"))
            yield process

    def worker(self) -> Any:
        return self.running("worker", "app", "worker", "--pool", "cpu")

    def watcher(self) -> Any:
        return self.running("watcher", "app", "watch", "--policy", str(self.folder / "watch.yaml"))

    def answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/api/health", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def runs(self, flow: str) -> list[dict[str, Any]]:
        asked = {"flows": {"name": {"any_": [flow]}}, "sort": "START_TIME_DESC"}
        return list(httpx.post(f"http://127.0.0.1:{self.port}/api/flow_runs/filter", json=asked, timeout=30).json())

    def rounds(self) -> int:
        return sum(run["state_type"] == "COMPLETED" for run in self.runs("watch"))

    def state(self) -> str:
        found = [json.loads(p.read_text()) for p in (self.home / "releases").glob("*.json")]
        return str(found[0]["state"]) if found else ""

    def said(self, *names: str) -> str:
        return "\n".join((self.folder / f"{n}.log").read_text()[-3000:] for n in names or (
            "server", "worker", "watcher"))


def wait(until: Callable[[], Any], within_s: float, otherwise: Callable[[], str]) -> None:
    deadline = time.monotonic() + within_s
    while not until():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.2)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "dropped").mkdir()
    (tmp_path / "night.yaml").write_text(yaml.safe_dump(TEMPLATE))
    (tmp_path / "watch.yaml").write_text(yaml.safe_dump(POLICY))
    found = Site(tmp_path, free_port())
    yield found
    assert gone(found.home) == []


def test_a_checkpoint_that_is_dropped_is_evaluated_once_whatever_is_restarted(site: Site, dyno: Dyno) -> None:
    weights = checkpoint(resolve_model("synthetic-llama-15m"), "Q4_0").path
    with ExitStack() as server, ExitStack() as worker:
        server.enter_context(site.server())
        worker.enter_context(site.worker())
        with site.watcher() as watcher:
            shutil.copy(weights, site.folder / "dropped/tiny.gguf")
            wait(lambda: site.state() == "started", 120, site.said)
            watcher.kill()  # the watcher, while its evaluation runs
        with site.watcher():
            wait(lambda: site.state() == "evaluated", 180, site.said)
            worker.close()  # the worker and the server, while the watcher stays
            server.close()
            server.enter_context(site.server())
            worker.enter_context(site.worker())
            before = site.rounds()
            wait(lambda: site.rounds() > before, 120, site.said)
        assert [run["state_type"] for run in site.runs("evaluate")] == ["COMPLETED"]
    (bundle,) = bundles.present(site.home)
    (row,) = json.loads(dyno("releases", "--json", home=site.home).stdout)
    assert (row["name"], row["state"], row["why"]) == ("tiny", "evaluated", "cpu: 1 point")
    (point,) = json.loads(dyno("sql", "from measurements", "--json", home=site.home).stdout)
    assert (point["trial_id"], point["model"]) == (bundle, "tiny")
