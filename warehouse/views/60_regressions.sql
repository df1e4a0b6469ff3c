-- Each comparison once, as it was made last.
create or replace view changes as
select compared_at, verdict, model, engine, hardware, kind, before, after, setup, workload, load, figure, percent, low, high,
       chance, noise_percent, points, before_ms, after_ms, caveats, text, trials_before, trials_after, run
from comparisons
qualify row_number() over (partition by kind, model, engine, hardware, before, after, setup, workload, load, figure
                           order by compared_at desc, run desc) = 1
order by compared_at desc, run, position;

comment on view changes is 'What evaluations compared with the last of its kind, each comparison once, newest first. verdict says whether anything changed.';
comment on column changes.verdict is 'slower or faster: beyond noise, and by enough; unchanged: a change that matters is ruled out; unclear';
comment on column changes.noise_percent is 'standard deviation from one run to the next';

-- What got slower, newest first.
create or replace view regressions as
select * exclude (verdict, noise_percent) from changes where verdict = 'slower'
order by compared_at desc, setup is not null, percent desc;

comment on view regressions is 'What got slower beyond noise and by enough: an engine''s new version, other weights, or a rerun of what did not change.';

-- Every measurement of every trial, also those that a later one of the same trial replaced.
create or replace view history as
select trial_id, started_at, engine_version, true as newest, fatal, trust, output_tokens_per_second,
       ttft_from_schedule_ms_p95, tpot_ms_p95
from measurements
union all
select trial_id, started_at, engine_version, false, fatal, trust,
       (measurement->>'$.summary.metrics.output_tokens_per_second')::double,
       (measurement->>'$.summary.metrics.ttft_from_schedule_ms_p95')::double,
       (measurement->>'$.summary.metrics.tpot_ms_p95')::double
from earlier;

comment on view history is 'Every measurement of every trial, also those that a later one of the same trial replaced.';
comment on column history.newest is 'false: the trial was measured again since';
comment on column history.started_at is 'UTC';
comment on column history.output_tokens_per_second is 'over the window, every token that arrived in it';
