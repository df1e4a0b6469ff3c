"""A container as its keeper sees it: made, followed and removed through the Docker API. Imported by `_keeper` only."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

import docker
from docker.errors import APIError, NotFound

from engines import _owner, _running
from engines._docker_api import connect
from engines._keeper import Tell

_STOP_S = 4
"""Seconds between SIGTERM and SIGKILL."""


class Container:
    """`options` are those of the SDK's `containers.create`."""

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self._client = connect()
        self._name, self._options = name, options
        self._memory = options.get("mem_limit")
        self._container: Any = None

    def create(self) -> None:
        options = dict(self._options)
        requests = [docker.types.DeviceRequest(**r) for r in options.pop("device_requests", ())]
        self._container = self._client.containers.create(
            name=self._name, device_requests=requests or None, detach=True,
            labels={_owner.KEY: _owner.mark()}, **options)

    def begin(self, tell: Tell) -> None:
        started_s = time.monotonic()
        self._container.start()
        self._container.reload()
        about = self._container.attrs
        tell({"started_s": started_s, "pid": about["State"].get("Pid"), "id": self._container.id,
              "image": _digest(self._client, about)})

    def follow(self, write: Callable[[bytes], None]) -> None:
        for piece in self._container.logs(stream=True, follow=True):
            write(piece)

    def ended(self) -> Mapping[str, Any]:
        code = self._container.wait().get("StatusCode")
        self._container.reload()
        state = self._container.attrs["State"]
        limit = f": it may have {self._memory / 2**30:g} GiB" if self._memory else ""
        if state.get("OOMKilled"):
            return {"exit": code, "ending": f"killed for want of memory{limit}"}
        if code == 128 + signal.SIGKILL:  # podman does not see it on every system
            return {"exit": code, "ending": f"{_running.of_signal(signal.SIGKILL)}{limit}"}
        return {"exit": code, "ending": str(state.get("Error") or "")}

    def remove(self) -> None:
        try:
            container = self._client.containers.get(self._name)
        except NotFound:
            return
        with contextlib.suppress(APIError):  # it may never have been started
            container.stop(timeout=_STOP_S)
        container.remove(force=True, v=True)


def _digest(client: docker.DockerClient, about: Mapping[str, Any]) -> str:
    """`name@sha256:…`: of the registry, or of the image itself where it never was in one."""
    name = str(about["Config"]["Image"])
    image = client.images.get(about["Image"])
    digests = image.attrs.get("RepoDigests") or []
    return f"{name}@{digests[0].partition('@')[2] if digests else image.id}"
