"""Readers in several processes while the writer publishes again and again: no error, and what is new is seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.warehouse import fake
from warehouse import reader, writer

ROOT = Path(__file__).parent.parent.parent
READERS, PUBLISHED = 3, 50
READ = """
import json, sys
from pathlib import Path
from warehouse import published, reader

home, last = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
asked, seen = 0, []
while not seen or seen[-1] < last:
    with published.connect(home) as con:  # one snapshot: its tables agree
        trials, shown, measured = con.execute(
            "select (select count(*) from trials), (select count(*) from measurements where not fatal is null),"
            " (select count(distinct trial_id) from requests)").fetchone()
    assert trials == shown == measured, (trials, shown, measured)
    asked += 1
    seen += [trials] if not seen or trials != seen[-1] else []
    reader.user_sql(home, "from measurements order by started_at desc limit 5")
print(json.dumps({"asked": asked, "seen": seen}))
"""


def test_readers_never_see_an_error_while_the_writer_publishes(tmp_path: Path) -> None:
    fake.store(tmp_path, fake.trial(requests=4, seed=0))
    writer.ingest(tmp_path)
    writer.publish(tmp_path)
    argv = [sys.executable, "-c", READ, str(tmp_path), str(PUBLISHED + 1)]
    readers = [subprocess.Popen(argv, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True) for _ in range(READERS)]
    for one in readers:
        assert one.stdout and one.stdout.readline() == "ready\n"
    for seed in range(1, PUBLISHED + 1):
        fake.store(tmp_path, fake.trial(requests=4, seed=seed))
        writer.ingest(tmp_path)
        writer.publish(tmp_path)
        assert reader.query(tmp_path, "select count(*) as n from measurements")["n"].item() == seed + 1
    for one in readers:
        out, err = one.communicate(timeout=120)
        assert (one.returncode, err) == (0, "")
        read = json.loads(out)
        assert read["seen"] == sorted(read["seen"]) and read["seen"][-1] == PUBLISHED + 1
        assert len(read["seen"]) > 3, "it has read between the publishings"
