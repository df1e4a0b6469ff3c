"""What setups told of next tokens, as rows of the database, and each compared with its reference."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import astuple
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from models.errors import BundleError
from models.quality import UNQUANTIZED, Divergence, Told, divergence, is_reference
from models.records import Asked
from models.specs import Setup
from warehouse import distributions
from warehouse._project import upsert, utc

Row = dict[str, Any]
_SPREAD = ("", "_low", "_high")


def ingest(con: duckdb.DuckDBPyConnection, home: Path) -> tuple[int, list[tuple[Path, str]]]:
    """Stores what the database does not hold yet, and compares again what that may change. Returns how many were new,
    and what was left out with the reason. Runs in a transaction of its own a setup."""
    _name_numerics(con)
    stored = dict(con.execute("select numerics_id, sha256 from asked").fetchall())
    failed, fresh = list[tuple[Path, str]](), list[Asked]()
    for path in distributions.paths(home):
        try:
            sha256 = hashlib.sha256((path / distributions.ASKED).read_bytes()).hexdigest()
            if stored.get(path.name) == sha256:
                continue
            asked, frame = distributions.read(path)
            con.begin()
            try:
                _store(con, asked, frame, sha256)
                con.commit()
            except BaseException:
                con.rollback()
                raise
            fresh.append(asked)
        except (BundleError, OSError, duckdb.DataError, duckdb.ConstraintException) as error:
            failed.append((path, str(error).splitlines()[0]))
    for model, text_id in sorted({(asked.setup.model.name, asked.text_id) for asked in fresh}):
        _compare(con, model, text_id, {asked.numerics_id for asked in fresh})
    return len(fresh), failed


def ingest_scores(con: duckdb.DuckDBPyConnection, home: Path) -> list[tuple[Path, str]]:
    """Stores scores of tasks that the database does not hold yet. Returns what was left out with the reason."""
    failed = []
    stored = {row[0] for row in con.execute("select distinct run from scores").fetchall()}
    for path in (p for p in distributions.score_paths(home) if p.name not in stored):
        try:
            scored = distributions.read_scores(path)
        except BundleError as error:
            failed.append((path, str(error)))
            continue
        engine = scored.setup.engine
        for score in scored.scores:
            upsert(con, "scores", {
                **score.model_dump(), "run": path.name, "numerics_id": scored.numerics_id, "engine": engine.engine,
                "model": scored.setup.model.name, "variant": scored.variant, "engine_version": scored.engine_version,
                "quantization": engine.quantization, "kv_type": engine.kv_type,
                "samples_max": scored.limit, "tool_version": scored.tool_version, "scored_at": utc(scored.scored_at)})
    return failed


def _name_numerics(con: duckdb.DuckDBPyConnection) -> None:
    """Of setups stored before dyno asked for distributions."""
    rows = con.execute("""select setup_id, any_value(json_extract(measurement, '$.trial.setup')) from setups
                          join trials using (setup_id) where numerics_id is null group by setup_id""").fetchall()
    for setup_id, text in rows:
        con.execute("update setups set numerics_id = ? where setup_id = ?",
                    [Setup.model_validate_json(text).numerics_id, setup_id])


def _store(con: duckdb.DuckDBPyConnection, asked: Asked, frame: pl.DataFrame, sha256: str) -> None:
    engine = asked.setup.engine
    for table in ("distributions", "divergences"):
        con.execute(f"delete from {table} where numerics_id = ?", [asked.numerics_id])  # noqa: S608
    upsert(con, "asked", {
        **asked.model_dump(include={"numerics_id", "engine_version", "text", "text_id", "positions", "top", "seconds",
                                    "dyno_version"}),
        "model": asked.setup.model.name, "synthetic": asked.setup.model.source == "synthetic", "engine": engine.engine,
        "variant": asked.variant, "quantization": engine.quantization, "kv_type": engine.kv_type,
        "hardware": asked.setup.hardware.name, "asked_by": asked.by, "asked_at": utc(asked.asked_at), "sha256": sha256,
        "record": asked.model_dump_json()})
    lists = (pl.col(name).alias(f"{name}s") for name in ("token_id", "token", "logprob"))
    rows = frame.sort("position", "rank").group_by("position", maintain_order=True).agg(*lists)
    known = pl.DataFrame({"position": range(asked.positions), "next_token": asked.next_tokens},
                         schema={"position": pl.Int32, "next_token": pl.Int32})
    rows = rows.join(known, on="position").with_columns(numerics_id=pl.lit(asked.numerics_id))
    con.register("_rows", rows.to_arrow())
    con.execute("insert into distributions by name from _rows")
    con.unregister("_rows")


def _compare(con: duckdb.DuckDBPyConnection, model: str, text_id: str, fresh: set[str]) -> None:
    """All setups of a model that were asked about the same prefixes, where they or their references are fresh."""
    found = con.execute("select record from asked where model = ? and text_id = ? order by asked_at, numerics_id",
                        [model, text_id]).fetchall()
    everyone = [Asked.model_validate_json(row[0]) for row in found]
    told = functools.cache(functools.partial(_told, con))
    for one in everyone:
        reference = _reference(one, everyone)
        if reference is None or not {one.numerics_id, reference.numerics_id} & fresh:
            continue
        between = divergence(told(reference.numerics_id), told(one.numerics_id))
        if between:
            same = _engine(reference) == _engine(one)
            upsert(con, "divergences", {"numerics_id": one.numerics_id, "reference_id": reference.numerics_id,
                                        "same_engine": same} | _figures(between))


def _reference(one: Asked, everyone: list[Asked]) -> Asked | None:
    """The unquantised setup that is most like one: of its engine and server before others, then of its version, its
    machine and its other settings, then the most precise one."""
    def unlike(other: Asked) -> tuple[bool, bool, bool, bool, int]:
        mine, theirs = one.setup.engine, other.setup.engine
        return (_engine(one) != _engine(other), one.engine_version != other.engine_version,
                one.setup.hardware != other.setup.hardware,
                (mine.batching.tensor_parallel, mine.extra_args, mine.environment)
                != (theirs.batching.tensor_parallel, theirs.extra_args, theirs.environment),
                UNQUANTIZED.index(theirs.quantization))

    whole = [a for a in everyone if is_reference(a.setup.engine.quantization, a.setup.engine.kv_type)]
    return min(whole, key=unlike, default=None)


def _engine(asked: Asked) -> tuple[str, str | None]:
    return asked.setup.engine.engine, asked.variant


def _told(con: duckdb.DuckDBPyConnection, numerics_id: str) -> dict[int, Told]:
    rows = con.execute("select position, next_token, token_ids, tokens, logprobs from distributions where "
                       "numerics_id = ?", [numerics_id]).fetchall()
    return {at: Told({text if token is None else token: value for token, text, value
                      in zip(ids, texts, logprobs, strict=True)}, following)
            for at, following, ids, texts, logprobs in rows}


def _figures(between: Divergence) -> Row:
    """Columns by the fields' names; an estimate is three."""
    row: Row = {}
    for name, value in zip(Divergence.__dataclass_fields__, astuple(between), strict=True):
        if name in ("kl_nats", "top1_agreement", "next_logprob_difference"):
            row |= {f"{name}{end}": value and value[i] for i, end in enumerate(_SPREAD)}
        else:
            row[name] = value
    return row
