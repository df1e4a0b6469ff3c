"""docs/warehouse.md is what `python -m warehouse.document` prints; all of the schema is explained; every worked
question runs as a person's SQL."""

from __future__ import annotations

from pathlib import Path

import duckdb
import polars as pl
import pytest

from models.specs import Price
from tests.warehouse import fake
from warehouse import _comments, _schema, document, reader, writer

PAGE = Path(__file__).parents[2] / "docs" / "warehouse.md"
EMPTY = {"What did the calibrated curves not foresee?",
         "What got slower with an engine's new version, or when it was measured again?"}
"""What nothing in a made-up warehouse answers."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("document")
    for quantization in ("F16", "Q8_0"):
        for users in (1, 4):
            fake.store(home, fake.trial(fake.setup(quantization=quantization), concurrency=users))
    writer.ingest(home)
    writer.set_price(home, Price(hardware=fake.MACHINE.name, price_usd_per_hour=0.12, date="2026-11-01", source="us"))
    writer.publish(home)
    return home


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text() == document.markdown(), "python -m warehouse.document > docs/warehouse.md"


def test_everything_is_explained(home: Path) -> None:
    schema = reader.schema(home)
    bare = schema.filter(pl.any_horizontal(pl.col("about", "comment").fill_null("") == ""))
    assert bare.select("name", "column").rows() == []


def test_no_explanation_is_of_something_that_is_not_there(home: Path) -> None:
    schema = reader.schema(home)
    there = set(schema.select(pl.format("{}.{}", "name", "column")).to_series())
    assert set(_comments.OWN) - there == set()
    assert set(_comments.COMMON) - set(schema["column"]) == set()
    said = _comments.said(sql for folder in ("migrations", "views") for _, sql in _schema.steps(folder))
    assert set(_comments.OWN) & said == set(), "said twice"


@pytest.mark.parametrize(("question", "sql"), document.QUESTIONS, ids=lambda value: value.split("\n")[0][:40])
def test_worked_questions_are_answered(home: Path, question: str, sql: str) -> None:
    answer = reader.user_sql(home, sql)
    assert answer.width > 1 and (answer.height > 0) != (question in EMPTY)
    assert sql.strip() in PAGE.read_text()


def test_a_worked_answer_is_right(home: Path) -> None:
    """Goodput by the worked question, against the module that defines it."""
    from models import slo

    sql = next(s for q, s in document.QUESTIONS if "goodput" in q)
    shares = sorted(reader.user_sql(home, sql)["share_within"])
    limits = slo.parse("ttft_ms_p95<=500 tpot_ms_p95<=50")
    trials = reader.query(home, "from measurements")["trial_id"]
    assert shares == pytest.approx(sorted(slo.share_within(reader.requests(home, t), limits) for t in trials))


def test_an_older_database_gets_its_explanations() -> None:
    with duckdb.connect(":memory:") as con:
        _schema.upgrade(con)
        con.execute("comment on column telemetry.source is null")
        con.execute("update _views set fingerprint = 'older'")
        _schema.upgrade(con)
        assert con.execute("select comment from duckdb_columns() where table_name = 'telemetry' and column_name = "
                           "'source'").fetchone() == (_comments.OWN["telemetry.source"],)
