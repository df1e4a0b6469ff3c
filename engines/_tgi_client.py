"""TGI's own client, PyPI's `text-generation`, in an environment of its own: it wants a huggingface-hub older than 1."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from engines import _packages
from models.errors import EndpointError
from models.progress import Progress, silent

_ASK = Path(__file__).with_name("_tgi_ask.py")
_START_S = 60.0
"""Seconds that the client may take to be loaded, beside its two requests."""


def python(progress: Progress = silent) -> Path:
    """The interpreter of the client's environment, made now if need be. Raises BuildFailed."""
    package = _packages.Package("text-generation", _packages.default_version("tgi"), shelf="clients")
    return _packages.environment(package, progress)


def check(url: str, timeout_s: float) -> None:
    """Returns when an answer in one piece and the same in a stream are whole. Raises EndpointError saying what is
    amiss, BuildFailed when the client cannot be installed."""
    argv = [str(python()), "-I", str(_ASK), url, str(max(1, round(timeout_s)))]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=2 * timeout_s + _START_S, check=False)
    except subprocess.TimeoutExpired:
        raise EndpointError(f"did not answer TGI's own client within {timeout_s:g} s") from None
    try:
        trouble = json.loads(done.stdout)
    except ValueError:
        last = (done.stdout + done.stderr).strip().splitlines()
        trouble = f"it ended: {last[-1] if last else done.returncode}"
    if trouble:
        raise EndpointError(f"did not answer its own client, text-generation, as TGI does: {trouble}")
