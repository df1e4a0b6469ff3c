"""A process tree ends with the `with` that owns it, on every way out."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest

from engines._process import Process, redacted_argv, supervise
from models.errors import LaunchFailed

# A tree with a child, a child in a session of its own, and a grandchild whose parents are gone (a double fork).
TREE = """
import os, subprocess, sys, time
subprocess.Popen(["sleep", "300"])
subprocess.Popen(["sleep", "300"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", "300"])
    os._exit(0)
os.wait()
print("up", flush=True)
time.sleep(300)
"""
OWNER = """
import sys, time
from pathlib import Path
from engines._process import supervise
with supervise([sys.executable, "-c", sys.argv[1]], log_path=Path(sys.argv[2])) as process:
    while "up" not in process.log_tail():
        time.sleep(0.02)
    print(*process.pids(), flush=True)
    time.sleep(300)
"""


def until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def gone(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) for pid in pids)


def tree(log: Path) -> AbstractContextManager[Process]:
    return supervise([sys.executable, "-c", TREE], log_path=log)


def test_the_tree_is_whole_and_gone_afterwards(tmp_path: Path) -> None:
    with tree(tmp_path / "log") as process:
        assert until(lambda: "up" in process.log_tail())
        pids = process.pids()
        assert len(pids) == 4 and process.pid in pids
        assert all(psutil.pid_exists(pid) for pid in pids)
        assert process.alive()
    assert gone(pids)
    assert process.exit_code == -signal.SIGTERM
    assert not process.alive()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_ends_the_tree(error: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(error), tree(tmp_path / "log") as process:
        assert until(lambda: "up" in process.log_tail())
        pids = process.pids()
        raise error
    assert len(pids) == 4
    assert gone(pids)


def test_works_from_a_thread(tmp_path: Path) -> None:
    seen: list[list[int]] = []

    def own() -> None:
        with tree(tmp_path / "log") as process:
            until(lambda: "up" in process.log_tail())
            seen.append(process.pids())

    thread = threading.Thread(target=own)
    thread.start()
    thread.join(30)
    assert len(seen[0]) == 4
    assert gone(seen[0])


def owner_process(tmp_path: Path) -> tuple[subprocess.Popen[str], list[int]]:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, TREE, str(tmp_path / "log")], stdout=subprocess.PIPE,
                             text=True, cwd=Path(__file__).parents[2])
    assert owner.stdout is not None
    pids = [int(pid) for pid in owner.stdout.readline().split()]
    owner.stdout.close()
    return owner, pids


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_ends_the_owner_ends_the_tree(number: signal.Signals, tmp_path: Path) -> None:
    owner, pids = owner_process(tmp_path)
    assert len(pids) == 4
    owner.send_signal(number)
    owner.wait(20)
    assert until(lambda: gone(pids))


def test_a_killed_supervisor_takes_its_engine_along(tmp_path: Path) -> None:
    with supervise(["sleep", "300"], log_path=tmp_path / "log") as process:
        os.kill(psutil.Process(process.pid).ppid(), signal.SIGKILL)
        assert until(lambda: not process.alive())
        assert until(lambda: gone([process.pid]))


def test_a_process_deaf_to_sigterm_is_killed(tmp_path: Path) -> None:
    deaf = ("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "print('up', flush=True); time.sleep(300)")
    with supervise([sys.executable, "-c", deaf], log_path=tmp_path / "log", grace_s=0.2) as process:
        assert until(lambda: "up" in process.log_tail())
    assert process.exit_code == -signal.SIGKILL
    assert gone([process.pid])


def test_sigterm_comes_once_so_that_a_server_can_tidy_up(tmp_path: Path) -> None:
    tidy = ("import signal, sys, time\nseen = []\nsignal.signal(signal.SIGTERM, lambda *_: seen.append(1))\n"
            "print('up', flush=True)\nwhile not seen: time.sleep(0.01)\ntime.sleep(0.3); print('terms', len(seen))\n")
    with supervise([sys.executable, "-c", tidy], log_path=tmp_path / "log") as process:
        assert until(lambda: "up" in process.log_tail())
    assert process.log_tail().endswith("terms 1")
    assert process.exit_code == 0


def test_children_left_by_an_engine_that_ended_are_gone_too(tmp_path: Path) -> None:
    with supervise(["sh", "-c", "sleep 300 & echo $!; exit 3"], log_path=tmp_path / "log") as process:
        assert process.wait(20)
        assert process.exit_code == 3
        assert until(lambda: gone([int(process.log_tail())]))


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LaunchFailed, match="cannot start no-such-program: No such file"), \
            supervise(["no-such-program"], log_path=tmp_path / "log"):
        pass


def test_the_command_can_be_pasted_and_holds_no_secret(tmp_path: Path) -> None:
    secrets = {"HF_TOKEN": "hunter2", "OPENAI_API_KEY": "hunter2", "PLAIN": "a b"}
    argv = ["sh", "-c", 'echo "$PLAIN/$HF_TOKEN"', "--api-key", "hunter2", "--hf-token=hunter2", "--tokenizer", "x"]
    with supervise(argv, secrets, tmp_path / "log", cwd=tmp_path) as process:
        assert process.wait(20)
        assert process.log_tail() == "a b/hunter2"
        assert "hunter2" not in process.command
        assert "--tokenizer x" in process.command
    again = subprocess.run(process.command, shell=True, capture_output=True, text=True, check=True)
    assert again.stdout.strip() == "a b/***"


def test_which_options_are_secret() -> None:
    assert redacted_argv(["--token", "s", "--max-tokens", "5", "--api_key=s"]) == (
        "--token", "***", "--max-tokens", "5", "--api_key=***")


def test_the_tail_is_of_this_run_only(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("earlier\n")
    with supervise(["sh", "-c", "for i in 1 2 3 4 5; do echo line $i; done"], log_path=tmp_path / "log") as process:
        assert process.wait(20)
        assert process.log_tail(2) == "line 4\nline 5"
        assert process.log_tail().startswith("line 1")
    assert (tmp_path / "log").read_text().startswith("earlier\nline 1")
