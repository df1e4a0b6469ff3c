-- What a trial measured again had measured before, and whether anything changed since.
create table earlier (
    trial_id varchar not null, started_at timestamp not null, engine_version varchar not null, fatal boolean not null,
    trust varchar not null, request_index integer[] not null, ttft_from_schedule_ms double[] not null,
    tpot_ms double[] not null, e2e_from_schedule_ms double[] not null, measurement json not null,
    primary key (trial_id, started_at)
);
create table comparisons (
    run varchar not null, position integer not null, compared_at timestamp not null, kind varchar not null,
    verdict varchar not null, model varchar not null, engine varchar not null, hardware varchar not null,
    before varchar not null, after varchar not null, setup varchar, workload varchar, load varchar,
    figure varchar not null, percent double not null, low double not null, high double not null, chance double not null,
    noise_percent double not null, before_ms double, after_ms double, points integer not null,
    trials_before varchar[] not null, trials_after varchar[] not null, caveats varchar[] not null, text varchar not null,
    dyno_version varchar,
    primary key (run, position)
);

comment on table earlier is 'Earlier measurements of trials that were measured again: what `trials` held before. A list of times has one of each request answered.';
comment on column earlier.started_at is 'UTC; of the earlier measurement';
comment on column earlier.request_index is 'numbers of the requests that the lists of times are of';
comment on column earlier.ttft_from_schedule_ms is 'of each of these requests, ms';
comment on column earlier.tpot_ms is 'of each of these requests, ms; NULL: one token';
comment on column earlier.e2e_from_schedule_ms is 'of each of these requests, ms';
comment on column earlier.measurement is 'measurement.json of the bundle that was replaced, whole';
comment on table comparisons is 'What each evaluation compared with the last: an engine''s new version, other weights, a rerun. Mean times, paired request by request.';
comment on column comparisons.verdict is 'slower or faster: beyond noise, and by enough; unchanged: a change that matters is ruled out; unclear';
comment on column comparisons.noise_percent is 'standard deviation from one run to the next';
