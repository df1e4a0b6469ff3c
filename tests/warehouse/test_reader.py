"""Readers: questions only, one-line errors, plain types."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from models.errors import QueryError, UserError
from models.frames import REQUESTS, TELEMETRY
from models.specs import Price
from models.summary import LATENCIES, STATISTICS
from tests.warehouse import fake
from warehouse import bundles, published, reader, writer


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("reader") / "with a 'quote'"
    for users in (1, 4):
        fake.store(home, fake.trial(concurrency=users))
    writer.set_price(home, Price(hardware=fake.MACHINE.name, price_usd_per_hour=0.08, date="2026-11", source="tests"))
    writer.ingest(home)
    writer.publish(home)
    return home


def test_without_a_snapshot_it_says_how_to_get_one(tmp_path: Path) -> None:
    assert published.stamp(tmp_path) is None
    for ask in (reader.query, reader.user_sql):
        with pytest.raises(UserError, match=r"make run.*dyno evaluate FILE"):
            ask(tmp_path, "from measurements")


def test_sql_of_the_first_page_works(home: Path) -> None:
    frame = reader.user_sql(home, """from measurements where model like 'synth%' and trust <> 'ok' and
                                     ttft_ms_p95 < 500 order by usd_per_million_output_tokens limit 5;""")
    assert frame["concurrency"].to_list() == [4, 1]
    assert frame["usd_per_million_output_tokens"].is_sorted()


@pytest.mark.parametrize("sql", [
    "show tables", "describe measurements", "summarize requests", "explain from trials", "explain analyze from trials",
    "pivot requests on phase using count(*) group by trial_id", "with t as (from trials) from t", "values (1)",
    "select usd_per_million_tokens(1, 1000)", "from recomputed", "from chunks", "from costs", "from hardware_prices",
    "select metric, round(value, 2) from metrics", "select measurement->>'trial_id' from trials",
])
def test_questions_are_answered(home: Path, sql: str) -> None:
    assert reader.user_sql(home, sql).height > 0


def test_of_several_statements_the_last_one_answers(home: Path) -> None:
    assert reader.user_sql(home, "from trials; select 7 as x;").to_dicts() == [{"x": 7}]


@pytest.mark.parametrize("sql", [
    "insert into prices select * from prices", "update trials set seed = 1", "delete from requests", "drop view costs",
    "drop table trials", "create table x (i int)", "create table memory.x (i int)", "create temp table x as select 1",
    "alter table trials add column x int", "truncate requests",
    "attach 'other.duckdb'", "attach ':memory:' as x", "detach dyno", "use memory",
    "copy trials to 'out.csv'", "copy trials from 'in.csv'", "export database 'out'", "import database 'in'",
    "from read_csv('/etc/passwd')", "from '/etc/passwd'", "from read_text('/etc/hostname')", "from glob('/*')",
    "from read_parquet('http://127.0.0.1:9/x.parquet')", "from sniff_csv('/etc/passwd')",
    "install httpfs", "load httpfs", "set enable_external_access = true", "set memory_limit = '1GB'",
    "reset enable_external_access", "pragma enable_profiling", "create secret (type s3)", "checkpoint",
    "call force_checkpoint()", "begin", "explain analyze insert into prices select * from prices",
    "select 1; drop table trials", "prepare p as select 1", "vacuum",
])
def test_anything_but_a_question_is_refused(home: Path, sql: str) -> None:
    before = (home / "published" / "dyno.duckdb").read_bytes()
    with pytest.raises(QueryError) as caught:
        reader.user_sql(home, sql)
    assert 1 <= len(str(caught.value).splitlines()) <= 2
    assert (home / "published" / "dyno.duckdb").read_bytes() == before


@pytest.mark.parametrize(("sql", "says"), [
    ("selec 1", 'syntax error at or near "selec"'),
    ("select nope from measurements", '"nope" not found'),
    ("from measurments", "Did you mean measurements"),
    ("from nothing_like_it", "show tables"),
    ("select 'x'::int", "Could not convert string 'x'"),
    ("", "try: from measurements"),
    (" ; -- nothing", "try: from measurements"),
])
def test_a_wrong_question_gives_duckdbs_own_words_in_two_lines(home: Path, sql: str, says: str) -> None:
    with pytest.raises(QueryError) as caught:
        reader.user_sql(home, sql)
    assert says in str(caught.value) and len(str(caught.value).splitlines()) <= 2


def test_a_result_is_cut_where_it_is_asked_to_be(home: Path) -> None:
    endless = "select i, i::varchar as text from range(100_000_000_000) t(i)"
    assert reader.user_sql(home, endless, rows_max=25)["i"].to_list() == list(range(25))
    assert reader.user_sql(home, "from trials", rows_max=1).height == 1
    assert reader.user_sql(home, "from trials where seed = -1", rows_max=5).is_empty()
    with pytest.raises(QueryError, match=r"more than the 50 MB .* `dyno sql`"):
        reader.user_sql(home, "select list(i) from range(50_000_000) t(i)", memory_mb=50)


def test_the_newest_are_found_by_all_of_the_words(home: Path) -> None:
    rows = reader.query(home, "from measurements order by trial_id")
    assert reader.newest(home, 9).sort("trial_id").equals(rows)
    assert reader.newest(home, 1).height == 1
    assert reader.newest(home, 9, ["LLAMA", "4 at once"])["concurrency"].to_list() == [4]
    assert reader.newest(home, 9, ["llama", "vllm"]).is_empty()


def test_types_are_plain(home: Path) -> None:
    frame = reader.user_sql(home, """select sum(output_tokens) as total, 1.50::decimal(9, 2) as d, 1 as a, 2 as a,
        interval '1 month 2 days 3 hours 4.5 seconds' as i, -interval '90 minutes' as j,
        max(started_at) - min(started_at) as k from requests, trials group by ()""")
    row = frame.to_dicts()[0]
    assert (row["d"], row["a"], row["a_1"], row["i"]) == (1.5, 1, 2, "1 month 2 days 03:00:04.5")
    assert (row["j"], row["k"]) == ("-01:30:00", "00:00:00")
    assert isinstance(row["total"], int | float)


def test_every_column_of_the_wide_view_is_listed_and_metrics_say_what_they_are(home: Path) -> None:
    schema = reader.schema(home)
    assert schema["name"][0] == "measurements"
    wide = schema.filter(name="measurements")
    assert wide["column"].to_list() == reader.query(home, "from measurements limit 0").columns
    comments = dict(zip(wide["column"], wide["comment"], strict=True))
    assert all(comments[f"{m}_{s}"] for m in LATENCIES for s in STATISTICS)
    assert schema.filter(pl.col("about").is_null())["name"].unique().to_list() == []
    assert not any(name.startswith("_") for name in schema["name"])


def test_frames_come_back_as_they_were_bundled(home: Path) -> None:
    bundle = reader.bundle_of(home, fake.trial(concurrency=4).trial_id[:8])
    requests = reader.requests(home, bundle.measurement.trial_id)
    assert dict(requests.schema) == REQUESTS
    assert_frame_equal(requests, bundle.requests)
    telemetry = reader.telemetry(home, bundle.measurement.trial_id)
    assert dict(telemetry.schema) == TELEMETRY
    assert_frame_equal(telemetry, bundle.telemetry, check_row_order=False)
    assert reader.requests(home, "unknown").is_empty()


def test_a_prefix_must_name_one_trial(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no trial begins with 'zz'"):
        reader.bundle_of(home, "zz")
    with pytest.raises(UserError, match="no trial begins with ''"):
        reader.bundle_of(home, "")
    monkeypatch.setattr(bundles, "present", lambda _: {"ab1", "ab2"})
    with pytest.raises(UserError, match="'ab' is the start of 2 trials: ab1, ab2"):
        reader.bundle_of(home, "ab")
