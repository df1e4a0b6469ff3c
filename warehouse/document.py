"""`python -m warehouse.document` prints docs/warehouse.md: the schema, from the comments that the database itself
holds, and worked questions. A test holds the file to this."""

from __future__ import annotations

import sys

import duckdb
import polars as pl

from warehouse import _schema, reader

_HEAD = """# The warehouse

What dyno measured, as SQL. This page is made by `python -m warehouse.document > docs/warehouse.md` from the comments in
the database; `dyno sql "describe measurements"` and the explorer's SQL page show the same.

Ask with `dyno sql "…"` (add `--json`), on the explorer's SQL page, or open the published file with DuckDB itself:
`published/dyno.duckdb` in DYNO_HOME, read-only. SQL is DuckDB's: `from measurements` is a whole query. A person's SQL
only asks questions: it cannot write, and reaches neither files nor networks.

Units are in the names, statistic last: `ttft_ms_p99`, `price_usd_per_hour`. Columns that end in `_ns` are nanoseconds
since the trial's start. Limits are on latencies from the instant a request was meant to be sent
(`ttft_from_schedule_ms`, `e2e_from_schedule_ms`), which show what queued in the client too. A point whose `fatal` is
true is not to be used; `trust` says why.
"""

QUESTIONS: tuple[tuple[str, str], ...] = (
    ("What is cheapest within limits?", """
from measurements
select setup, hardware, load, usd_per_million_output_tokens, ttft_from_schedule_ms_p95, tpot_ms_p95, trial_id
where not fatal and ttft_from_schedule_ms_p95 <= 500 and tpot_ms_p95 <= 50
order by usd_per_million_output_tokens limit 5"""),
    ("How does each setup behave as load grows?", """
from measurements
select setup, workload, concurrency, median(output_tokens_per_second) as tokens_per_second,
       median(ttft_from_schedule_ms_p95) as ttft_ms_p95, count(*) as repeats
where concurrency is not null and not fatal
group by all order by setup, workload, concurrency"""),
    ("How much faster is one quantisation than another, all else the same?", """
select a.setup, b.setup as other, a.workload, a.load,
       a.output_tokens_per_second / b.output_tokens_per_second as times_as_fast
from measurements a join measurements b using (model, hardware, engine, workload, load, max_sequences, kv_type)
where a.quantization < b.quantization and not a.fatal and not b.fatal
order by times_as_fast desc"""),
    ("Which percentile do I need that is not stored?", """
select trial_id, quantile_cont(ttft_from_schedule_ms, [0.5, 0.75, 0.999]) as ttft_ms_p50_p75_p999
from latencies where phase = 'measured' and outcome = 'ok'
group by trial_id"""),
    ("Which share of the requests kept both limits (goodput)?", """
select setup, load, avg((outcome = 'ok' and l.ttft_from_schedule_ms <= 500
                         and coalesce(l.tpot_ms, 0) <= 50)::int) as share_within, requests_per_second
from latencies l join measurements using (trial_id)
where phase = 'measured'
group by all order by share_within desc"""),
    ("Which points are not to be trusted, and why?", """
select m.setup, m.workload, m.load, v.severity, v.name, v.detail
from verdicts v join measurements m using (trial_id)
where v.severity <> 'note'
order by v.severity, v.name"""),
    ("What do requests fail of?", """
select m.setup, m.load, r.outcome, r.http_status, any_value(r.error) as example, count(*) as requests
from requests r join measurements m using (trial_id)
where r.outcome <> 'ok'
group by all order by requests desc"""),
    ("Do gaps between tokens grow while others are prefilled? The longest gaps and when they were", """
select c.trial_id, c.request_index, c.chunk_index, c.at_ms, c.itl_ms,
       count(r.request_index) as others_before_their_first_token
from (from chunks where phase = 'measured' and itl_ms is not null order by itl_ms desc limit 20) c
left join requests r on r.trial_id = c.trial_id and r.request_index <> c.request_index
     and c.at_ms * 1e6 between r.sent_ns and r.first_token_ns
group by all order by itl_ms desc"""),
    ("What does a point cost at every price that is known of its hardware?", """
from costs
select setup, load, tier, date, source, price_usd_per_hour, usd_per_million_output_tokens, applied
where not fatal
order by setup, load, price_usd_per_hour"""),
    ("How much CPU and memory did the engine take?", """
select m.setup, m.load, max(t.value) filter (t.metric = 'rss_bytes') / 1024**2 as memory_mib_max,
       avg(t.value) filter (t.metric = 'cpu_percent') as cpu_percent_mean
from telemetry t join measurements m using (trial_id)
where t.source = 'engine'
group by all order by memory_mib_max desc"""),
    ("What did the calibrated curves not foresee?", """
from surprises
select setup, workload, quantity, concurrency, measured, low, high, trial_id
order by seen_at desc"""),
    ("What got slower with an engine's new version, or when it was measured again?", """
from regressions
select compared_at, kind, engine, before, after, coalesce(setup, 'all points') as setup, figure, percent, low, high,
       text
order by compared_at desc, percent desc"""),
    ("How does speed stand against divergence?", """
select m.setup, median(m.output_tokens_per_second) as tokens_per_second, any_value(q.kl_nats) as kl_nats,
       any_value(q.kl_nats_low) as kl_nats_low, any_value(q.kl_nats_high) as kl_nats_high
from measurements m left join quality q using (setup_id)
where not m.fatal
group by m.setup order by kl_nats nulls last"""),
)
"""Each is run by a test, and ready to be pasted."""


def markdown() -> str:
    """The whole page, of an empty database of this dyno."""
    with duckdb.connect(":memory:") as con:
        _schema.upgrade(con)
        columns = con.execute(reader.SCHEMA).pl()
    names = columns.select("name", "kind", "about").unique(maintain_order=True).rows()
    parts = [_HEAD, "## Tables and views\n", _contents(names), "## Worked questions\n"]
    parts += [f"### {question}\n\n```sql\n{sql.strip()}\n```\n" for question, sql in QUESTIONS]
    parts += ["## Columns\n", *(_relation(columns, *one) for one in names)]
    return "\n".join(parts)


def _contents(names: list[tuple[str, ...]]) -> str:
    lines = ["| | | |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| [{n}](#{n}) | {kind} | {about} |" for n, kind, about in names)]) + "\n"


def _relation(columns: pl.DataFrame, name: str, kind: str, about: str) -> str:
    own = columns.filter(pl.col("name") == name)
    rows = [f"| {column} | {type_.lower()} | {_cell(comment)} |"
            for column, type_, comment in own.select("column", "type", "comment").rows()]
    return "\n".join([f"### {name}\n", f"{about} ({kind})\n", "| column | type | |", "|---|---|---|", *rows]) + "\n"


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.stdout.write(markdown())
