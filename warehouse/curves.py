"""Curves over concurrency as they were measured: what is calibrated on."""

from __future__ import annotations

from pathlib import Path

from models.planning.calibration import CurveKey, Seen
from models.planning.points import Slots, point
from warehouse import reader


def curves(home: Path) -> dict[CurveKey, tuple[list[Seen], Slots]]:
    """What the published warehouse has measured in closed loops: points of each setup under each workload, by time, and
    what its engine serves at once. Points with a fatal verdict are left out.

    Raises UserError when nothing is published.
    """
    found: dict[CurveKey, tuple[list[Seen], Slots]] = {}
    for row in reader.query(home, _POINTS).iter_rows(named=True):
        key = CurveKey(setup_id=row["setup_id"], setup=row["setup"], workload=row["workload"])
        seen = Seen(trial_id=row["trial_id"], started_at=row["started_at"].isoformat(), point=point(
            row["concurrency"], row["ttft_ms_mean"], row["tpot_ms_mean"], row["output_tokens_mean"],
            row["output_tokens_per_second"]))
        found.setdefault(key, ([], Slots.of(row)))[0].append(seen)
    return found


_POINTS = """
    select setup_id, setup, workload, trial_id, started_at, concurrency, ttft_ms_mean, tpot_ms_mean, output_tokens_mean,
           output_tokens_per_second, max_sequences, slots_apart
    from measurements
    where concurrency is not null and not fatal and ttft_ms_mean > 0 and tpot_ms_mean > 0 and output_tokens_mean > 0
      and output_tokens_per_second > 0
    order by started_at, trial_id"""
