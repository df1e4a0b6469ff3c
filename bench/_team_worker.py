"""One worker of bench.team: a home of its own, a trial made up by rule every so often, pushed to the shared place."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from flows import share
from models.errors import DynoError
from tests.warehouse import fake


def main(home: Path, number: int, seconds: float, pause_s: float) -> None:
    errors: list[str] = []
    seed, until = number * 1_000_000, time.time() + seconds
    while time.time() < until:
        seed += 1
        fake.store(home, fake.trial(requests=100, seed=seed))
        try:
            share.push(home)
        except DynoError as error:
            errors.append(str(error))
        time.sleep(pause_s)
    share.push(home)
    print(json.dumps({"errors": errors}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
