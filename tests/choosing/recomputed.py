"""The answer again, from the table `requests` alone, in plain SQL and counting: no code of models.choosing."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from warehouse import reader

HOURS = 730

FIGURES = """
    with windows as (
        select trial_id, min(sent_ns) as start_ns, max(done_ns) as end_ns from requests where phase = 'measured'
        group by trial_id),
    rates as (
        select r.trial_id, count(*) * 1e9 / any_value(w.end_ns - w.start_ns) as rps
        from requests r join windows w using (trial_id)
        where r.outcome = 'ok' and r.done_ns > w.start_ns and r.done_ns <= w.end_ns group by r.trial_id)
    select r.trial_id, any_value(s.rps) as rps, avg(output_tokens) as tokens,
           quantile_cont((first_token_ns - planned_ns) / 1e6, 0.95) as ttft,
           quantile_cont(case when output_tokens >= 2 then (last_token_ns - first_token_ns) / 1e6 / (output_tokens - 1)
                         end, 0.95) as tpot
    from requests r join rates s using (trial_id) where phase = 'measured' and outcome = 'ok' group by r.trial_id"""
WHO = """
    select t.trial_id, t.setup_id, t.concurrency, s.quantization, s.engine, e.variant, h.name as hardware,
           exists(from verdicts v where v.trial_id = t.trial_id and v.severity = 'fatal') as fatal
    from trials t join setups s using (setup_id) join engines e using (engine_id) join hardware h using (hardware_id)
    order by t.concurrency"""


class Best(NamedTuple):
    """The cheapest by counting."""

    setup_id: str
    trial_id: str
    users: int
    rps: float
    instances: int
    usd_per_month: float
    usd_per_million: float
    ttft: float
    tpot: float


def figures(home: Path) -> dict[str, list[dict[str, Any]]]:
    """Trials by setup, ascending in users, with what their requests say."""
    seen = {r["trial_id"]: r for r in reader.query(home, FIGURES).to_dicts()}
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in reader.query(home, WHO).to_dicts():
        if not row["fatal"]:
            found[row["setup_id"]].append(row | seen[row["trial_id"]])
    return found


def cheapest(home: Path, prices: Mapping[str, float], ttft: float, tpot: float, rate: float | None = None,
             users: float | None = None, down: int = 0, headroom: float = 0.0,
             only: Callable[[dict[str, Any]], bool] = lambda row: True) -> list[Best]:
    """Every setup that keeps the limits, the cheapest first: a month (no load asked: a token) decides."""
    found = []
    for setup_id, rows in figures(home).items():
        kept: list[dict[str, Any]] = []
        for row in rows:
            if row["ttft"] > ttft or row["tpot"] > tpot:
                break
            kept.append(row)
        if not kept or not only(kept[0]) or kept[0]["hardware"] not in prices:
            continue
        usd = prices[kept[0]["hardware"]]
        best = kept[-1] if users else max(kept, key=lambda r: r["rps"])
        more = 1 + headroom
        count = math.ceil(users * more / best["concurrency"] if users else (rate or 0) * more / best["rps"])
        count = max(1, count) + down
        million = usd / (best["rps"] * best["tokens"] * 3600) * 1e6
        found.append(Best(setup_id, best["trial_id"], best["concurrency"], best["rps"], count, count * usd * HOURS,
                          million, best["ttft"], best["tpot"]))
    return sorted(found, key=lambda b: (b.usd_per_month if rate or users else 0.0, b.usd_per_million))
