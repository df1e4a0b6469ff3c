"""Next-token distributions on disk and in the warehouse, and which setup is compared with which."""

from __future__ import annotations

import math
import random
from pathlib import Path

import polars as pl
import pytest

from models.errors import BundleError
from models.frames import DISTRIBUTIONS
from models.records import Asked
from models.specs import Batching, Setup
from tests.warehouse import fake
from warehouse import distributions, reader, writer

POSITIONS, TOKENS = 6, 50


def setup(quantization: str, engine: str = "llama_cpp", variant: str | None = "llama-server",
          **fields: object) -> Setup:
    plain = fake.setup(quantization=quantization)
    return plain.model_copy(update={"engine": plain.engine.model_copy(
        update={"engine": engine, "variant": variant, **fields})})


def told(home: Path, of: Setup, noise: float, text_id: str = "one", version: str = "1.0",
         at: str = "2026-11-20T10:00:00+00:00") -> Asked:
    """Distributions made by rule: the same for everyone, but for noise on the logits."""
    asked = Asked(
        numerics_id=of.numerics_id, setup=of, variant=of.engine.variant, engine_version=version, text="quality-1",
        text_id=text_id, by="ids", positions=POSITIONS, next_tokens=(3,) * (POSITIONS - 1) + (None,), top=TOKENS,
        asked_at=at, seconds=1.5)
    rows = []
    for position in range(POSITIONS):
        base, own = random.Random(position), random.Random(f"{of.numerics_id}{position}")
        logits = [base.gauss(0, 2) + own.gauss(0, noise) for _ in range(TOKENS)]
        total = math.log(sum(map(math.exp, logits)))
        order = sorted(range(TOKENS), key=lambda i: -logits[i])
        rows += [(of.numerics_id, text_id, position, rank, token, f" t{token}", logits[token] - total)
                 for rank, token in enumerate(order)]
    distributions.write(home, asked, pl.DataFrame(rows, schema=DISTRIBUTIONS, orient="row"))
    return asked


def quality(home: Path) -> dict[str, dict[str, object]]:
    """Rows of the view by quantisation, KV type and engine."""
    assert writer.ingest(home).failed == []
    writer.publish(home)
    rows = reader.query(home, "from quality").to_dicts()
    return {f"{r['variant'] or r['engine']} {r['quantization']} {r['kv_type']}": r for r in rows}


def test_each_setup_is_compared_with_the_unquantised_one_of_its_engine(tmp_path: Path) -> None:
    for name, noise in (("F16", 0.0), ("Q8_0", 0.05), ("Q4_0", 0.3), ("Q2_K", 0.9)):
        told(tmp_path, setup(name), noise)
    told(tmp_path, setup("F16", kv_type="q8_0"), 0.02)
    told(tmp_path, setup("BF16", "vllm", None), 0.01)
    got = quality(tmp_path)
    kl = [got[f"llama-server {q} f16"]["kl_nats"] for q in ("F16", "Q8_0", "Q4_0", "Q2_K")]
    assert kl[0] == 0 and kl == sorted(kl) and len(set(kl)) == 4  # type: ignore[type-var]
    assert got["llama-server F16 q8_0"]["reference"] == "llama-server 1.0 F16"
    row = got["llama-server Q2_K f16"]
    assert row["same_engine"] and not row["is_reference"] and row["synthetic"]
    assert row["kl_nats_low"] < row["kl_nats"] < row["kl_nats_high"]  # type: ignore[operator]
    assert (row["positions"], row["next_positions"], row["mass_seen"]) == (POSITIONS, POSITIONS - 1, pytest.approx(1))
    assert got["vllm BF16 f16"]["is_reference"] and got["vllm BF16 f16"]["kl_nats"] == 0


def test_without_one_on_its_own_engine_any_engines_does_and_it_says_so(tmp_path: Path) -> None:
    told(tmp_path, setup("Q8_0", "vllm", None), 0.1)
    assert quality(tmp_path) == {}
    told(tmp_path, setup("F16"), 0.0)
    row = quality(tmp_path)["vllm Q8_0 f16"]
    assert row["reference"] == "llama-server 1.0 F16" and not row["same_engine"]
    told(tmp_path, setup("BF16", "vllm", None), 0.0)
    row = quality(tmp_path)["vllm Q8_0 f16"]
    assert row["reference"] == "vllm 1.0 BF16" and row["same_engine"], "a better reference came and took its place"


