-- Every figure of a trial in one row, so that `measurements` need not turn `metrics` about on every question. Written
-- with the trial by _project.store_bundle; this fills it for the trials that are there.
create table _measured as
with pivoted as (
    from metrics pivot (max(value) for metric in (
        'requests_per_second', 'output_tokens_per_second', 'input_tokens_per_second', 'input_tokens',
        'output_tokens', 'cached_tokens', 'input_tokens_mean', 'output_tokens_mean', 'input_tokens_planned_mean',
        'output_tokens_planned_mean', 'chunks_per_output_token', 'output_valid_share',
        'joules_per_output_token', 'joules_per_request', 'power_watts_mean',
        'ttft_ms_mean', 'ttft_ms_p50', 'ttft_ms_p90', 'ttft_ms_p95', 'ttft_ms_p99',
        'ttft_from_schedule_ms_mean', 'ttft_from_schedule_ms_p50', 'ttft_from_schedule_ms_p90',
        'ttft_from_schedule_ms_p95', 'ttft_from_schedule_ms_p99',
        'tpot_ms_mean', 'tpot_ms_p50', 'tpot_ms_p90', 'tpot_ms_p95', 'tpot_ms_p99',
        'itl_ms_mean', 'itl_ms_p50', 'itl_ms_p90', 'itl_ms_p95', 'itl_ms_p99',
        'e2e_ms_mean', 'e2e_ms_p50', 'e2e_ms_p90', 'e2e_ms_p95', 'e2e_ms_p99',
        'e2e_from_schedule_ms_mean', 'e2e_from_schedule_ms_p50', 'e2e_from_schedule_ms_p90',
        'e2e_from_schedule_ms_p95', 'e2e_from_schedule_ms_p99',
        'first_content_ms_mean', 'first_content_ms_p50', 'first_content_ms_p90', 'first_content_ms_p95',
        'first_content_ms_p99',
        'send_delay_ms_mean', 'send_delay_ms_p50', 'send_delay_ms_p90', 'send_delay_ms_p95', 'send_delay_ms_p99'
    ) group by trial_id)
),
judged as (
    select trial_id, bool_or(severity = 'fatal') as fatal, string_agg(name, ', ' order by position) as verdicts,
           string_agg(name, ', ' order by severity <> 'fatal', position) filter (severity <> 'note') as trust
    from verdicts group by trial_id
)
select t.trial_id, p.* exclude (trial_id), coalesce(j.trust, 'ok') as trust, coalesce(j.fatal, false) as fatal,
       coalesce(j.verdicts, '') as verdicts
from trials t left join pivoted p using (trial_id) left join judged j using (trial_id);
alter table _measured add primary key (trial_id);

comment on table _measured is 'The figures and verdicts of `measurements`, a row a trial; `metrics` and `verdicts` have the same in long form.';
