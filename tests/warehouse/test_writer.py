"""The writer: idempotent, one at a time, rebuilt from what lies on disk; the snapshot is swapped under its readers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from models.errors import UserError
from models.records import Warmup
from models.specs import HardwareSpec, Price
from tests.warehouse import fake
from warehouse import _schema, bundles, published, reader, writer

TABLES = ("models", "engines", "hardware", "workloads", "setups", "trials", "metrics", "verdicts", "requests",
          "chunk_timings", "telemetry", "prices", "failures")


def price(usd: float = 0.08, **more: object) -> Price:
    return Price.model_validate({"hardware": fake.MACHINE.name, "price_usd_per_hour": usd, "date": "2026-11",
                                 "source": "tests"} | more)


def everything(home: Path) -> dict[str, pl.DataFrame]:
    writer.publish(home)
    return {table: reader.query(home, f"from {table} order by all") for table in (*TABLES, "measurements", "costs")}


def filled(home: Path) -> Path:
    for users in (1, 4):
        fake.store(home, fake.trial(concurrency=users))
    fake.store(home, fake.trial(fake.setup("llama_cpp.server", "Q4_K_M", None), request_rate=2.5))
    bundles.write_failure(home, fake.failure(), "error: bad magic\n")
    writer.set_price(home, price())
    writer.ingest(home)
    return home


def test_ingest_stores_each_bundle_once(tmp_path: Path) -> None:
    home = filled(tmp_path)
    before = everything(home)
    assert before["trials"].height == before["measurements"].height == before["costs"].height == 3
    assert before["failures"].height == 1 and before["requests"].height == 26 + 32 + 32
    report = writer.ingest(home)
    assert (report.added, report.skipped, report.failed) == (0, 3, [])
    for name, frame in everything(home).items():
        assert_frame_equal(frame, before[name])


def test_a_trial_measured_again_replaces_its_rows(tmp_path: Path) -> None:
    home = filled(tmp_path)
    before = everything(home)
    fake.store(home, fake.trial(concurrency=4), started_at="2026-11-22T08:00:00+02:00", replace=True, itl_ms=20.0)
    report = writer.ingest(home)
    assert (report.added, report.skipped) == (1, 2)
    after = everything(home)
    assert after["requests"].height == before["requests"].height
    new = after["measurements"].filter(concurrency=4).row(0, named=True)
    old = before["measurements"].filter(concurrency=4).row(0, named=True)
    assert new["tpot_ms_p50"] > old["tpot_ms_p50"] and str(new["started_at"]) == "2026-11-22 06:00:00"


def test_rebuild_gives_the_same_database(tmp_path: Path) -> None:
    home = filled(tmp_path)
    before = everything(home)
    report = writer.rebuild(home)
    assert (report.added, report.skipped, report.failed) == (3, 0, [])
    assert not writer.is_published(home)
    for name, frame in everything(home).items():
        assert_frame_equal(frame, before[name])


def test_rebuild_replaces_a_database_that_is_none(tmp_path: Path) -> None:
    home = filled(tmp_path)
    (home / writer.DATABASE).write_bytes(b"not a database" * 1000)
    with pytest.raises(UserError, match="dyno rebuild"):
        writer.ingest(home)
    assert writer.rebuild(home).added == 3
    assert everything(home)["prices"].height == 1


def test_a_corrupt_bundle_is_reported_and_the_rest_is_stored(tmp_path: Path) -> None:
    for users in (1, 2, 4):
        path = fake.store(tmp_path, fake.trial(concurrency=users))
    (path / "requests.parquet").write_bytes(b"PAR1")
    (tmp_path / "prices").mkdir()
    (tmp_path / "prices" / "x.json").write_text("{}")
    report = writer.ingest(tmp_path)
    assert report.added == 2
    assert [p for p, _ in report.failed] == [path, tmp_path / "prices" / "x.json"]
    assert "not readable as Parquet" in report.failed[0][1]
    assert everything(tmp_path)["measurements"].height == 2


def test_a_newer_measurement_that_is_corrupt_leaves_the_older_rows(tmp_path: Path) -> None:
    path = fake.store(tmp_path)
    writer.ingest(tmp_path)
    (path / "measurement.json").write_text("{}")
    assert writer.ingest(tmp_path).failed[0][0] == path
    assert everything(tmp_path)["measurements"].height == 1


def test_a_reader_keeps_its_snapshot_while_a_new_one_is_swapped_in(tmp_path: Path) -> None:
    fake.store(tmp_path, fake.trial(concurrency=1))
    writer.ingest(tmp_path)
    writer.publish(tmp_path)
    stamp = published.stamp(tmp_path)
    with published.connect(tmp_path) as old:
        assert old.execute("select count(*) from measurements").fetchall() == [(1,)]
        fake.store(tmp_path, fake.trial(concurrency=2))
        writer.ingest(tmp_path)
        writer.publish(tmp_path)
        assert reader.query(tmp_path, "select count(*) as n from measurements")["n"].item() == 2
        assert old.execute("select count(*) from requests").fetchall() == [(26,)]
    assert published.stamp(tmp_path) != stamp
    assert [p.name for p in (tmp_path / "published").iterdir()] == ["dyno.duckdb"]


def test_is_published_notices_what_was_stored_since(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not writer.is_published(tmp_path)
    fake.store(tmp_path)
    writer.ingest(tmp_path)
    assert not writer.is_published(tmp_path)
    writer.publish(tmp_path)
    assert writer.is_published(tmp_path)
    writer.ingest(tmp_path)
    assert writer.is_published(tmp_path), "an ingest that stored nothing leaves the snapshot current"
    bundles.write_failure(tmp_path, fake.failure(), None)
    writer.ingest(tmp_path)
    assert not writer.is_published(tmp_path)
    writer.publish(tmp_path)
    monkeypatch.setattr(_schema, "fingerprint", lambda: "views of another dyno")
    assert not writer.is_published(tmp_path)


HOLD = """
import sys
from pathlib import Path
from warehouse import _disk, writer
with _disk.locked(Path(sys.argv[1]) / writer.LOCK):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_writers_wait_for_each_other(tmp_path: Path) -> None:
    fake.store(tmp_path)
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
    assert other.stdin and other.stdout
    with other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another dyno process is writing"):
            writer.ingest(tmp_path, timeout_s=0.1)
        other.stdin.close()
    assert writer.ingest(tmp_path).added == 1


