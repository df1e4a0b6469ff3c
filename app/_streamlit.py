"""How the explorer is started: Streamlit in place of this process, so there is no child to leave behind."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from models import paths
from models.errors import UserError

HOST = "127.0.0.1"
FIRST_PORT, PORTS_TRIED = 8501, 20
SCRIPT = Path(__file__).with_name("explorer.py")


def command(home: Path, port: int, browser: bool = False) -> tuple[list[str], dict[str, str]]:
    """Returns the argv of the explorer on a home and the environment it needs (to be merged into one's own)."""
    options = {
        "server.address": HOST, "server.port": str(port), "server.showEmailPrompt": "false",
        "server.fileWatcherType": "none", "browser.gatherUsageStats": "false", "client.toolbarMode": "viewer",
        "client.showErrorDetails": "type", "theme.baseFontSize": "14", "theme.light.primaryColor": "#0072B2",
        "theme.dark.primaryColor": "#56B4E9", "theme.headingFontSizes": "1.5rem,1.25rem,1.1rem",
        "theme.buttonRadius": "small", "theme.baseRadius": "small",
    }
    if not browser:
        options["server.headless"] = "true"
    flags = [f"--{name}={value}" for name, value in options.items()]
    # -P: a folder named app where it is started is not this one
    return [sys.executable, "-P", "-m", "app._warm", "run", str(SCRIPT), *flags], {"DYNO_HOME": str(home)}


def run(port: int | None, browser: bool) -> int:
    """Becomes the explorer; returns only when it could not. Raises UserError when the port asked for is taken."""
    argv, environment = command(paths.home(), free(port), browser)
    os.environ.update(environment)
    sys.stdout.flush()
    os.execv(argv[0], argv)  # noqa: S606
    return 1


def free(port: int | None) -> int:
    """The port asked for, or the next free one. Raises UserError when it is taken, or all are."""
    if port is not None:
        if _taken(port):
            raise UserError(f"port {port} is in use; leave --port out to take the next free one from {FIRST_PORT}")
        return port
    for candidate in range(FIRST_PORT, FIRST_PORT + PORTS_TRIED):
        if not _taken(candidate):
            return candidate
    raise UserError(f"no free port from {FIRST_PORT} to {FIRST_PORT + PORTS_TRIED - 1}; name one with --port")


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False
