-- The 95 % intervals that answers rest on, out of the long text of each measurement: low and high of the names below, in
-- their order (_schema.INTERVALS), NULL where none is known.
create or replace table _measured as
select f.*, flatten(list_transform(json_extract(t.measurement, [
        '$.summary.intervals.requests_per_second', '$.summary.intervals.output_tokens_per_second',
        '$.summary.intervals.ttft_from_schedule_ms_mean', '$.summary.intervals.ttft_from_schedule_ms_p50',
        '$.summary.intervals.ttft_from_schedule_ms_p95', '$.summary.intervals.ttft_from_schedule_ms_p99',
        '$.summary.intervals.tpot_ms_mean', '$.summary.intervals.tpot_ms_p50', '$.summary.intervals.tpot_ms_p95',
        '$.summary.intervals.tpot_ms_p99', '$.summary.intervals.itl_ms_mean', '$.summary.intervals.itl_ms_p50',
        '$.summary.intervals.itl_ms_p95', '$.summary.intervals.itl_ms_p99',
        '$.summary.intervals.e2e_from_schedule_ms_mean', '$.summary.intervals.e2e_from_schedule_ms_p50',
        '$.summary.intervals.e2e_from_schedule_ms_p95', '$.summary.intervals.e2e_from_schedule_ms_p99'
    ]), lambda pair: coalesce(pair::double[], [null, null]))) as intervals
from _measured f join trials t using (trial_id);
alter table _measured add primary key (trial_id);

comment on table _measured is 'The figures, verdicts and some intervals of each trial in one row; `metrics` and `verdicts` have the first two in long form.';
