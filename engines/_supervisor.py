"""Owns one process tree on behalf of dyno. A program of its own: `_supervisor.py CONTROL STATUS LOG GRACE argv…`.

It lives exactly as long as the tree. When the pipe CONTROL ends, because dyno asked or died in whatever way, the whole
tree is terminated: SIGTERM, GRACE seconds, SIGKILL. On Linux it is the tree's subreaper, so that a process which
double-forked or began its own session is still found, and "no child left" means that nothing is left.

STATUS gets lines: `pid N` once started or `error ERRNO`, `exit CODE` when the engine itself ended (negative: a signal's
number), and end of file when the whole tree is gone. Standard library only, single-threaded, starts in about 20 ms.
"""

import os
import select
import signal
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def prctl(option: int, value: int) -> None:
    """Does nothing where the kernel has no such thing (macOS)."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def start(argv: list[str], log: str) -> int:
    """Starts argv in a session of its own, output to the log. Returns its pid; raises OSError when it cannot run."""
    errors, told = os.pipe()  # neither survives a successful exec
    supervisor = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # if the supervisor itself is killed
            if os.getppid() != supervisor:
                os._exit(1)
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(output, 1)
            os.dup2(output, 2)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
            os.execvp(argv[0], argv)  # noqa: S606
        except OSError as error:
            os.write(told, str(error.errno).encode())
        finally:
            os._exit(127)
    os.close(told)
    failure = os.read(errors, 16)
    os.close(errors)
    if failure:
        os.waitpid(pid, 0)
        raise OSError(int(failure), os.strerror(int(failure)))
    return pid


def descendants() -> list[int]:
    """Every process below this one, deepest last."""
    parents: dict[int, list[int]] = {}
    for pid, parent in processes():
        parents.setdefault(parent, []).append(pid)
    found = list(parents.get(os.getpid(), ()))
    for pid in found:
        found += parents.get(pid, ())
    return found


def processes() -> list[tuple[int, int]]:
    """(pid, parent's pid) of every process on this machine."""
    if not os.path.isdir("/proc/self"):  # noqa: PTH112  pathlib would triple the start-up time
        with os.popen("ps -axo pid=,ppid=") as listing:  # noqa: S605
            return [(int(pid), int(parent)) for pid, parent in (line.split() for line in listing)]
    pairs = []
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                    pairs.append((int(name), int(file.read().rpartition(b")")[2].split()[1])))
            except OSError:
                continue  # it ended meanwhile
    return pairs


class Tree:
    """The engine and everything below it."""

    def __init__(self, pid: int, status: int) -> None:
        self.pid, self.status, self.ended = pid, status, False

    def reap(self) -> bool:
        """Collects whoever ended, telling of the engine's own end. Returns whether anything is left."""
        while True:
            try:
                pid, code = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.pid:
                self.ended = True
                tell(self.status, f"exit {os.waitstatus_to_exitcode(code)}")

    def signal(self, number: int) -> None:
        """Signals every process of the tree once: for many servers a second SIGTERM means "do not tidy up"."""
        for pid in descendants():
            try:
                os.kill(pid, number)
            except OSError:
                continue
        if sys.platform != "linux" and number == signal.SIGKILL:  # without a subreaper orphans are only in the group
            try:
                os.killpg(self.pid, number)
            except OSError:
                return

    def terminate(self, grace_s: float, wake: int) -> None:
        """Returns when nothing is left."""
        self.signal(signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while self.reap() and time.monotonic() < deadline:
            wait([wake], 0.1)
        while self.reap():
            self.signal(signal.SIGKILL)  # repeated: a process may fork while it is being killed
            wait([wake], 0.02)
        self.signal(signal.SIGKILL)


def tell(status: int, line: str) -> None:
    """Tells dyno, if it is still there."""
    try:
        os.write(status, line.encode() + b"\n")
    except OSError:
        return


def wait(descriptors: list[int], seconds: float) -> list[int]:
    """Returns those with something to read; drains none but the wake-up pipe's bytes."""
    ready = select.select(descriptors, [], [], seconds)[0]
    if descriptors[-1] in ready:
        os.read(descriptors[-1], 4096)
    return ready


def main(control: int, status: int, log: str, grace_s: float, argv: list[str]) -> None:
    """Returns when the tree is gone."""
    os.set_inheritable(control, False)
    os.set_inheritable(status, False)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    dyno = os.getppid()
    wake, woken = os.pipe()
    for descriptor in (wake, woken):
        os.set_blocking(descriptor, False)
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: stop.append(number))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    try:
        tree = Tree(start(argv, log), status)
    except OSError as error:
        tell(status, f"error {error.errno}")
        return
    tell(status, f"pid {tree.pid}")
    # The parent is also looked at twice a second: a fork of dyno may hold the pipe's other end open for longer.
    while not (stop or tree.ended or os.getppid() != dyno or control in wait([control, wake], 0.5)):
        tree.reap()
    tree.terminate(grace_s, wake)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4]), sys.argv[5:])
