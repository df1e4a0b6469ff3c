"""Load from two machines through Prefect: a real server, two workers of pool `load`, each on a network of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from engines._ports import free_port
from flows import server
from flows.load_hosts import gathered
from models import experiment as experiments
from models.errors import UserError
from models.progress import silent
from tests.conftest import Dyno
from tests.workloads.truth import TruthServer, answer
from warehouse import bundles

pytestmark = pytest.mark.engine


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def networks() -> Iterator[tuple[str, list[list[str]]]]:
    """The coordinator's address, and for each of two hosts what starts a program on its network; on this one where no
    others can be made."""
    names = [f"dyno-load-{os.getpid()}-{n}" for n in (1, 2)]
    try:
        for n, name in enumerate(names, 1):
            ip("netns", "add", name)
            ip("link", "add", f"dyl{os.getpid()}{n}"[:15], "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("addr", "add", f"10.213.{n}.1/30", "dev", f"dyl{os.getpid()}{n}"[:15])
            ip("link", "set", f"dyl{os.getpid()}{n}"[:15], "up")
            ip("-n", name, "addr", "add", f"10.213.{n}.2/30", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", name, "link", "set", device, "up")
            ip("-n", name, "route", "add", "default", "via", f"10.213.{n}.1")
        yield "10.213.1.1", [["ip", "netns", "exec", name] for name in names]
    except (OSError, subprocess.CalledProcessError):
        yield "127.0.0.1", [[], []]
    finally:
        for name in names:
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                ip("netns", "del", name)


@pytest.fixture(scope="module")
def site(networks: tuple[str, list[list[str]]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A Prefect server with two workers; yields its URL and the address that they reach this machine at."""
    address, prefixes = networks
    home = tmp_path_factory.mktemp("load")
    with contextlib.ExitStack() as owned:
        url = owned.enter_context(server.serve(home, address, free_port()))
        workers = []
        for n, prefix in enumerate(prefixes):
            argv = [*prefix, sys.executable, "-m", "app", "worker", "--pool", "load", "--server", url]
            workers.append(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True,
                                            env={**os.environ, "DYNO_HOME": str(home / f"host{n}")}))
            owned.callback(_ended, workers[-1])
        for worker in workers:
            assert worker.stdout and "takes" in worker.stdout.readline()
        yield url, address


def _ended(worker: subprocess.Popen[str]) -> None:
    worker.terminate()
    worker.communicate(timeout=60)


def test_a_load_and_an_experiment_are_sent_by_two_hosts(site: tuple[str, str], tmp_path: Path, dyno: Dyno) -> None:
    url, address = site
    with TruthServer(lambda asked: answer(asked, 0.01), host=address) as truth:
        done = dyno("load", "--url", truth.url, "--rate", "60", "--requests", "120", "--hosts", "2", "--json",
                    "--input-tokens", "20", "--output-tokens", "4", "--out", tmp_path / "out", PREFECT_API_URL=url)
        assert done.returncode == 0, done.stderr
        file = tmp_path / "x.yaml"
        file.write_text(f"""
name: cluster
models: [{{name: truth, source: served}}]
quantizations: [Q4_0]
engines: [{{engine: llama_cpp, runtime: endpoint, url: "{truth.url}"}}]
workloads: [{{name: chat, scale: {{input: 0.02, output: 0.02}}}}]
load: {{concurrency: [2, 4], requests: 20}}
quality: false
load_hosts: 2
""")
        measured = dyno("evaluate", file, PREFECT_API_URL=url)
        assert measured.returncode == 0, measured.stdout + measured.stderr
    got = json.loads(done.stdout)
    assert got["requests_ok"] == 120 and got["processes"] == 2 and len(got["load_hosts"]) == 2
    assert all(one["requests"] > 0 and 0 < one["clock_error_ms"] < 50 for one in got["load_hosts"])
    rows = pl.read_parquet(tmp_path / "out" / "requests.parquet")
    assert rows["request_index"].is_unique().all() and (rows["sent_ns"] >= rows["planned_ns"]).all()
    home = tmp_path / "home"
    points = [bundles.read_measurement(home, trial) for trial in bundles.present(home)]
    assert len(points) == 2 and all(len(one.load_hosts) == 2 for one in points)


def test_without_a_server_or_an_engine_that_others_reach_it_is_said_what_is_missing(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(UserError, match="dyno worker --pool load"), gathered(2, tmp_path, silent):
        pass
    asked = {"name": "x", "models": ["m"], "engines": [{"engine": "llama_cpp"}], "workloads": ["chat"],
             "load": {"concurrency": [2]}, "load_hosts": 2}
    with pytest.raises(UserError, match="load_hosts is of engines with runtime: endpoint"):
        experiments.parse(asked, "x.yaml")
