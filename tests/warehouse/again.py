"""One evaluation made up again and again: the same requests every time, longer by a factor, each a little off."""

from __future__ import annotations

import random
from pathlib import Path

import polars as pl

from models.specs import Trial
from tests.warehouse import fake
from warehouse import bundles

_LENGTHS = {"planned_ns", "sent_ns"}


def trials(version: str) -> list[Trial]:
    """One setup at two loads, 80 requests each."""
    of = fake.setup()
    of = of.model_copy(update={"engine": of.engine.model_copy(update={"version": version})})
    return [fake.trial(of, users, 80) for users in (1, 4)]


def evaluated(home: Path, day: int, factor: float = 1.0, version: str = "0.3.36", common: float = 0.0,
              scatter: float = 0.05) -> list[str]:
    """Writes the bundles of an evaluation on that day; its requests take `factor` times as long, give or take
    `scatter` each and `common` all together. Returns the trial_ids."""
    rng = random.Random(f"{day} {version}")
    factor *= rng.lognormvariate(0, common) if common else 1.0
    for same, what in zip(trials("0.3.36"), trials(version), strict=True):
        requests = _stretched(fake.requests_of(same), factor, scatter, rng)
        told = fake.measurement_of(what, requests, fake.telemetry_of(requests), f"2026-11-{day:02}T10:00:00+00:00")
        told = told.model_copy(update={"run": told.run.model_copy(update={"engine_version": version, "ready_s": day})})
        bundles.write(home, told, requests, fake.telemetry_of(requests), "ready\n", replace=True)
    return [what.trial_id for what in trials(version)]


def _stretched(requests: pl.DataFrame, factor: float, scatter: float, rng: random.Random) -> pl.DataFrame:
    """Each request takes longer from when it was sent; the instants that it was sent at stay."""
    each = pl.Series([factor * rng.lognormvariate(0, scatter) for _ in range(requests.height)])
    sent = pl.col("sent_ns")
    later = [c for c in requests.columns if c.endswith("_ns") and c not in _LENGTHS | {"chunk_ns"}]
    return requests.with_columns(
        *((sent + (pl.col(c) - sent) * each).round().cast(requests.schema[c]).alias(c) for c in later),
        chunk_ns=pl.Series([[round(at * f) for at in chunks] for chunks, f in
                            zip(requests["chunk_ns"], each, strict=True)], dtype=requests.schema["chunk_ns"]))
