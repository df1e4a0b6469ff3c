"""An answer that `dyno choose --json` printed, read back."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydantic import ValidationError

from models.choosing.answer import Answer
from models.errors import UserError


def read(file: Path) -> Answer:
    """Reads a file, or stdin for `-`. What --guided adds is passed over. Raises UserError when it is no answer."""
    try:
        found = json.loads(sys.stdin.read() if str(file) == "-" else file.read_text())
        return Answer.model_validate({name: found[name] for name in Answer.model_fields if name in found})
    except OSError as error:
        raise UserError(f"--answer: {file}: {error.strerror}") from None
    except (ValueError, TypeError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--answer: {file} is no answer of `dyno choose --json`: {reason}") from None
