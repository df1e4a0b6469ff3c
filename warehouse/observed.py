"""What is worked out once for each snapshot: what engines were seen to do, and what a question about stacks reads."""

from __future__ import annotations

import duckdb

from warehouse import _schema

EVIDENCE = "0020_evidence"
"""The step that makes what warehouse.evidence reads."""


def refresh(con: duckdb.DuckDBPyConnection) -> None:
    """Makes the rows of `observed` anew, and the tables that questions about stacks read."""
    found = " union all ".join(f"select * from ({sql})" for sql in _SEEN)  # noqa: S608
    con.execute(f"begin; delete from observed; insert into observed by name {found}; "  # noqa: S608
                f"{dict(_schema.steps('migrations'))[EVIDENCE]}; commit")


_ANSWERS = """
    select v.engine, v.variant, '{feature}' as feature, count(*) as trials, avg(v.output_valid_share) as share,
           arg_max(v.trial_id, v.output_valid_share) as trial_id, 'answers that were valid' as about
    from measurements v join workloads w using (workload_id)
    where v.output_valid_share is not null and {field} group by v.engine, v.variant"""
_SEEN = (
    _ANSWERS.format(feature="structured_output", field="json_type(w.spec, '$.json_schema') = 'OBJECT'"),
    _ANSWERS.format(feature="tool_calls", field="json_type(w.spec, '$.tools') = 'ARRAY'"),
    """select engine, variant, 'prefix_caching' as feature, count(*) as trials,
              sum(cached_tokens) / nullif(sum(input_tokens), 0) as share,
              coalesce(arg_max(trial_id, cached_tokens), any_value(trial_id)) as trial_id,
              'input tokens taken from the prefix cache' as about
       from measurements where prefix_caching and input_tokens is not null group by engine, variant""",
    """with gains as (
           select engine, variant, arg_max(trial_id, output_tokens_per_second) as trial_id, count(*) as trials,
                  max(output_tokens_per_second) / arg_min(output_tokens_per_second, concurrency) as gain
           from measurements where concurrency is not null and not fatal and output_tokens_per_second > 0
           group by engine, variant, setup_id, workload_id having max(concurrency) > 1 and min(concurrency) = 1)
       select engine, variant, 'continuous_batching' as feature, sum(trials)::bigint as trials, max(gain) as share,
              arg_max(trial_id, gain) as trial_id, 'times the throughput of one user, at best' as about
       from gains group by engine, variant""",
    """select v.engine, v.variant, 'openai_api' as feature, count(*) as trials,
              sum(v.requests_ok) / nullif(sum(v.requests_ok + v.requests_failed), 0) as share,
              arg_max(v.trial_id, v.requests_ok) as trial_id, 'requests answered whole' as about
       from measurements v join workloads w using (workload_id)
       where w.api in ('completions', 'chat') group by v.engine, v.variant""")
