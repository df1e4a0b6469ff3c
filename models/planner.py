"""From measured points to an answer: the cheapest that keeps the limits, and why the others do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from models.slo import Limit, misses
from models.specs import Record

COST = "usd_per_million_output_tokens"


class Answer(Record):
    """The cheapest measured point within the limits; `trial_ids` are the evidence it rests on (the point itself, then
    its runner-up). `best` is None when nothing measured keeps them; then `nearest` is the trusted point that exceeds
    them by the smallest factor, if any, and `nearest_limits` those that it keeps."""

    best: str | None
    runner_up: str | None = None
    trial_ids: tuple[str, ...] = ()
    within_limits: int = 0
    left_out: dict[str, str] = Field(default_factory=dict)
    nearest: str | None = None
    nearest_limits: tuple[Limit, ...] = ()

    @property
    def nearest_keeps(self) -> str:
        """`keeps ttft_ms_p95 ≤ 621 and … (trial …)`, of the nearest point."""
        return f"keeps {' and '.join(map(str, self.nearest_limits))} (trial {self.nearest})"


def cheapest(rows: Sequence[Mapping[str, object]], limits: tuple[Limit, ...]) -> Answer:
    """Chooses among rows of the `measurements` view (of one workload).

    A point with a fatal verdict, without a price or above a limit is left out, with the reason.
    The runner-up is the cheapest point of another setup.
    """
    left_out: dict[str, str] = {}
    fit: list[Mapping[str, object]] = []
    for row in rows:
        reason = _reason(row, limits)
        if reason:
            left_out[str(row["trial_id"])] = reason
        else:
            fit.append(row)
    fit.sort(key=lambda r: float(str(r[COST])))
    if not fit:
        return _none(rows, limits, left_out)
    best = fit[0]
    other = next((r for r in fit if r["setup_id"] != best["setup_id"]), None)
    ids = tuple(str(r["trial_id"]) for r in (best, other) if r is not None)
    return Answer(best=ids[0], runner_up=ids[1] if other else None, trial_ids=ids, within_limits=len(fit),
                  left_out=left_out)


def _none(rows: Sequence[Mapping[str, object]], limits: tuple[Limit, ...], left_out: dict[str, str]) -> Answer:
    needed = (COST, *(x.column for x in limits))
    factors = {str(row["trial_id"]): [float(str(row[x.column])) / x.at_most for x in limits] for row in rows
               if not row.get("fatal") and all(row.get(name) is not None for name in needed)}
    if not factors:
        return Answer(best=None, left_out=left_out)
    nearest = min(factors, key=lambda trial: max(factors[trial], default=0.0))
    kept = tuple(x.raised(x.at_most * factor) for x, factor in zip(limits, factors[nearest], strict=True))
    return Answer(best=None, left_out=left_out, nearest=nearest, nearest_limits=kept)


def _reason(row: Mapping[str, object], limits: tuple[Limit, ...]) -> str:
    if row.get("fatal"):
        return f"not to be trusted: {row.get('trust')}"
    if row.get(COST) is None:
        return "no price for this hardware" if row.get("output_tokens_per_second") else "no throughput"
    missed = misses(row, limits)
    return f"misses {', '.join(missed)}" if missed else ""
