-- What engines were seen to do over all trials: aggregated once a snapshot, not for every question.
create table observed (
    engine varchar not null, variant varchar, feature varchar not null, trials bigint not null, share double,
    trial_id varchar not null, about varchar not null
);

comment on table observed is 'What each engine''s server was seen to do, over all trials; as of the newest snapshot.';
comment on column observed.feature is 'as in `capabilities`';
comment on column observed.trials is 'that could show it';
comment on column observed.share is 'of what was asked, that was as it should be; of continuous batching: the gain, times';
comment on column observed.trial_id is 'one that shows it';
comment on column observed.about is 'what the share is of';
