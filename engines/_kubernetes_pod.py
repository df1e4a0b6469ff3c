"""A pod as its keeper sees it: made, followed and removed through the Kubernetes API. Imported by `_keeper` only."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from kubernetes.client import ApiException, V1Pod
from urllib3.exceptions import HTTPError

from engines import _owner
from engines._keeper import Tell
from engines._kubernetes_api import API_TIMEOUT_S, connect

_POLL_S = 0.3
_PULL_S = 3600.0
"""Seconds that a node may take to have the image and start it."""
_GONE_S = 30.0
_HOPELESS = frozenset({"ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError",
                       "CreateContainerError", "RunContainerError", "CrashLoopBackOff"})


class Pod:
    """`manifests` by kind, in the order of creation."""

    def __init__(self, namespace: str, manifests: dict[str, dict[str, Any]], inside: bool,
                 node_address: str | None, schedule_s: float) -> None:
        self._api, self._namespace, self._manifests = connect().api, namespace, manifests
        self._name = manifests["Pod"]["metadata"]["name"]
        self._inside, self._node_address, self._schedule_s = inside, node_address, schedule_s

    def create(self) -> None:
        for kind, manifest in self._manifests.items():
            manifest["metadata"]["annotations"] = {_owner.KEY: _owner.mark()}
            getattr(self._api, f"create_namespaced_{kind.lower()}")(self._namespace, manifest,
                                                                    _request_timeout=API_TIMEOUT_S)

    def begin(self, tell: Tell) -> None:
        asked_s = time.monotonic()
        while True:
            pod = self._read()
            waited_s = time.monotonic() - asked_s
            state = _container(pod)
            if state is not None and (state.state.running or state.state.terminated):
                tell({"started_s": time.monotonic(), "image": f"{state.image}@{state.image_id.rpartition('@')[2]}",
                      "address": self._address(pod)})
                return
            if pod.status.phase in ("Failed", "Succeeded"):
                return
            waiting = state.state.waiting if state and state.state else None
            if waiting and waiting.reason in _HOPELESS:
                raise RuntimeError(f"{waiting.reason}: {waiting.message or ''}")
            trouble = _unscheduled(pod)
            if waited_s > (self._schedule_s if trouble else _PULL_S):
                raise RuntimeError(trouble or f"not started after {waited_s:.0f} s")
            time.sleep(_POLL_S)

    def follow(self, write: Callable[[bytes], None]) -> None:
        """A broken stream is taken up again from where the pod still runs; a few lines may be lost then."""
        tail: dict[str, Any] = {}
        while True:
            with contextlib.suppress(HTTPError):
                stream = self._api.read_namespaced_pod_log(self._name, self._namespace, follow=True,
                                                           _preload_content=False, **tail)
                for piece in stream.stream(65536, decode_content=True):
                    write(piece)
            if self._read().status.phase in ("Failed", "Succeeded"):
                return
            time.sleep(_POLL_S)
            tail = {"since_seconds": 1}

    def ended(self) -> Mapping[str, Any]:
        pod = self._read()
        state = _container(pod)
        ended = state.state.terminated if state and state.state else None
        if ended is None:
            return {"exit": 1, "ending": f"{pod.status.reason or 'the pod failed'}: {pod.status.message or ''}"}
        if ended.reason == "OOMKilled":
            return {"exit": ended.exit_code, "ending": "killed for want of memory"}
        why = f"{pod.status.reason}: {pod.status.message}" if pod.status.reason else ended.message or ""
        return {"exit": ended.exit_code, "ending": why}

    def remove(self) -> None:
        for kind in reversed(self._manifests):
            with contextlib.suppress(_Missing):
                self._call(f"delete_namespaced_{kind.lower()}")
        deadline = time.monotonic() + _GONE_S
        with contextlib.suppress(_Missing):
            while time.monotonic() < deadline:
                self._call("read_namespaced_pod")
                time.sleep(_POLL_S)
            self._call("delete_namespaced_pod", grace_period_seconds=0)

    def _read(self) -> V1Pod:
        """Raises RuntimeError when somebody else removed it."""
        try:
            return self._call("read_namespaced_pod")
        except _Missing as error:
            raise RuntimeError("the pod was removed by somebody else") from error

    def _address(self, pod: V1Pod) -> tuple[str, int]:
        service = self._call("read_namespaced_service").spec
        port = service.ports[0]
        if self._inside:
            return service.cluster_ip, port.port
        return self._node_address or pod.status.host_ip, port.node_port

    def _call(self, name: str, **options: Any) -> Any:
        """Raises _Missing when there is no such thing (any more)."""
        try:
            return getattr(self._api, name)(self._name, self._namespace, _request_timeout=API_TIMEOUT_S, **options)
        except ApiException as error:
            if error.status == 404:
                raise _Missing from error
            raise


class _Missing(Exception):
    pass


def _container(pod: V1Pod) -> Any:
    return (pod.status.container_statuses or [None])[0]


def _unscheduled(pod: V1Pod) -> str | None:
    """What the scheduler says of a pod that it finds no node for."""
    for condition in pod.status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return f"no node was found for it: {condition.message or condition.reason}"
    return None
