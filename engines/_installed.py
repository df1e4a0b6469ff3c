"""Runtime `path`: a program that is already on this machine, and the version that it says it has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from models.errors import UserError


def program(path: str | None, default: str, wanted: str, why_not_found: str = "") -> Path:
    """Where `path`, or the program `default` on PATH, lies. Raises UserError naming engine.path when nowhere."""
    found = shutil.which(os.path.expanduser(path or default))  # noqa: PTH111  a name on PATH is no path
    if found is None:
        raise UserError(f"engine.path: {path} does not exist or cannot be run: give {wanted}" if path else
                        f"engine.path: runtime path needs {wanted}{why_not_found}")
    return Path(found).absolute()  # not resolved: a virtual environment's Python is a link


def version(named: Path | str, wanted: str, pattern: str, *argv: str, env: Mapping[str, str] | None = None,
            timeout_s: float = 60) -> str:
    """The first group of `pattern` in what argv says, line by line. Raises UserError with its last line when it is not
    there: `named` is then not what is `wanted`."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False,
                              env={**os.environ, **(env or {})})
        said = done.stdout + done.stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    if found := re.search(pattern, said, re.MULTILINE):
        return found[1]
    last = said.strip().splitlines()
    raise UserError(f"engine.path: {named} is not {wanted}: {last[-1] if last else 'it said nothing'}")
