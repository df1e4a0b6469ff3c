"""The wide table behind `measurements`: the same by the writer, by the migration of an older database, and by SQL."""

from __future__ import annotations

from pathlib import Path

import duckdb
from polars.testing import assert_frame_equal

from models.energy import ENERGY
from models.planning.points import Slots
from models.specs import HardwareSpec
from models.summary import LATENCIES, RATES, STATISTICS, TOTALS
from tests.warehouse import fake
from warehouse import _project, curves, reader, writer

WIDE = "from _measured order by trial_id"
DATED = ("requests", "chunk_timings", "telemetry")


def filled(home: Path) -> Path:
    """Trials with fatal verdicts, with warnings, with notes, and without any."""
    for users in (1, 4):
        fake.store(home, fake.trial(concurrency=users))
        fake.store(home, fake.trial(fake.setup(hardware=HardwareSpec(name="node", cores=64)), concurrency=users,
                                    requests=200))
    fake.store(home, fake.trial(request_rate=900.0))
    writer.ingest(home)
    writer.publish(home)
    return home


def test_an_older_database_gets_the_rows_that_the_writer_makes(tmp_path: Path) -> None:
    home = filled(tmp_path)
    before = {name: reader.query(home, f"from {name} order by all") for name in ("_measured", *DATED)}
    wide = before["_measured"]
    assert wide["verdicts"].n_unique() > 1 and wide["intervals"].list.drop_nulls().list.len().min() > 0
    with duckdb.connect(str(home / writer.DATABASE)) as con:
        con.execute("drop table _measured; delete from _views")
        con.execute("delete from _migrations where name between '0014' and '0017'")
        for name in DATED:
            con.execute(f"alter table {name} drop column trial_started_at")
    writer.ingest(home)
    writer.publish(home)
    for name, rows in before.items():
        again = reader.query(home, f"select {', '.join(rows.columns)} from {name} order by all")
        assert_frame_equal(again, rows)


def test_it_holds_what_metrics_and_verdicts_hold(tmp_path: Path) -> None:
    home = filled(tmp_path)
    names = (*RATES, *TOTALS, *ENERGY, *(f"{m}_{s}" for m in LATENCIES for s in STATISTICS))
    assert names == _project.FIGURES
    long = reader.query(home, "select trial_id, metric, value from metrics order by all")
    wide = reader.query(home, f"unpivot _measured on {', '.join(names)} into name metric value value")
    assert_frame_equal(wide.select("trial_id", "metric", "value").sort("trial_id", "metric"), long)
    judged = reader.query(home, "select trial_id, bool_or(severity = 'fatal') as fatal, count(*) as verdicts from "
                          "verdicts group by all")
    fatal = dict(judged.select("trial_id", "fatal").iter_rows())
    rows = reader.query(home, "from measurements")
    assert {r["trial_id"]: r["fatal"] for r in rows.to_dicts()} == {
        t: fatal.get(t, False) for t in rows["trial_id"]}


def test_a_trial_measured_again_has_one_row(tmp_path: Path) -> None:
    home = filled(tmp_path)
    fake.store(home, fake.trial(concurrency=4), started_at="2026-11-22T08:00:00+02:00", replace=True, itl_ms=20.0)
    writer.ingest(home)
    before = reader.query(home, WIDE)
    writer.publish(home)
    after = reader.query(home, WIDE)
    assert after["trial_id"].to_list() == before["trial_id"].to_list()
    changed = after.join(before, on=["trial_id", "tpot_ms_mean"], how="anti")
    assert changed["trial_id"].to_list() == [fake.trial(concurrency=4).trial_id]


def test_whose_slots_lie_apart_is_told(tmp_path: Path) -> None:
    plain, python, one = fake.setup(), fake.setup("llama_cpp.server", slots=None), fake.setup(slots=1)
    shared = plain.model_copy(update={"engine": plain.engine.model_copy(update={"extra_args": ("--kv-unified",)})})
    for setup in (plain, python, one, shared):
        for users in (1, 4):
            fake.store(tmp_path, fake.trial(setup, concurrency=users))
    writer.ingest(tmp_path)
    writer.publish(tmp_path)
    rows = reader.query(tmp_path, "select distinct setup_id, slots_apart from measurements").rows()
    assert dict(rows) == {plain.setup_id: True, python.setup_id: False, one.setup_id: False, shared.setup_id: False}
    served = {key.setup_id: slots for key, (_, slots) in curves.curves(tmp_path).items()}
    assert served[plain.setup_id] == Slots(most=4, apart=True) and served[shared.setup_id] == Slots(most=4)
