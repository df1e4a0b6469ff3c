"""Run as a script where `text-generation` is installed: has TGI answer one question twice and says what is amiss."""

from __future__ import annotations

import json
import sys
from importlib import import_module

_TOKENS = 4


def asked(url: str, timeout_s: int) -> str | None:
    """What is amiss with an answer in one piece and one in a stream, None if nothing is."""
    client = import_module("text_generation").Client(url, timeout=timeout_s)
    try:
        whole = client.generate("Hello", max_new_tokens=_TOKENS)
        events = list(client.generate_stream("Hello", max_new_tokens=_TOKENS))
    except Exception as error:  # whatever it is, it is the finding
        return f"{type(error).__name__}: {error}"
    counted = whole.details.generated_tokens if whole.details else 0
    if not 0 < counted <= _TOKENS:
        return f"{counted} tokens in one piece, where 1 to {_TOKENS} were asked for"
    last = events[-1] if events else None
    if last is None or last.details is None or last.generated_text is None:
        return "the stream ended without the whole text and the details"
    if len(events) != last.details.generated_tokens:
        return f"{len(events)} events in a stream of {last.details.generated_tokens} tokens"
    if last.generated_text != whole.generated_text:
        return f"the stream said {last.generated_text!r} where the answer in one piece was {whole.generated_text!r}"
    return None


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asked(sys.argv[1], int(sys.argv[2]))))
