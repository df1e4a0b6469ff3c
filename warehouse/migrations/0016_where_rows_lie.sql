-- The instant a trial began, beside each of its rows: rows are stored in about that order, so that those of one trial are
-- found without a look at all others (trial ids are hashes: every stretch of rows has low ones and high ones).
alter table requests add column trial_started_at timestamp;
alter table chunk_timings add column trial_started_at timestamp;
alter table telemetry add column trial_started_at timestamp;
update requests set trial_started_at = t.started_at from trials t where t.trial_id = requests.trial_id;
update chunk_timings set trial_started_at = t.started_at from trials t where t.trial_id = chunk_timings.trial_id;
update telemetry set trial_started_at = t.started_at from trials t where t.trial_id = telemetry.trial_id;

comment on column requests.trial_started_at is 'as in trials: with it, the rows of one trial among many are found at once';
comment on column chunk_timings.trial_started_at is 'as in trials: with it, the rows of one trial among many are found at once';
comment on column telemetry.trial_started_at is 'as in trials: with it, the rows of one trial among many are found at once';
