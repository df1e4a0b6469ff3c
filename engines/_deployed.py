"""A deployment written down: as a command line, a Compose file, a Kubernetes manifest. Plain data and text."""

from __future__ import annotations

import os
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from engines import _docker, _kubernetes, _manifests, _ports
from engines._deployable import FETCHED
from engines._deployment import Deployment
from models import paths

HUB_TOKEN = "HF_TOKEN"  # noqa: S105  the name of a variable
SHARED_MEMORY = "8gb"
"""Of a container: what engines talk through between processes. Docker's own 64 MB are too few for more than one GPU."""
_WIDTH = 110
_START_S, _PERIOD_S = 3600, 10
"""Seconds that a server may take to fetch and load its model; seconds between two looks."""


def command(one: Deployment, key_env: str | None) -> str:
    """One line for a shell, of a program here or as `docker run`."""
    if one.image is None:
        words = [f"{name}={shlex.quote(value)}" for name, value in one.environment.items()]
        words += [f'{name}="${name}"' for name in one.secrets]
        words += [f'{one.key_variable}="${key_env}"'] if one.key_variable and key_env else []
        return " ".join([*words, shlex.join(one.argv), *_key_words(one, f'"${key_env}"')])
    options: dict[str, Any] = {
        "image": one.image, "entrypoint": [one.argv[0]], "command": list(one.argv[1:]),
        "environment": dict(one.environment), "volumes": dict.fromkeys(one.mounts), "shm_size": SHARED_MEMORY,
        "ports": {f"{one.port}/tcp": (_ports.HOST, one.port)}}
    if one.gpus and one.setup.hardware.kind == "cuda":
        options["device_requests"] = [{}]
    if one.gpus and one.setup.hardware.kind == "rocm":
        options |= {"devices": list(map(str, _docker.ROCM)), "group_add": ["video", "render"]}
    line = _docker.to_paste(options)
    given = [f"--env={name}" for name in one.secrets]
    given += [f"--env={HUB_TOKEN} --volume=dyno-models:{FETCHED}"] if one.fetches else []
    given += [f'--env={one.key_variable}="${key_env}"'] if one.key_variable else []
    line = " ".join(["docker run --rm", *given, line.removeprefix("docker run --rm ")])
    return " ".join([line, *_key_words(one, f'"${key_env}"')])


def compose(one: Deployment, instances: int, key_env: str | None) -> dict[str, Any]:
    """A Compose file (the Compose Specification's): a service an instance, each with its port and its own GPUs."""
    services = {}
    for number in range(instances):
        name = one.name if instances == 1 else f"{one.name}-{number + 1}"
        services[name] = _service(one, number, key_env)
    volumes: dict[str, Any] = {"volumes": {"models": {}}} if one.fetches else {}
    return {"name": one.name, "services": services, **volumes}


def _service(one: Deployment, number: int, key_env: str | None) -> dict[str, Any]:
    environment = {name: _dollar(value) for name, value in one.environment.items()}
    environment |= {name: f"${{{name}:?}}" for name in one.secrets}
    if one.fetches:
        environment[HUB_TOKEN] = f"${{{HUB_TOKEN}:-}}"
    if one.key_variable:
        environment[one.key_variable] = f"${{{key_env}:?}}"
    volumes: list[dict[str, Any]] = [{"type": "bind", "source": path, "target": path, "read_only": True}
                                     for path in one.mounts]
    volumes += [{"type": "volume", "source": "models", "target": FETCHED}] if one.fetches else []
    service: dict[str, Any] = {
        "image": one.image, "entrypoint": [one.argv[0]],
        "command": [*map(_dollar, one.argv[1:]), *_key_words(one, f"${{{key_env}:?}}")],
        "environment": environment, "ports": [f"{_ports.HOST}:{one.port + number}:{one.port}"],
        "shm_size": SHARED_MEMORY, "restart": "unless-stopped"}
    service |= {"volumes": volumes} if volumes else {}
    if one.health_path:
        service["healthcheck"] = _healthcheck(one)
    return service | _devices(one, number)


def _healthcheck(one: Deployment) -> dict[str, Any]:
    """By curl where the image has it, else by the Python that it has instead."""
    url = f"http://127.0.0.1:{one.port}{one.health_path}"
    python = f"import urllib.request; urllib.request.urlopen('{url}', timeout=5)"
    return {"test": ["CMD-SHELL", f'curl -fsS {url} || python3 -c "{python}"'], "interval": f"{_PERIOD_S}s",
            "timeout": "10s", "retries": 3, "start_period": f"{_START_S}s"}


