"""What a launch asks of Kubernetes, as plain data: a pod, a service, and a secret where there is something to hide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engines._process import redacted, redacted_argv

MANAGED = "app.kubernetes.io/managed-by=dyno"
"""Selects everything that dyno made."""
_LAUNCH = "dyno/launch"
_STOP_S = 5


@dataclass(frozen=True)
class Wanted:
    """One launch. `mounts` are read-only and have the same path outside; with a `claim`, it is mounted at `cache`."""

    name: str
    engine: str
    image: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    port: int
    mounts: tuple[str, ...]
    cache: str
    claim: str | None = None
    gpus: int = 0
    gpu_resource: str = "nvidia.com/gpu"
    node_selector: Mapping[str, str] | None = None
    service_type: str = "ClusterIP"


def manifests(wanted: Wanted, *, blotted: bool = False) -> dict[str, dict[str, Any]]:
    """By kind, in the order of their creation. `blotted`: without secrets, to be shown.

    The pod is never restarted: an engine that came up again behind the load's back would be measured half-dead.
    """
    shown = redacted(wanted.environment)
    secret = {name: value for name, value in wanted.environment.items() if shown[name] != value}
    made = {"Secret": _object("Secret", wanted, type="Opaque", stringData=redacted(secret) if blotted else secret)
            } if secret else {}
    return made | {
        "Pod": _object("Pod", wanted, spec=pod(wanted, secret, blotted)),
        "Service": _object("Service", wanted, spec={
            "type": wanted.service_type, "selector": {_LAUNCH: wanted.name},
            "ports": [{"name": "http", "port": wanted.port, "targetPort": wanted.port, "protocol": "TCP"}]})}


def _object(kind: str, wanted: Wanted, **more: Any) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": wanted.engine, "app.kubernetes.io/managed-by": "dyno", _LAUNCH: wanted.name}
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": wanted.name, "labels": labels}, **more}


def pod(wanted: Wanted, secret: Mapping[str, str], blotted: bool) -> dict[str, Any]:
    """Its spec; variables of `secret` are taken from a Secret of the launch's name."""
    argv = redacted_argv(wanted.argv) if blotted else wanted.argv
    volumes, mounted = _volumes(wanted)
    container: dict[str, Any] = {
        "name": "engine", "image": wanted.image, "command": [_literal(word) for word in argv],
        "env": [{"name": name, **_value(wanted.name, name, value, secret)}
                for name, value in wanted.environment.items()],
        "ports": [{"name": "http", "containerPort": wanted.port, "protocol": "TCP"}],
        "volumeMounts": [*mounted, {"name": "shm", "mountPath": "/dev/shm"}]}  # noqa: S108
    pod: dict[str, Any] = {
        "restartPolicy": "Never", "terminationGracePeriodSeconds": _STOP_S, "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # a service named vllm would set VLLM_PORT
        "volumes": [*volumes, {"name": "shm", "emptyDir": {"medium": "Memory"}}], "containers": [container]}
    if wanted.node_selector:
        pod["nodeSelector"] = dict(wanted.node_selector)
    if wanted.gpus:
        container["resources"] = {"limits": {wanted.gpu_resource: str(wanted.gpus)}}
        pod["tolerations"] = [{"key": wanted.gpu_resource, "operator": "Exists", "effect": "NoSchedule"}]
    return pod


def _volumes(wanted: Wanted) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Volumes, and where they are mounted. What the claim does not hold has to be on the node."""
    volumes: list[dict[str, Any]] = []
    mounted: list[dict[str, Any]] = []
    held = [m for m in wanted.mounts if wanted.claim and m.startswith(f"{wanted.cache}/")]
    if held:
        volumes.append({"name": "cache", "persistentVolumeClaim": {"claimName": wanted.claim, "readOnly": True}})
        mounted.append({"name": "cache", "mountPath": wanted.cache, "readOnly": True})
    for i, path in enumerate(m for m in wanted.mounts if m not in held):
        volumes.append({"name": f"weights-{i}", "hostPath": {"path": path}})
        mounted.append({"name": f"weights-{i}", "mountPath": path, "readOnly": True})
    return volumes, mounted


def _value(secret_name: str, name: str, value: str, secret: Mapping[str, str]) -> dict[str, Any]:
    if name in secret:
        return {"valueFrom": {"secretKeyRef": {"name": secret_name, "key": name}}}
    return {"value": _literal(value)}


def _literal(text: str) -> str:
    """Kubernetes would replace $(NAME)."""
    return text.replace("$(", "$$(")