def test_of_several_references_the_most_alike_then_the_most_precise_counts(tmp_path: Path) -> None:
    told(tmp_path, setup("Q4_0", version="2"), 0.3, version="2.0")
    told(tmp_path, setup("F32", version="1"), 0.0, version="1.0")
    told(tmp_path, setup("BF16", version="2"), 0.01, version="2.0")
    told(tmp_path, setup("F16", version="2"), 0.0, version="2.0")
    assert quality(tmp_path)["llama-server Q4_0 f16"]["reference"] == "llama-server 2.0 F16"


def test_other_prefixes_are_not_compared(tmp_path: Path) -> None:
    told(tmp_path, setup("F16"), 0.0, text_id="one")
    told(tmp_path, setup("Q8_0"), 0.1, text_id="two")
    assert set(quality(tmp_path)) == {"llama-server F16 f16"}


def test_setups_that_only_batch_otherwise_share_it(tmp_path: Path) -> None:
    told(tmp_path, setup("F16"), 0.0)
    asked = told(tmp_path, setup("Q8_0"), 0.1)
    for slots in (1, 8):
        fake.store(tmp_path, fake.trial(fake.setup(quantization="Q8_0", slots=slots)))
    assert fake.setup(quantization="Q8_0", slots=8).numerics_id == asked.numerics_id
    assert setup("Q8_0", batching=Batching(tensor_parallel=2)).numerics_id != asked.numerics_id
    writer.ingest(tmp_path)
    writer.publish(tmp_path)
    rows = reader.query(tmp_path, "select kl_nats, top1_agreement, is_quality_reference from measurements").to_dicts()
    assert len(rows) == 2 and rows[0] == rows[1] and rows[0]["kl_nats"] > 0 and not rows[0]["is_quality_reference"]
    setups = reader.query(tmp_path, "select setup_id from quality where quantization = 'Q8_0'")
    assert setups["setup_id"].n_unique() == 2


def test_asked_again_it_replaces_what_was_told_and_a_rebuild_says_the_same(tmp_path: Path) -> None:
    told(tmp_path, setup("F16"), 0.0)
    told(tmp_path, setup("Q8_0"), 0.1)
    before = quality(tmp_path)
    assert writer.ingest(tmp_path).asked == 0
    told(tmp_path, setup("Q8_0"), 1.0, at="2026-11-21T10:00:00+00:00")
    after = quality(tmp_path)
    name = "llama-server Q8_0 f16"
    assert after[name]["kl_nats"] > 5 * before[name]["kl_nats"]  # type: ignore[operator]
    writer.rebuild(tmp_path)
    assert quality(tmp_path) == after
    rows = reader.query(tmp_path, "select count(*) as n, any_value(len(logprobs)) as tokens from distributions")
    assert rows.row(0) == (2 * POSITIONS, TOKENS)


def test_what_is_spoilt_on_disk_is_left_out_with_the_reason(tmp_path: Path) -> None:
    told(tmp_path, setup("F16"), 0.0)
    asked = told(tmp_path, setup("Q8_0"), 0.1)
    path = distributions.folder(tmp_path) / asked.numerics_id
    _, frame = distributions.read(path)
    frame.filter(pl.col("position") > 0).write_parquet(path / distributions.FRAME)
    ((where, reason),) = writer.ingest(tmp_path).failed
    assert where == path and "5 positions" in reason
    (path / distributions.FRAME).unlink()
    assert "is missing" in writer.ingest(tmp_path).failed[0][1]
    (path / distributions.ASKED).write_text("{}")
    assert "quality.json" in writer.ingest(tmp_path).failed[0][1]
    assert not distributions.known(tmp_path, asked.numerics_id, "quality-1")


def test_parts_that_do_not_fit_are_not_written(tmp_path: Path) -> None:
    asked = told(tmp_path, setup("F16"), 0.0)
    _, frame = distributions.read(distributions.folder(tmp_path) / asked.numerics_id)
    with pytest.raises(BundleError, match="do not agree"):
        distributions.write(tmp_path, asked.model_copy(update={"numerics_id": "0" * 16}), frame)
    with pytest.raises(BundleError, match="columns are"):
        distributions.write(tmp_path, asked, frame.drop("token"))
    assert distributions.known(tmp_path, asked.numerics_id, "quality-1")
    assert not distributions.known(tmp_path, asked.numerics_id, "quality-2")


def test_setups_stored_before_quality_was_asked_for_get_theirs(tmp_path: Path) -> None:
    fake.store(tmp_path, fake.trial(fake.setup(quantization="Q8_0")))
    writer.ingest(tmp_path)
    with writer._opened(tmp_path, 10) as con:
        con.execute("update setups set numerics_id = null")
    told(tmp_path, setup("F16"), 0.0)
    told(tmp_path, setup("Q8_0"), 0.1)
    assert quality(tmp_path)["llama-server Q8_0 f16"]["setup_id"] == fake.setup(quantization="Q8_0").setup_id