def test_a_database_open_elsewhere_is_named(tmp_path: Path) -> None:
    filled(tmp_path)
    code = f"import duckdb, sys; c = duckdb.connect({str(tmp_path / writer.DATABASE)!r}); print('open', flush=True); " \
           "sys.stdin.read()"
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdin and other.stdout
    with other:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(UserError, match=r"is open in another program.*published"):
            writer.ingest(tmp_path)
        other.stdin.close()


def test_what_was_taken_for_warm_up_can_be_asked_for(tmp_path: Path) -> None:
    cuts = [None, Warmup(), Warmup(method="MSER-5", requests=7, seconds=1.25, because=("TTFT",)),
            Warmup(method="MSER-5", found=False, because=("TPOT",))]
    for users, cut in enumerate(cuts, 1):
        fake.store(tmp_path, fake.trial(concurrency=users), warmup=cut)
    writer.ingest(tmp_path)
    names = ("warmup_cut_requests", "warmup_cut_s", "warmup_method", "warmup_over")
    rows = everything(tmp_path)["measurements"].sort("concurrency").select(names).rows()
    assert rows == [(None, None, None, None), (0, 0.0, None, None), (7, 1.25, "MSER-5", True),
                    (0, 0.0, "MSER-5", False)]


def test_what_an_engine_says_of_itself_and_what_it_burns_can_be_asked_for(tmp_path: Path) -> None:
    """An earlier bundle says nothing of either, and is as readable."""
    what = fake.trial()
    requests = fake.requests_of(what)
    telemetry = fake.telemetry_of(requests)
    plain = fake.measurement_of(what, requests, telemetry)
    run = plain.run.model_copy(update={"kv_cache_tokens": 8192, "weights_bytes": 117, "overhead_bytes": 9,
                                       "settings": {"flash_attention": True}, "image": "engine:v1"})
    joules = plain.summary.metrics | {"joules_per_output_token": 1.5, "power_watts_mean": 90.0}
    summary = plain.summary.model_copy(update={"metrics": joules, "energy_source": "rapl: cpu_package0"})
    bundles.write(tmp_path, plain.model_copy(update={"run": run, "summary": summary}), requests, telemetry, None)
    old = fake.store(tmp_path, fake.trial(concurrency=1))
    record = json.loads((old / bundles.MEASUREMENT).read_text())
    for name in ("kv_cache_tokens", "weights_bytes", "overhead_bytes", "settings", "image"):
        del record["run"][name]
    del record["summary"]["energy_source"]
    (old / bundles.MEASUREMENT).write_text(json.dumps(record))
    assert writer.ingest(tmp_path).failed == []
    names = ("kv_cache_tokens", "weights_bytes", "overhead_bytes", "image", "joules_per_output_token",
             "joules_per_request", "power_watts_mean", "energy_source")
    tables = everything(tmp_path)
    assert tables["measurements"].sort("concurrency").select(names).rows() == [
        (None,) * 8, (8192, 117, 9, "engine:v1", 1.5, None, 90.0, "rapl: cpu_package0")]
    assert set(tables["trials"]["settings"]) == {"{}", '{"flash_attention": true}'}


