"""Whose processes serve at a URL: those of this machine that can be seen, and nobody else's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from models.errors import UserError
from tests.workloads.truth import TruthServer
from workloads import serving

SERVER = """
import os, socket, subprocess, sys
server = socket.create_server(("127.0.0.1", 0))
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
print(server.getsockname()[1], os.getpid(), child.pid, flush=True)
sys.stdin.read()
"""
LAUNCHER = f"""
import subprocess, sys
router = subprocess.Popen([sys.executable, "-c", {SERVER!r}])
shard = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
router.wait()
"""


def started(code: str) -> Iterator[tuple[str, set[int], int]]:
    """The URL of a server, its own process and child, and the process that was started here."""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        port, *below = map(int, process.stdout.readline().split())
        yield f"http://127.0.0.1:{port}", set(below), process.pid


@pytest.fixture
def server() -> Iterator[tuple[str, set[int], int]]:
    yield from started(SERVER)


@pytest.fixture
def launched() -> Iterator[tuple[str, set[int], int]]:
    yield from started(LAUNCHER)


def test_a_server_is_whoever_listens_and_all_below(server: tuple[str, set[int], int]) -> None:
    url, tree, _ = server
    assert set(serving.pids(url)()) == tree == set(serving.pids(url.replace("127.0.0.1", "localhost"))())


def test_what_its_launcher_started_beside_it_belongs_to_it(launched: tuple[str, set[int], int]) -> None:
    url, tree, launcher = launched
    found = set(serving.pids(url)())
    assert tree | {launcher} < found and len(found) == 4 and os.getpid() not in found


def test_who_passes_on_what_others_answer_is_not_the_server(server: tuple[str, set[int], int],
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    url, (pid, *_), _ = server
    monkeypatch.setattr(serving, "FORWARDERS", frozenset({psutil.Process(pid).name()}))
    assert serving.pids(url)() == []


def test_of_another_machine_of_nobody_and_of_this_process_nothing_is_known() -> None:
    with TruthServer() as own:
        assert serving.pids(own.endpoint().url)() == []
    for url in ("http://192.0.2.77:8000", "http://127.0.0.1:1", "http://no-such-host.invalid:80"):
        assert serving.pids(url)() == []
    with pytest.raises(UserError, match="write http://host:port"):
        serving.pids("nonsense")


def test_a_server_that_is_gone_has_no_processes() -> None:
    servers = started(SERVER)
    url, _, pid = next(servers)
    look = serving.pids(url)
    subprocess.run(["kill", str(pid)], check=True)
    servers.close()
    assert look() == []
