"""This machine's Docker API: where it is, and what it is. Light to import: a container's keeper does so too."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from models.errors import MissingTool, UserError

if TYPE_CHECKING:
    from docker import DockerClient

_SOCKETS = ("/var/run/docker.sock", "{runtime}/docker.sock", "~/.docker/run/docker.sock", "/run/podman/podman.sock",
            "{runtime}/podman/podman.sock")
"""Where a Docker API listens when DOCKER_HOST does not say."""


def connect() -> DockerClient:
    """Raises MissingTool when there is no SDK or nothing answers, UserError when that is another machine's."""
    try:
        import docker
        from docker.errors import DockerException
    except ImportError as error:
        raise MissingTool("runtime docker needs the Docker SDK: pip install 'llm-dyno[docker]'") from error
    host = _host()
    version = _greeting(host).get("api-version")  # podman takes seconds to tell the SDK its version
    try:
        return docker.from_env(version=version, environment={**os.environ, "DOCKER_HOST": host})
    except DockerException as error:
        raise MissingTool(f"{_none_at(host)} ({error})") from error


def is_podman() -> bool:
    """Whether it is podman that answers."""
    return "libpod-api-version" in _greeting(_host())


class _Local(HTTPConnection):
    """HTTP over a socket's path."""

    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _host() -> str:
    """The address of this machine's Docker API. Raises UserError when it is another machine's."""
    host = os.environ.get("DOCKER_HOST") or _socket()
    if urlsplit(host).scheme not in ("unix", "npipe") and urlsplit(host).hostname not in ("127.0.0.1", "localhost"):
        raise UserError(f"engine.runtime: the Docker API at {host} is another machine's, where neither the weights nor "
                        "the port would be: run dyno, or a Prefect worker, there")
    return host


def _greeting(host: str) -> Mapping[str, str]:
    """The headers of its ping; empty where only the SDK knows how to reach it. Raises MissingTool."""
    place = urlsplit(host)
    if place.scheme != "unix":
        return {}
    connection = _Local(place.path)
    try:
        connection.request("GET", "/_ping")
        return {name.lower(): value for name, value in connection.getresponse().getheaders()}
    except (OSError, HTTPException) as error:
        raise MissingTool(_none_at(host)) from error
    finally:
        connection.close()


def _none_at(host: str) -> str:
    return (f"runtime docker needs a Docker API, and none answers at {host}: start Docker or `podman system service`, "
            "or set DOCKER_HOST")


def _socket() -> str:
    runtime = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    places = [Path(p.format(runtime=runtime)).expanduser() for p in _SOCKETS]
    return f"unix://{next((p for p in places if p.is_socket()), places[0])}"
