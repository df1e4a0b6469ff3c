"""Readers of bench.team, threads of one process as the sessions of an explorer are: they ask what its pages ask."""

from __future__ import annotations

import json
import logging
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

logging.disable(logging.WARNING)  # Streamlit's: its caches are not what is measured here
from app.views import _data  # noqa: E402
from warehouse import reader  # noqa: E402

Question = Callable[[Path, random.Random], object]
MEASURED = "from measurements where model = ? and hardware = ? order by started_at desc"


def main(served: Path, readers: int, seconds: float, look_s: float) -> None:
    asked: list[tuple[str, float]] = []
    errors: list[str] = []
    things = reader.query(served, "select model, hardware, any_value(trial_id) as trial from measurements group by all")
    trials = reader.query(served, "select trial_id from trials")["trial_id"].to_list()

    until = time.time() + seconds

    def pair(rng: random.Random) -> list[str]:
        row = things.row(rng.randrange(things.height), named=True)
        return [row["model"], row["hardware"]]

    questions: dict[str, Question] = {
        "what is held": lambda at, rng: reader.query(at, _data._HELD),
        "what can be compared": lambda at, rng: reader.query(at, _data._SCOPES),
        "a model on a machine": lambda at, rng: reader.query(at, MEASURED, pair(rng)),
        "the newest runs": lambda at, rng: reader.newest(at, 50),
        "runs found by words": lambda at, rng: reader.newest(at, 50, ["llama", "chat"]),
        "requests of a run": lambda at, rng: reader.requests(at, rng.choice(trials)),
        "telemetry of a run": lambda at, rng: reader.telemetry(at, rng.choice(trials)),
        "a person's SQL": lambda at, rng: reader.user_sql(
            at, "select engine, count(*), median(ttft_ms_p95) from measurements where trust = 'ok' group by all", 1000),
    }

    def read(number: int) -> None:
        rng = random.Random(number + time.time_ns())
        while time.time() < until:
            time.sleep(rng.uniform(0, 2 * look_s))
            name = rng.choice(list(questions))
            started = time.perf_counter()
            try:
                questions[name](served, rng)
            except Exception as error:  # whatever it is, it is what the figure counts
                errors.append(f"{name}: {type(error).__name__}: {error}")
            else:
                asked.append((name, (time.perf_counter() - started) * 1e3))

    threads = [threading.Thread(target=read, args=(i,)) for i in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"asked": asked, "errors": errors}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
