"""A Kubernetes API over real HTTP, as far as a launch speaks with one: its pods are processes of this machine."""

from __future__ import annotations

import http.server
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_PATH = re.compile(r"/api/v1/namespaces/(?P<namespace>[\w-]+)/(?P<kind>pods|services|secrets)"
                   r"(?:/(?P<name>[\w-]+)(?P<log>/log)?)?(?:\?(?P<query>.*))?$")


@dataclass
class Cluster:
    """What was asked of it, and how its pods shall fare: `schedule` and `waiting` hold them back, with that reason."""

    folder: Path
    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    unschedulable: str | None = None
    waiting: str | None = None
    oom: bool = False
    refused: bool = False

    def start(self, pod: dict[str, Any]) -> None:
        """Runs what the pod's container says, with secrets resolved and `$$(` read as `$(`."""
        name, container = pod["metadata"]["name"], pod["spec"]["containers"][0]
        env = {e["name"]: e["value"] if "value" in e else
               self.objects["secrets", e["valueFrom"]["secretKeyRef"]["name"]]["stringData"][e["name"]]
               for e in container["env"]}
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen([w.replace("$$(", "$(") for w in container["command"]], stdout=log,
                                                    stderr=subprocess.STDOUT, env={**os.environ, **env})

    def status(self, name: str) -> dict[str, Any]:
        """In the shapes of the real thing."""
        process = self.processes.get(name)
        said: dict[str, Any] = {"name": "engine", "ready": False, "restartCount": 0, "image": "i:1",
                                "imageID": "registry.example/i@sha256:abc"}
        if process is None:
            conditions = [{"type": "PodScheduled", "status": "False" if self.unschedulable else "True",
                           "reason": "Unschedulable", "message": self.unschedulable}]
            said["state"] = {"waiting": {"reason": self.waiting or "ContainerCreating", "message": "because"}}
            return {"phase": "Pending", "conditions": conditions, "hostIP": "127.0.0.1",
                    "containerStatuses": [] if self.unschedulable else [said]}
        if (code := process.poll()) is None:
            said |= {"ready": True, "state": {"running": {"startedAt": "2026-11-20T12:00:00Z"}}}
        else:
            reason = "OOMKilled" if self.oom else "Completed" if code == 0 else "Error"
            said["state"] = {"terminated": {"exitCode": code if code >= 0 else 128 - code, "reason": reason}}
        phase = "Running" if code is None else "Failed" if code else "Succeeded"
        return {"phase": phase, "hostIP": "127.0.0.1", "podIP": "127.0.0.1", "containerStatuses": [said]}

    def end(self, name: str) -> None:
        if process := self.processes.pop(name, None):
            process.kill()
            process.wait()


@contextmanager
def serving(folder: Path) -> Iterator[tuple[Cluster, Path]]:
    """Yields the cluster and a kubeconfig that names it."""
    cluster = Cluster(folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"cluster": cluster}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    config = folder / "kubeconfig"
    config.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "k", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "bench"}}]}))
    try:
        yield cluster, config
    finally:
        for name in list(cluster.processes):
            cluster.end(name)
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    cluster: Cluster
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        kind, _, body = self._asked()
        if self.cluster.refused:
            return self._say(403, {"kind": "Status", "message": f"{kind} is forbidden", "code": 403})
        name = body["metadata"]["name"]
        body["metadata"]["namespace"] = "bench"
        if kind == "services":
            body["spec"]["clusterIP"] = "127.0.0.1"
            for port in body["spec"]["ports"]:  # one machine: the node's port is the pod's
                port["nodePort"] = port["targetPort"]
        self.cluster.objects[kind, name] = body
        if kind == "pods" and not (self.cluster.unschedulable or self.cluster.waiting):
            self.cluster.start(body)
        return self._say(201, body)

    def do_GET(self) -> None:
        kind, found, _ = self._asked()
        name = found["name"]
        if name is None:
            wanted = [o for (k, _), o in list(self.cluster.objects.items()) if k == kind]
            return self._say(200, {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": wanted})
        there = self.cluster.objects.get((kind, name))
        if there is None:
            return self._say(404, {"kind": "Status", "message": f'{kind} "{name}" not found', "code": 404})
        if found["log"]:
            return self._log(name)
        return self._say(200, {**there, "status": self.cluster.status(name) if kind == "pods" else {}})

    def do_DELETE(self) -> None:
        kind, found, _ = self._asked()
        gone = self.cluster.objects.pop((kind, found["name"]), None)
        if gone is None:
            return self._say(404, {"kind": "Status", "message": "not found", "code": 404})
        if kind == "pods":
            self.cluster.end(found["name"])
        return self._say(200, gone)

    def _log(self, name: str) -> None:
        """Follows the log until the pod has ended, in chunks."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with (self.cluster.folder / f"{name}.log").open("rb") as log:
            while True:
                process = self.cluster.processes.get(name)
                ended = process is None or process.poll() is not None
                if data := log.read():
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                elif ended:
                    break
                time.sleep(0.05)
        self.wfile.write(b"0\r\n\r\n")

    def _asked(self) -> tuple[str, dict[str, Any], dict[str, Any]]:
        found = _PATH.match(self.path)
        assert found, self.path
        length = int(self.headers.get("Content-Length") or 0)
        self.cluster.calls.append(f"{self.command} {self.path}")
        return found["kind"], found.groupdict(), json.loads(self.rfile.read(length)) if length else {}

    def _say(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
