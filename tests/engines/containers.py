"""A real Docker API without Docker: podman's, with storage of its own; and an image made of this machine's files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IMAGE = "localhost/dyno-llama:test"
_CONFIG = """[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


def missing() -> str | None:
    """Why no container can run here."""
    for program in ("podman", "runc"):
        if not shutil.which(program):
            return f"{program} is not installed (Debian: apt-get install podman runc)"
    return None if os.getuid() == 0 else "podman is driven as root here, and this is another user"


@contextmanager
def docker_api(llama_server: Path) -> Iterator[str]:
    """Yields the address of a Docker API that has IMAGE. Its folder is a short one, for a socket's path is."""
    folder = Path(tempfile.mkdtemp(prefix="dyno-podman-"))
    (folder / "containers.conf").write_text(_CONFIG)
    env = {**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf")}
    socket = folder / "p.sock"
    try:
        podman = _import(env, folder, llama_server)
        with subprocess.Popen([*podman, "system", "service", "--time=0", f"unix://{socket}"], env=env, cwd=folder,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as service:
            try:
                deadline = time.monotonic() + 30
                while not socket.exists() and time.monotonic() < deadline:
                    time.sleep(0.05)
                yield f"unix://{socket}"
            finally:
                subprocess.run([*podman, "rm", "--all", "--force"], env=env, capture_output=True)
                service.terminate()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _import(env: dict[str, str], folder: Path, llama_server: Path) -> list[object]:
    """Makes IMAGE: llama-server in /app, with the libraries it needs. Returns the podman that has it: where the disk
    does not allow for layers, one that copies them."""
    root = folder / "rootfs"
    shutil.copytree(llama_server.parent, root / "app", symlinks=True)
    (root / "tmp").mkdir()
    linked = subprocess.run(["ldd", llama_server], capture_output=True, text=True, check=True).stdout
    for library in map(Path, re.findall(r"(/\S+) \(0x", linked)):
        if library.parent != llama_server.parent:
            (place := root / library.relative_to("/")).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, place)
    subprocess.run(["tar", "-C", root, "-cf", folder / "rootfs.tar", "."], check=True)
    shutil.rmtree(root)
    for driver in ("overlay", "vfs"):
        podman: list[object] = ["podman", "--root", folder / driver, "--runroot", folder / "run", "--tmpdir",
                                folder / "tmp", "--storage-driver", driver]
        done = subprocess.run([*podman, "import", folder / "rootfs.tar", IMAGE], env=env, capture_output=True,
                              text=True)
        if done.returncode == 0:
            return podman
    raise RuntimeError(done.stderr)