def _devices(one: Deployment, number: int) -> dict[str, Any]:
    """NVIDIA's GPUs by number, as `count` would give every instance the same ones."""
    if not one.gpus:
        return {}
    if one.setup.hardware.kind == "rocm":
        return {"devices": [f"{path}:{path}" for path in _docker.ROCM], "group_add": ["video", "render"]}
    ids = [str(number * one.gpus + i) for i in range(one.gpus)]
    return {"deploy": {"resources": {"reservations": {"devices": [
        {"driver": "nvidia", "device_ids": ids, "capabilities": ["gpu"]}]}}}}


def kubernetes(one: Deployment, instances: int, key_env: str | None) -> list[dict[str, Any]]:
    """A Deployment and a Service. The pod is that of runtime kubernetes, only that it is restarted when it ends.

    Weights come from the claim that DYNO_KUBERNETES_CLAIM names, or lie on the node at the same path.
    """
    secret = dict.fromkeys([*one.secrets, *([one.key_variable or key_env] if key_env else [])], "")
    claim = os.environ.get("DYNO_KUBERNETES_CLAIM")
    wanted = _manifests.Wanted(
        name=one.name, engine=one.setup.engine.engine, image=one.image or "", argv=one.argv,
        environment={**one.environment, **{str(n): v for n, v in secret.items()}}, port=one.port, mounts=one.mounts,
        cache=str(paths.cache()), claim=claim, gpus=one.gpus,
        gpu_resource=_kubernetes.GPUS.get(one.setup.hardware.kind, ""))
    spec = _manifests.pod(wanted, {str(n): v for n, v in secret.items()}, blotted=False)
    del spec["restartPolicy"]
    spec["terminationGracePeriodSeconds"] = 60
    container = spec["containers"][0]
    container["command"] += _key_words(one, f"$({key_env})")
    _name_keys(container["env"], one, key_env)
    if one.fetches:
        container["env"].append({"name": HUB_TOKEN, "valueFrom": {"secretKeyRef": {
            "name": one.name, "key": HUB_TOKEN, "optional": True}}})
        spec["volumes"].append({"name": "models", "persistentVolumeClaim": {"claimName": claim}} if claim else
                               {"name": "models", "emptyDir": {}})
        container["volumeMounts"].append({"name": "models", "mountPath": FETCHED})
    if not one.gpus and one.threads:
        container["resources"] = {"requests": {"cpu": str(one.threads + 1)}}
    container |= _probes(one)
    labels = {"app.kubernetes.io/name": wanted.engine, "app.kubernetes.io/instance": one.name}
    about = {"name": one.name, "labels": labels}
    return [{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": about, "spec": {
                "replicas": instances, "selector": {"matchLabels": labels},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
                "template": {"metadata": {"labels": labels}, "spec": spec}}},
            {"apiVersion": "v1", "kind": "Service", "metadata": about, "spec": {
                "type": "ClusterIP", "selector": labels,
                "ports": [{"name": "http", "port": one.port, "targetPort": "http", "protocol": "TCP"}]}}]


def _name_keys(env: list[dict[str, Any]], one: Deployment, key_env: str | None) -> None:
    """The Secret's entry is called as the person calls it, whatever the server does."""
    for entry in env:
        if key_env and entry["name"] == (one.key_variable or key_env):
            entry["valueFrom"]["secretKeyRef"]["key"] = key_env


def _probes(one: Deployment) -> dict[str, Any]:
    """Loading may take long; what serves already is asked often, and left to itself while it is only busy."""
    asked = {"httpGet": {"path": one.health_path, "port": "http"}}
    look = asked if one.health_path else {"tcpSocket": {"port": "http"}}
    return {"startupProbe": {**look, "periodSeconds": _PERIOD_S, "failureThreshold": _START_S // _PERIOD_S},
            "readinessProbe": {**look, "periodSeconds": _PERIOD_S, "timeoutSeconds": 5, "failureThreshold": 3}}


def _key_words(one: Deployment, value: str) -> list[str]:
    return [one.key_option, value] if one.key_option else []


def _dollar(text: str) -> str:
    """Compose would replace $NAME."""
    return text.replace("$", "$$")


def dumped(documents: Sequence[Mapping[str, Any]], comments: Sequence[str]) -> str:
    """As YAML, the comments at the top."""
    lines = [line for comment in comments for line in textwrap.wrap(comment, _WIDTH, break_on_hyphens=False,
                                                                break_long_words=False)]
    head = "".join(f"# {line}\n" for line in lines)
    return head + yaml.dump_all(documents, Dumper=_Plain, sort_keys=False, width=_WIDTH, allow_unicode=True)


class _Plain(yaml.SafeDumper):
    """Writes what occurs twice twice: people read it."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
