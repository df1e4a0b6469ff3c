"""A team on three hosts, one of which loses its link: sudo python -m bench.three_hosts [--json]

Three network namespaces of this machine stand for hosts, each with its own name, state and lock of its device: one with
Prefect's server and the warehouse (`dyno up`), two nodes (`dyno worker`) of different pools. An experiment for both
pools is sent to them; while it runs, the link of one node is cut until the server has noticed, and mended again. What
is asked: each pool's part ran on its host, both at the same time; the loss is recorded; after the link is back, the run
begins again and all trials are there; none is stored twice. Real llama-server, about five minutes, needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from bench._dyno import PROGRAM
from bench._marks import Line, at_least, table
from models.errors import DynoError
from models.records import Measurement

SERVER, NODES = "dyno-server", {"dyno-a": "lab-a", "dyno-b": "lab-b"}
LOST = "dyno-b"
PORT = 4200
EXPERIMENT: dict[str, Any] = {
    "name": "two-pools", "models": ["synthetic-llama-15m"], "quality": False, "pools": list(NODES.values()),
    "engines": [{"engine": "llama_cpp", "quantizations": ["Q4_K_M"], "pools": ["lab-a"]},
                {"engine": "llama_cpp", "quantizations": ["Q8_0"], "pools": ["lab-b"]}],
    "workloads": [{"name": "chat", "scale": {"input": 0.1, "output": 0.2}}],
    "load": {"concurrency": [1], "requests": 40}, "repeats": 6}


class Hosts:
    """The namespaces and what runs in them; `with` ends both."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._owned = folder, ExitStack()

    def __enter__(self) -> Hosts:
        for name in (SERVER, *NODES):
            self._ip("netns", "add", name)
            self._owned.callback(self._ip, "netns", "delete", name)
            self._ip("-n", name, "link", "set", "lo", "up")
        for i, node in enumerate(NODES, 1):
            self._ip("link", "add", f"dy{i}", "netns", SERVER, "type", "veth", "peer", "name", "eth0", "netns", node)
            for host, link, last in ((SERVER, f"dy{i}", 1), (node, "eth0", 2)):
                self._ip("-n", host, "addr", "add", f"10.77.{i}.{last}/24", "dev", link)
                self._ip("-n", host, "link", "set", link, "up")
        return self

    def __exit__(self, *_: object) -> None:
        self._owned.close()

    def link(self, node: str, state: str) -> None:
        """Cuts (`down`) or mends (`up`) a node's cable at the server's end."""
        self._ip("-n", SERVER, "link", "set", f"dy{list(NODES).index(node) + 1}", state)

    def start(self, host: str, *arguments: str) -> None:
        """Starts `dyno` on a host, to be ended with the hosts; returns when it is ready. Raises DynoError if not."""
        with self.log(host).open("wb") as log:
            process = subprocess.Popen(self._argv(host, arguments), stdout=log, stderr=log, env=self._env(host))
        self._owned.callback(_end, process)
        wait(f"{host} is ready", partial(self._ready, host, process))

    def log(self, host: str) -> Path:
        """What `dyno` printed on a host."""
        return self.folder / f"{host}.log"

    def _ready(self, host: str, process: subprocess.Popen[bytes]) -> bool:
        said = self.log(host).read_text()
        if process.poll() is not None:
            raise DynoError(f"{host}: {said[-1000:]}")
        return "Ctrl-C" in said

    def dyno(self, host: str, *arguments: str) -> str:
        """Runs `dyno` on a host and returns what it printed. Raises DynoError with its last words."""
        done = subprocess.run(self._argv(host, arguments), capture_output=True, text=True, env=self._env(host),
                              check=False)
        if done.returncode:
            raise DynoError(f"{host}: dyno {' '.join(arguments)}: {done.stderr.strip()[-1000:]}")
        return done.stdout

    def ask(self, path: str) -> dict[str, Any]:
        """Prefect's API, asked on the server's host."""
        done = subprocess.run(["ip", "netns", "exec", SERVER, sys.executable, "-c",
                               "import sys, httpx; print(httpx.get(sys.argv[1], timeout=30).text)",
                               f"http://127.0.0.1:{PORT}/api/{path}"], capture_output=True, text=True, check=False)
        return dict(json.loads(done.stdout)) if done.returncode == 0 else {}

    def measured(self, host: str) -> dict[str, Measurement]:
        """The bundles of a host."""
        return {file.parent.name: Measurement.model_validate_json(file.read_text())
                for file in (self.folder / host / "bundles").glob("*/measurement.json")}

    def _argv(self, host: str, arguments: tuple[str, ...]) -> list[str]:
        return ["ip", "netns", "exec", host, "unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', host,
                str(PROGRAM), *arguments]

    def _env(self, host: str) -> dict[str, str]:
        return {**os.environ, "DYNO_HOME": str(self.folder / host), "DYNO_LOCKS": str(self.folder / host / "locks"),
                "DYNO_BUNDLES": str(self.folder / "shared")}

    def _ip(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(60)


def wait(what: str, until: Callable[[], Any], within_s: float = 300) -> float:
    """Returns how many seconds it took. Raises DynoError when it did not happen."""
    started = time.monotonic()
    print(f"{what} …", file=sys.stderr, end=" ", flush=True)
    while not until():
        if time.monotonic() - started > within_s:
            raise DynoError(f"not within {within_s:g} s: {what}")
        time.sleep(0.5)
    print(f"{time.monotonic() - started:.1f} s", file=sys.stderr)
    return time.monotonic() - started


def measure(hosts: Hosts) -> list[Line]:
    """The whole story; its figures."""
    (hosts.folder / "shared").mkdir()
    file = hosts.folder / "two-pools.yaml"
    file.write_text(yaml.safe_dump(EXPERIMENT))
    hosts.start(SERVER, "up", "--host", "0.0.0.0", "--port", str(PORT), "--no-measure", "--no-explorer")
    for i, (node, pool) in enumerate(NODES.items(), 1):
        hosts.start(node, "worker", "--pool", pool, "--server", f"http://10.77.{i}.1:{PORT}")
    runs = {row["pool"]: row["run"] for row in json.loads(hosts.dyno(SERVER, "start", str(file), "--json"))}
    run = f"flow_runs/{runs[NODES[LOST]]}"
    wait("both have measured", lambda: all(hosts.measured(node) for node in NODES))
    hosts.link(LOST, "down")
    kept = hosts.measured(LOST)
    noticed_s = wait("the loss is noticed", lambda: hosts.ask(run).get("state_name") == "AwaitingRetry")
    hosts.link(LOST, "up")
    back_s = wait("all of it is measured", lambda: all(
        hosts.ask(f"flow_runs/{r}").get("state_type") == "COMPLETED" for r in runs.values()))
    return _lines(hosts, run, kept, noticed_s, back_s)


def _lines(hosts: Hosts, run: str, kept: dict[str, Measurement], noticed_s: float, back_s: float) -> list[Line]:
    for node in NODES:
        hosts.dyno(node, "push")
    hosts.dyno(SERVER, "ingest")
    a, b = (hosts.measured(node) for node in NODES)
    rows = json.loads(hosts.dyno(SERVER, "sql", "select trial_id from measurements", "--json"))
    ids = [row["trial_id"] for row in rows]
    spans = [(min(m.started_at for m in some.values()), max(m.started_at for m in some.values())) for some in (a, b)]
    expected = EXPERIMENT["repeats"]
    right = sum(m.host.hostname == node and m.trial.setup.engine.quantization == want for node, want, some in (
        ("dyno-a", "Q4_K_M", a), ("dyno-b", "Q8_0", b)) for m in some.values())
    return [at_least("pools", "trials on the right host", right, 2 * expected),
            at_least("pools", "measured at the same time (1: yes)", float(
                max(s[0] for s in spans) < min(s[1] for s in spans)), 1),
            Line("link cut", "noticed after, s", noticed_s),
            at_least("link cut", "runs of that node begun", float(hosts.ask(run).get("run_count", 0)), 2),
            at_least("link cut", "finished before, and kept as they were", sum(b.get(t) == m for t, m in kept.items()),
                     len(kept)),
            Line("link back", "all measured after, s", back_s),
            at_least("warehouse", "trials", len(set(ids)), 2 * expected),
            Line("warehouse", "trials stored twice", len(ids) - len(set(ids)), 0, "= 0", len(ids) == len(set(ids)))]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", action="store_true")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, Hosts(Path(folder)) as hosts:
        lines = measure(hosts)
    print(json.dumps([line.flat() for line in lines], indent=1) if asked.json else table(lines))
    sys.exit(any(line.met is False for line in lines))


if __name__ == "__main__":
    main()
