"""Runtime `docker`: an engine in its image, through the Docker API of this machine (Docker's own, or podman's).

The container sees the weights read-only at the same path, and no more of this machine's memory and CPUs than a process
of dyno would have. On Linux it shares the host's network, so that nothing stands in the measured path; elsewhere, and
where the daemon has a network of its own (Docker Desktop, rootless), its port is published on the loopback address.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from engines import _kept, _owner, _ports
from engines._contract import Command, Install
from engines._docker_api import connect, is_podman
from engines._hardware import usable_cpus
from engines._process import redacted, redacted_argv
from models.errors import BuildFailed, UserError
from models.progress import Progress
from models.specs import Setup

if TYPE_CHECKING:
    from docker import DockerClient

ROCM = (Path("/dev/kfd"), Path("/dev/dri"))
"""What AMD's GPUs are reached by."""
_PASSED_ON = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
"""Variables of dyno's own that say which GPUs it may use; a process would inherit them."""


def prepare(setup: Setup, install: Install, progress: Progress) -> Install:
    """Has the image pulled unless it is there, and says where the server in it has to listen. Raises UserError and
    BuildFailed."""
    with contextlib.closing(connect()) as client:
        podman = is_podman()
        if setup.hardware.kind == "cuda" and podman:
            raise UserError("engine.runtime: the Docker API of podman hands no GPU to a container: use Docker, or "
                            "runtime venv or path")
        _pull(client, _image(install), progress)
        apart = sys.platform != "linux" or (not podman and _has_own_network(client.info()))
    return replace(install, host=_ports.ANY if apart else _ports.HOST)


def _has_own_network(about: dict[str, Any]) -> bool:
    """Whether what this Docker calls the host's network is not this machine's."""
    options = " ".join(map(str, about.get("SecurityOptions") or ()))
    return "Desktop" in str(about.get("OperatingSystem")) or "name=userns" in options or "name=rootless" in options


@contextlib.contextmanager
def contain(setup: Setup, install: Install, command: Command, mounts: list[Path], port: int,
            log_path: Path) -> Iterator[_kept.Kept]:
    """Runs a command in its image for as long as the `with`. Orphans of killed launches are removed first."""
    sweep()
    shared = install.host == _ports.HOST
    options = create_options(setup, _image(install), command, mounts, port, shared)
    spec = {"runtime": "docker", "name": f"dyno-{setup.setup_id[:8]}-{uuid.uuid4().hex[:8]}", "options": options}
    with _kept.keep(spec, log_path, label=command.argv[0].rpartition("/")[2], command=to_paste(options),
                    seen=shared) as kept:
        yield kept


def create_options(setup: Setup, image: str, command: Command, mounts: list[Path], port: int,
                   shared: bool) -> dict[str, Any]:
    """What the SDK's `containers.create` is given."""
    environment = {k: os.environ[k] for k in _PASSED_ON if k in os.environ} | dict(command.environment)
    total, wanted = psutil.virtual_memory().total, (setup.hardware.memory_gib or 0) << 30
    options: dict[str, Any] = {
        "image": image, "entrypoint": [command.argv[0]], "command": list(command.argv[1:]),
        "environment": environment, "volumes": {str(p): {"bind": str(p), "mode": "ro"} for p in mounts},
        "shm_size": total // 2,  # as much as the system's own /dev/shm: engines talk through it
        "ipc_mode": "private",   # what is left in it goes with the container
        "security_opt": ["label=disable"]}  # SELinux would otherwise want the weights relabelled
    if shared:
        options["network_mode"] = "host"
    else:
        options["ports"] = {f"{port}/tcp": (_ports.HOST, port)}
    if 0 < wanted < total - (1 << 30):
        options |= {"mem_limit": wanted, "memswap_limit": wanted}
    if len(cpus := usable_cpus()) < (os.cpu_count() or 1):
        options["cpuset_cpus"] = ",".join(map(str, sorted(cpus)))
    if setup.hardware.kind == "cuda":
        options["device_requests"] = [{"count": -1, "capabilities": [["gpu"]]}]
    if setup.hardware.kind == "rocm":
        there = [p for p in ROCM if p.exists()]
        options |= {"devices": [f"{p}:{p}:rwm" for p in there], "group_add": _groups(there)}
    return options


def _groups(devices: list[Path]) -> list[str]:
    """The groups that may open them, by number: the image may call them something else."""
    nodes = [n for d in devices for n in ([d] if not d.is_dir() else d.glob("render*"))]
    return sorted({str(n.stat().st_gid) for n in nodes})


def to_paste(options: dict[str, Any]) -> str:
    """The same as a `docker run`; secrets are blotted out."""
    words = ["docker", "run", "--rm"]
    words += ["--network=host"] if "network_mode" in options else [
        f"--publish={host}:{port}:{inside.partition('/')[0]}" for inside, (host, port) in options["ports"].items()]
    words += [f"--volume={path}:{path}:ro" for path in options["volumes"]]
    words += [f"--env={name}={value}" for name, value in redacted(options["environment"]).items()]
    words += [f"--shm-size={options['shm_size']}"]
    words += [f"--memory={limit}"] if (limit := options.get("mem_limit")) else []
    words += [f"--cpuset-cpus={cpus}"] if (cpus := options.get("cpuset_cpus")) else []
    words += ["--gpus=all"] if "device_requests" in options else []
    words += [f"--device={d}" for d in options.get("devices", ())]
    words += [f"--group-add={g}" for g in options.get("group_add", ())]
    return shlex.join([*words, f"--entrypoint={options['entrypoint'][0]}", options["image"],
                       *redacted_argv(options["command"])])


def sweep() -> list[str]:
    """Removes containers whose keeper was killed; returns their names."""
    from docker.errors import NotFound

    swept = []
    with contextlib.closing(connect()) as client:
        for one in client.api.containers(all=True, filters={"label": _owner.KEY}):
            if _owner.is_orphan(one["Labels"].get(_owner.KEY, "")):
                with contextlib.suppress(NotFound):
                    client.api.remove_container(one["Id"], force=True, v=True)
                    swept.append(str(one["Names"][0]).removeprefix("/"))
    return swept


def _pull(client: DockerClient, image: str, progress: Progress) -> None:
    """Raises BuildFailed when the image is neither here nor to be had."""
    from docker.errors import APIError, ImageNotFound
    from docker.utils import parse_repository_tag

    with contextlib.suppress(ImageNotFound):
        client.images.get(image)
        return
    repository, tag = parse_repository_tag(image)
    layers: dict[str, tuple[int, int]] = {}
    try:
        for event in client.api.pull(repository, tag=tag or "latest", stream=True, decode=True):
            if "error" in event:
                raise BuildFailed(f"engine.image: {image} cannot be pulled: {event['error']}")
            if (part := event.get("progressDetail") or {}).get("total"):
                layers[event["id"]] = (part["current"], part["total"])
            done, total = (sum(n) for n in zip(*layers.values(), strict=True)) if layers else (0, 0)
            progress(f"pulling {image}", done / total if total else None, event.get("status", ""))
        client.images.get(image)
    except (APIError, ImageNotFound) as error:
        raise BuildFailed(f"engine.image: {image} cannot be pulled: {error.explanation or error}") from error


def _image(install: Install) -> str:
    if not install.image:
        raise UserError("engine.image: this engine has no image of its own: name one")
    return install.image