def test_an_older_database_is_brought_up_to_date(tmp_path: Path) -> None:
    """A file that knows only the first steps keeps its rows and gets the others."""
    steps = _schema.steps("migrations")
    with duckdb.connect(str(tmp_path / writer.DATABASE)) as con:
        con.execute("create table _migrations (name varchar primary key, applied_at timestamp not null)")
        for name, sql in steps[:2]:
            con.execute(sql)
            con.execute("insert into _migrations values (?, now()::timestamp)", [name])
        con.execute("insert into hardware (hardware_id, name, kind, accelerators) values ('h', 'old box', 'cpu', 0)")
    fake.store(tmp_path)
    assert writer.ingest(tmp_path).added == 1
    tables = everything(tmp_path)
    assert set(tables["hardware"]["name"]) == {"old box", fake.MACHINE.name}
    assert reader.query(tmp_path, "from _migrations order by name")["name"].to_list() == [name for name, _ in steps]


def test_a_database_of_a_newer_dyno_is_left_alone(tmp_path: Path) -> None:
    filled(tmp_path)
    with duckdb.connect(str(tmp_path / writer.DATABASE)) as con:
        con.execute("insert into _migrations values ('9999_from_the_future', now()::timestamp)")
    with pytest.raises(UserError, match=r"newer dyno .step 9999_from_the_future"):
        writer.ingest(tmp_path)


def test_the_newest_price_that_a_person_gave_applies(tmp_path: Path) -> None:
    fake.store(tmp_path)
    writer.ingest(tmp_path)
    for usd, changed in ((0.08, 1), (0.09, 0)):
        bundled = [price(usd, tier="assumed", date="2027-01")]
        assert writer.set_prices(tmp_path, bundled, given=False, keep_existing=True) == changed
    assert everything(tmp_path)["measurements"]["price_usd_per_hour"].to_list() == [0.08]
    writer.set_price(tmp_path, price(0.30, tier="own", date="2026-10"))
    writer.set_price(tmp_path, price(0.20, tier="own", date="2026-11-20"))
    tables = everything(tmp_path)
    row = tables["measurements"].row(0, named=True)
    assert (row["price_usd_per_hour"], row["price_tier"], row["price_date"]) == (0.20, "own", "2026-11-20")
    costs = tables["costs"].sort("price_usd_per_hour")
    assert costs["price_usd_per_hour"].to_list() == [0.08, 0.20, 0.30]
    assert costs["applied"].to_list() == [False, True, False]
    writer.set_price(tmp_path, price(0.25, tier="own", date="2026-11-20"))
    assert everything(tmp_path)["measurements"]["price_usd_per_hour"].to_list() == [0.25], "a figure can be corrected"


def test_a_price_by_accelerator_counts_each_of_them(tmp_path: Path) -> None:
    node = HardwareSpec(name="node-7", kind="cuda", accelerator="NVIDIA H100 80GB HBM3", accelerators=4)
    fake.store(tmp_path, fake.trial(fake.setup(hardware=node)))
    fake.store(tmp_path, fake.trial())
    writer.ingest(tmp_path)
    writer.set_price(tmp_path, price(1.5, hardware="H100", tier="neocloud"))
    rows = everything(tmp_path)["measurements"].sort("accelerators")
    assert rows["price_usd_per_hour"].to_list() == [None, 6.0]
    assert rows["usd_per_million_output_tokens"].to_list()[0] is None
